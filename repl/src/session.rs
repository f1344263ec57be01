//! A session: files and statements, the world and policies they mean, the tables they compile to, and
//! the backend that answers. [`Session::execute`] is the whole product: the shell, piped scripts, the
//! command line and the tests call it. Never prints and never decides a packet.

use std::path::PathBuf;

use engine::backend::{Backend, BackendError};
use engine::policy::PolicySet;
use engine::source::SourceMap;
use engine::tables::Generation;
use engine::topology::World;

use crate::reply::{Level, Reply};

/// When a question may see the conntrack of earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConntrackMode {
    /// Each question starts with an empty conntrack.
    #[default]
    Fresh,
    /// Questions share conntrack, as packets of one wire do.
    Keep,
}

/// When colour is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorMode {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What `set` and `time` change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How much of an answer is shown.
    pub level: Level,
    /// What questions remember.
    pub conntrack: ConntrackMode,
    /// Colour.
    pub color: ColorMode,
    /// Whether replies say how long they took.
    pub time: bool,
}

/// Makes the backend when the first question needs it.
pub type OpenBackend = fn() -> Result<Box<dyn Backend>, BackendError>;

/// See the module.
pub struct Session {
    settings: Settings,
    world: World,
    policies: PolicySet,
    sources: SourceMap,
    generation: Generation,
    open_backend: OpenBackend,
}

impl Session {
    /// A session without any text. `open_backend` is called at the first question.
    pub fn new(open_backend: OpenBackend) -> Self {
        Self {
            settings: Settings::default(),
            world: World::default(),
            policies: PolicySet::default(),
            sources: SourceMap::default(),
            generation: Generation::default(),
            open_backend,
        }
    }

    /// A session on files; the reply of a failed load where they cannot be used. Warnings of a
    /// successful load are in the second value.
    pub fn open(files: &[PathBuf], open_backend: OpenBackend) -> Result<(Self, Reply), Reply> {
        let mut session = Self::new(open_backend);
        let reply = session.load(files);
        if reply.is_ok() { Ok((session, reply)) } else { Err(reply) }
    }

    /// Runs one command, question or statement (which may span lines).
    pub fn execute(&mut self, _text: &str) -> Reply {
        Reply::nothing()
    }

    /// Replaces the session by files (directories: every `.hop` file below; `-`: standard input is the
    /// caller's, see [`Session::load_text`]). On an error the session stays as it was.
    pub fn load(&mut self, _files: &[PathBuf]) -> Reply {
        Reply::nothing()
    }

    /// Replaces the session by a text under a name (standard input, a book example).
    pub fn load_text(&mut self, _name: &str, _text: &str) -> Reply {
        Reply::nothing()
    }

    /// Explains one flow: `SRC -> DST...`, with `=> EXPECTATION` where one is to be met.
    pub fn ask(&mut self, _question: &str) -> Reply {
        Reply::nothing()
    }

    /// Runs the tests whose `file::case` name holds the filter.
    pub fn run_tests(&mut self, _filter: Option<&str>) -> Reply {
        Reply::nothing()
    }

    /// A table of [`crate::show::NOUNS`].
    pub fn show(&mut self, _noun: &str, _argument: Option<&str>) -> Reply {
        Reply::nothing()
    }

    /// Everything that is wrong or doubtful with the loaded text.
    pub fn check(&self) -> Reply {
        Reply::nothing()
    }

    /// Whether some document differs from its file.
    pub fn has_unsaved_changes(&self) -> bool {
        false
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The settings, to change.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.settings
    }

    /// The world, for completion.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The policies, for completion.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// The texts.
    pub fn sources(&self) -> &SourceMap {
        &self.sources
    }

    /// The state of the tables.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Names of the tests that would run, as `file::case`.
    pub fn test_names(&self) -> Vec<String> {
        Vec::new()
    }
}
