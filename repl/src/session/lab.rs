//! `lab`: worlds of real pods on this machine, those with a name and the one that the session holds. Owns whose files and names are meant;
//! making and changing is `datapath::lab`'s.

use std::path::PathBuf;

use lang::ast::Name;
use lang::command::Lab;

use super::Session;
use crate::reply::Reply;

#[cfg(feature = "lab")]
mod running;
#[cfg(feature = "lab")]
mod words;

#[cfg(feature = "lab")]
pub(super) use running::told;
#[cfg(feature = "lab")]
pub(crate) use running::{Held, Own};

/// Nothing is held by a hopwise that makes no labs.
#[cfg(not(feature = "lab"))]
#[derive(Default)]
pub(crate) struct Held;

/// A text of a person, without its place.
fn plain(name: Option<&Name>) -> Option<&str> {
    name.map(|name| name.node.as_str())
}

impl Session {
    /// The command of a session.
    pub(super) fn lab_words(&mut self, asked: &Lab) -> Reply {
        let paths =
            |files: &[Name]| files.iter().map(|f| PathBuf::from(&f.node)).collect::<Vec<_>>();
        match asked {
            Lab::Up { name, files } => {
                let files = paths(files);
                self.with_files(&files, |session, of| session.lab_up(plain(name.as_ref()), of))
            }
            Lab::Apply { name, files } => {
                let files = paths(files);
                self.with_files(&files, |session, of| session.lab_apply(plain(name.as_ref()), of))
            }
            Lab::Exec { lab, place, command } => {
                let command: Vec<String> = command.iter().map(|word| word.node.clone()).collect();
                self.lab_run(plain(lab.as_ref()), &place.node, &command)
            }
            Lab::List => self.lab_list(),
            Lab::Down { name } => self.lab_down(plain(name.as_ref())),
            Lab::DownAll => self.lab_down_all(),
        }
    }

    /// Does something with what other files say; with what the session has where none are named.
    fn with_files(
        &mut self,
        files: &[PathBuf],
        work: impl FnOnce(&mut Self, Option<&Self>) -> Reply,
    ) -> Reply {
        if files.is_empty() {
            return work(self, None);
        }
        match Self::open(files, crate::backend::open) {
            Ok((other, loaded)) => work(self, Some(&other)).after(loaded),
            Err(reply) => *reply,
        }
    }
}

#[cfg(not(feature = "lab"))]
impl Session {
    pub(crate) fn lab_up(&mut self, _: Option<&str>, _: Option<&Self>) -> Reply {
        without()
    }

    pub(crate) fn lab_up_for_now(&mut self, _: Option<&str>) -> Reply {
        without()
    }

    pub(crate) fn lab_apply(&mut self, _: Option<&str>, _: Option<&Self>) -> Reply {
        without()
    }

    pub(crate) fn lab_run(&mut self, _: Option<&str>, _: &str, _: &[String]) -> Reply {
        without()
    }

    pub(crate) fn lab_become(&mut self, _: Option<&str>, _: &str, _: &[String]) -> Reply {
        without()
    }

    pub(crate) fn lab_list(&self) -> Reply {
        without()
    }

    pub(crate) fn lab_down(&mut self, _: Option<&str>) -> Reply {
        without()
    }

    pub(crate) fn lab_down_all(&mut self) -> Reply {
        without()
    }
}

#[cfg(not(feature = "lab"))]
fn without() -> Reply {
    let message = "labs are not available (this hopwise was built without them)";
    Reply::failure(crate::reply::Status::Environment, message, "build with the feature `lab`")
}
