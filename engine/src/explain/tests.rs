//! Hand-made traces and judgements, and what they are joined into.

mod shop;

mod agreement;
mod changes;
mod endings;
mod events;
mod reasons;
mod services;
mod ways;
mod wire;
mod words;
