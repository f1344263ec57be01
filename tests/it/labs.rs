//! Labs whose pods have networks of their own: real traffic between real sockets, labs with names, and what is left of them.

mod check;
mod heard;
mod http;
pub(crate) mod killed;
pub(crate) mod named;
mod reference;
mod traffic;
pub(crate) mod wire;
