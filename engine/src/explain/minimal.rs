//! The level that tests pin.
