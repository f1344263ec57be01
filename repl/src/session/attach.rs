//! `attach`, `status` and `detach`: the datapath's programs on devices that are here already. What is said about it and what is asked
//! for; the work is the modules' below, of which nothing is there in a build without labs.

#[cfg(feature = "lab")]
mod check;
#[cfg(feature = "lab")]
mod install;
#[cfg(feature = "lab")]
mod pin;
#[cfg(feature = "lab")]
mod scene;
#[cfg(feature = "lab")]
mod serve;
#[cfg(feature = "lab")]
mod status;
#[cfg(feature = "lab")]
mod words;

use std::time::Duration;

use super::Session;
use crate::reply::Reply;
#[cfg(not(feature = "lab"))]
use crate::reply::Status;

#[cfg(feature = "lab")]
pub(crate) use serve::{can_serve, serve};
#[cfg(feature = "lab")]
pub(super) use status::{UNHEARD, expire_all, over};
#[cfg(feature = "lab")]
pub(crate) use status::{confirm, detach, detach_all, expire, only, status};

/// What is asked of `attach`.
#[cfg_attr(not(feature = "lab"), expect(dead_code, reason = "nothing can be attached then"))]
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The installation's name; `None`: that of the only one, or the usual one.
    pub(crate) name: Option<String>,
    /// Whether programs act, rather than only observe.
    pub(crate) enforce: bool,
    /// After which time they let everything pass unless that is confirmed before.
    pub(crate) time: Option<Duration>,
}

/// A build without labs knows no devices.
#[cfg(not(feature = "lab"))]
fn unavailable() -> Reply {
    let message = "attaching is not available here (this hopwise was built without it)";
    Reply::failure(Status::Environment, message, "build with the feature `lab`")
}

#[cfg(not(feature = "lab"))]
mod unavailable {
    use super::{Reply, unavailable};

    pub(crate) fn confirm(_: Option<&str>) -> Reply {
        unavailable()
    }

    pub(crate) fn detach(_: Option<&str>) -> Reply {
        unavailable()
    }

    pub(crate) fn detach_all() -> Reply {
        unavailable()
    }

    pub(crate) fn status(_: Option<&str>) -> Reply {
        unavailable()
    }

    pub(crate) fn only() -> Option<String> {
        None
    }

    pub(crate) fn can_serve(_: Option<&str>, _: &str) -> Result<(), Box<Reply>> {
        Err(Box::new(unavailable()))
    }

    pub(crate) fn serve(
        _: Option<&str>,
        _: &str,
        _: &std::sync::atomic::AtomicBool,
        _: impl FnOnce(&str),
    ) -> Result<(), Box<Reply>> {
        Err(Box::new(unavailable()))
    }

    pub(crate) fn expire(_: &str) -> Option<std::time::Duration> {
        None
    }
}

#[cfg(not(feature = "lab"))]
pub(crate) use unavailable::{can_serve, confirm, detach, detach_all, expire, only, serve, status};

impl Session {
    /// Puts the programs on the devices of the session's pods that are here, or tells those that are there already of the session's world
    /// and policies.
    #[cfg(feature = "lab")]
    pub(crate) fn attach(&mut self, wanted: &Wanted) -> Reply {
        install::attach(self, wanted).unwrap_or_else(|reply| *reply)
    }

    /// The same, which cannot be done.
    #[cfg(not(feature = "lab"))]
    #[expect(clippy::unused_self, reason = "with devices it is asked of a session")]
    pub(crate) fn attach(&mut self, _: &Wanted) -> Reply {
        unavailable()
    }

    /// The command of a session.
    pub(super) fn attach_words(&mut self, asked: &lang::command::Attach) -> Reply {
        let name = asked.name.as_ref().map(|name| name.node.clone());
        if asked.confirm {
            return confirm(name.as_deref());
        }
        let time = asked.seconds.map(Duration::from_secs);
        self.attach(&Wanted { name, enforce: asked.enforce, time })
    }
}
