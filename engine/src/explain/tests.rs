//! Hand-made traces and judgements, and what they are joined into.

mod shop;

mod agreement;
mod endings;
mod reasons;
mod words;
