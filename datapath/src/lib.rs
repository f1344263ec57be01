//! The datapath seen from user space.

#[cfg(any(feature = "live", feature = "measure"))]
mod assembly;
#[cfg(feature = "lab")]
pub mod attach;
#[cfg(feature = "kernel")]
pub mod both;
pub mod check;
pub mod decode;
pub mod encode;
pub mod follow;
pub mod frame;
#[cfg(feature = "lab")]
pub mod lab;
#[cfg(feature = "live")]
pub mod live;
mod nodes;
pub mod object;
#[cfg(feature = "kernel")]
mod rows;
#[cfg(feature = "kernel")]
pub mod support;
#[cfg(feature = "kernel")]
pub mod testrun;
pub mod vm;
