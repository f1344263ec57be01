//! Allow rules that came near.
