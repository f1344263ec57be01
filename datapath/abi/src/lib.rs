//! Layouts shared by user space and the eBPF programs. Layout only, no logic.
#![no_std]
