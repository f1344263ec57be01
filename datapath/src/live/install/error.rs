//! Why an installation cannot be made, opened, changed or removed, and what to do about it.

use engine::backend::BackendError;
use thiserror::Error;

/// Bytes of a name at most.
pub(super) const LONGEST_NAME: usize = 32;

/// Why an installation cannot be made, opened, changed or removed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum InstallError {
    /// A name that is none.
    #[error("`{0}` is no name: 1 to {LONGEST_NAME} letters, digits and single `-` inside")]
    Name(String),
    /// There is one of the name.
    #[error("`{0}` is there already")]
    Exists(String),
    /// There is none of the name.
    #[error("nothing of the name `{name}` is installed")]
    Absent {
        /// The name.
        name: String,
        /// Those that are.
        known: Vec<String>,
    },
    /// None is named, and there is not exactly one.
    #[error("{}", in_words(known))]
    Which {
        /// Those that are.
        known: Vec<String>,
    },
    /// Whoever made or removed it was killed.
    #[error("only parts of `{0}` are there: whoever made or removed it was killed")]
    Unfinished(String),
    /// Whoever changed it was killed.
    #[error("a process was killed while it changed `{0}`")]
    Interrupted(String),
    /// Somebody makes, changes or removes it now.
    #[error("process {process} is at work on `{name}`")]
    Busy {
        /// The name.
        name: String,
        /// The process.
        process: String,
    },
    /// Its events go to somebody already.
    #[error("process {process} reads the events of `{name}`")]
    Read {
        /// The name.
        name: String,
        /// The process.
        process: String,
    },
    /// It was made by a hopwise that this one does not understand.
    #[error("`{0}` was made by another version of hopwise")]
    Version(String),
    /// The kernel refused a step.
    #[error("{step}: {error}")]
    System {
        /// What was tried.
        step: String,
        /// The kernel's answer.
        error: String,
    },
}

/// How many there are where one is meant.
fn in_words(known: &[String]) -> String {
    match known {
        [] => "nothing is installed".to_owned(),
        known => format!("{} are installed: {}", known.len(), known.join(", ")),
    }
}

impl InstallError {
    pub(super) fn system(step: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self::System { step: step.into(), error: error.to_string() }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Name(_) => "choose another one, such as `demo`".to_owned(),
            Self::Exists(name) => {
                format!("take another name, or remove it: `hopwise lab down {name}`, `hopwise detach {name}`")
            }
            Self::Absent { known, .. } if known.is_empty() => {
                "nothing is installed: `hopwise lab up NAME -f FILE` makes a lab".to_owned()
            }
            Self::Absent { known, .. } => format!("there is {}", known.join(", ")),
            Self::Which { known } if known.is_empty() => {
                "`hopwise lab up NAME -f FILE` makes a lab".to_owned()
            }
            Self::Which { .. } => "name one of them".to_owned(),
            Self::Unfinished(name) => format!("remove what is there of it: `hopwise lab down {name}`"),
            Self::Interrupted(name) => format!(
                "`hopwise lab apply {name} -f FILE` goes on from there, `hopwise lab down {name}` removes it"
            ),
            Self::Busy { .. } => "wait until it is done".to_owned(),
            Self::Read { .. } => "events go to one reader: end that one first".to_owned(),
            Self::Version(name) => {
                format!("use that version, or remove it: `hopwise lab down {name}`")
            }
            Self::System { .. } => {
                "installing needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_BPF); `hopwise doctor` says what is there"
                    .to_owned()
            }
        }
    }
}

impl From<BackendError> for InstallError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::System { call, error } => Self::System { step: call, error },
            other => Self::system("the datapath", other),
        }
    }
}
