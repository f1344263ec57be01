//! The datapath that sessions of the program run on. The only module that names one.

use datapath::object::Object;
use datapath::vm;
#[cfg(feature = "kernel")]
use datapath::{both, support, testrun};
use engine::backend::{Backend, BackendError};

/// What runs the datapath's programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The kernel where it is available, else the interpreter.
    #[default]
    Auto,
    /// The kernel, through `BPF_PROG_TEST_RUN`.
    Kernel,
    /// The interpreter.
    Vm,
    /// Both; where they differ there is no answer but the difference.
    Both,
    /// Real packets between real devices, in network namespaces of this process.
    Lab,
}

/// Opens what was chosen. Errors say what the host lacks for it.
pub fn open(choice: Choice) -> Result<Box<dyn Backend>, BackendError> {
    match choice {
        Choice::Auto => match kernel() {
            Err(BackendError::Unsupported { what, .. }) => vm::open_instead("kernel", &what),
            opened => opened,
        },
        Choice::Kernel => kernel().map_err(or_by_vm),
        Choice::Vm => vm::open(),
        Choice::Both => kernel_and_vm().map_err(or_by_vm),
        Choice::Lab => lab(),
    }
}

/// The remedy that always does.
fn or_by_vm(error: BackendError) -> BackendError {
    match error {
        BackendError::Unsupported { what, remedy } => {
            let by_vm = "or let the interpreter answer: `--backend vm`, `set backend vm`";
            BackendError::Unsupported { what, remedy: format!("{remedy}; {by_vm}") }
        }
        other => other,
    }
}

#[cfg(feature = "kernel")]
fn kernel() -> Result<Box<dyn Backend>, BackendError> {
    testrun::open()
}

#[cfg(feature = "kernel")]
fn kernel_and_vm() -> Result<Box<dyn Backend>, BackendError> {
    both::open()
}

#[cfg(feature = "lab")]
#[expect(clippy::unnecessary_wraps, reason = "without the feature it is an error")]
fn lab() -> Result<Box<dyn Backend>, BackendError> {
    Ok(Box::new(datapath::lab::Session::default()))
}

#[cfg(not(feature = "lab"))]
fn lab() -> Result<Box<dyn Backend>, BackendError> {
    Err(BackendError::Unsupported {
        what: "a lab (this hopwise was built without it)".to_owned(),
        remedy: "build with the feature `lab`".to_owned(),
    })
}

#[cfg(not(feature = "kernel"))]
fn kernel() -> Result<Box<dyn Backend>, BackendError> {
    Err(BackendError::Unsupported {
        what: "the kernel's datapath (this hopwise was built without it)".to_owned(),
        remedy: "build with the feature `kernel`".to_owned(),
    })
}

#[cfg(not(feature = "kernel"))]
fn kernel_and_vm() -> Result<Box<dyn Backend>, BackendError> {
    kernel()
}

/// The programs' object file: where it is from, and the beginning of its digest.
pub(crate) fn object() -> Result<String, BackendError> {
    let object = Object::find()?;
    Ok(format!("{}, sha256 {:.16}", object.origin(), object.digest()))
}

/// The version of libbpf.
pub(crate) fn libbpf() -> String {
    #[cfg(feature = "kernel")]
    return support::libbpf_version();
    #[cfg(not(feature = "kernel"))]
    return "not built in".to_owned();
}

/// The oldest kernel that the programs load on.
pub(crate) fn oldest_kernel() -> String {
    #[cfg(feature = "kernel")]
    {
        let (major, minor) = testrun::OLDEST_KERNEL;
        format!("Linux {major}.{minor} or newer")
    }
    #[cfg(not(feature = "kernel"))]
    "not used".to_owned()
}

/// What was looked at to know what works on this host.
pub(crate) fn checks() -> Vec<datapath::check::Check> {
    #[cfg(feature = "kernel")]
    let host = support::checks();
    #[cfg(not(feature = "kernel"))]
    let host: [datapath::check::Check; 0] = [];
    host.into_iter().chain([datapath::check::interpreter()]).collect()
}
