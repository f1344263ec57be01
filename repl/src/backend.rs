//! The datapath that sessions of the program run on. The only module that names one.

use datapath::object::Object;
use datapath::{support, testrun};
use engine::backend::{Backend, BackendError};

/// The kernel, through `BPF_PROG_TEST_RUN`.
pub fn open() -> Result<Box<dyn Backend>, BackendError> {
    testrun::open()
}

/// The programs' object file: where it is from, and the beginning of its digest.
pub(crate) fn object() -> Result<String, BackendError> {
    let object = Object::find()?;
    Ok(format!("{}, sha256 {:.16}", object.origin(), object.digest()))
}

/// The version of libbpf.
pub(crate) fn libbpf() -> String {
    support::libbpf_version()
}

/// The oldest kernel that the programs load on.
pub(crate) fn oldest_kernel() -> String {
    let (major, minor) = testrun::OLDEST_KERNEL;
    format!("Linux {major}.{minor}")
}
