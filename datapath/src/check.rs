//! What was looked at to know what works here, and how it came out. Words only; looking is `support`'s and the
//! interpreter's.

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// As it should be.
    Pass,
    /// Something beside the main thing is lost, or could not be found out.
    Warn,
    /// Packets cannot be run through the kernel.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub state: State,
    /// What is there.
    pub found: String,
    /// What to do; empty if passed.
    pub remedy: String,
    /// What cannot be done meanwhile; empty if passed.
    pub lost: String,
}

impl Check {
    pub(crate) fn pass(name: &'static str, found: impl Into<String>) -> Self {
        let (remedy, lost) = (String::new(), String::new());
        Self { name, state: State::Pass, found: found.into(), remedy, lost }
    }

    #[cfg(feature = "kernel")]
    pub(crate) fn warn(
        name: &'static str,
        found: impl Into<String>,
        remedy: &str,
        lost: &str,
    ) -> Self {
        let (remedy, lost) = (remedy.to_owned(), lost.to_owned());
        Self { name, state: State::Warn, found: found.into(), remedy, lost }
    }

    pub(crate) fn fail(
        name: &'static str,
        found: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (remedy, lost) = (remedy.into(), KERNEL_BACKEND.to_owned());
        Self { name, state: State::Fail, found: found.into(), remedy, lost }
    }
}

/// The name of the check that says whether the interpreter can answer.
pub const INTERPRETER: &str = "interpreter";

pub(crate) const KERNEL_BACKEND: &str = "running packets through the datapath in the kernel";

/// Whether the interpreter can run the datapath, which needs nothing of the host.
pub fn interpreter() -> Check {
    const NAME: &str = INTERPRETER;
    match crate::vm::open() {
        Ok(_) => Check::pass(NAME, "runs the programs without the kernel"),
        Err(error) => Check {
            lost: "running packets without the kernel".to_owned(),
            ..Check::fail(NAME, error.to_string(), "unset HOPWISE_BPF_OBJECT if it is set")
        },
    }
}
