//! Maps as the kernel keeps them.
