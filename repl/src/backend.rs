//! The backend that sessions of the program use. The only module that names one.

use engine::backend::{Backend, BackendError};

/// The kernel, through `BPF_PROG_TEST_RUN`.
pub fn open() -> Result<Box<dyn Backend>, BackendError> {
    Err(BackendError::Unsupported {
        what: "the datapath".to_owned(),
        remedy: "build hopwise with its kernel backend".to_owned(),
    })
}
