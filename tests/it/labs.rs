//! Labs whose pods have networks of their own: real traffic between real sockets, labs with names, and what is left of them.

mod traffic;
mod wire;
