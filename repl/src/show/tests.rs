//! Listings of a small hand-made world.
