//! How many files the process may have open: every map and program is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the process's own limit as far as it may. Where that is not enough the call that needs one more file
/// fails and says so.
pub(super) fn allow_many() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        let most = Rlimit { current: limit.maximum, ..limit };
        // A refusal changes nothing.
        let _ = setrlimit(Resource::Nofile, most);
    }
}
