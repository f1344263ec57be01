//! What is installed on this host, opened to be listened to: the record with what its texts mean, and its nodes' programs.

use crate::monitor::{Asked, Source};
use crate::reply::Reply;
#[cfg(not(feature = "lab"))]
use crate::reply::Status;

#[cfg(feature = "lab")]
pub(crate) use installed::{Opened, installed};
#[cfg(feature = "lab")]
pub(super) use installed::{complaint, not_understood, session};

/// Names of what is installed.
#[cfg(not(feature = "lab"))]
pub(crate) fn installed() -> Vec<String> {
    Vec::new()
}

/// Opens what is asked for.
#[cfg(not(feature = "lab"))]
pub(super) fn open(_asked: &Asked) -> Result<Box<dyn Source>, Box<Reply>> {
    let message =
        "labs and attachments are not available here (this hopwise was built without them)";
    Err(Box::new(Reply::failure(Status::Environment, message, "build with the feature `lab`")))
}

/// Opens what is asked for.
#[cfg(feature = "lab")]
pub(super) fn open(asked: &Asked) -> Result<Box<dyn Source>, Box<Reply>> {
    let opened = Opened::of(asked.on.as_deref())?;
    let listener = opened.listen(mode(asked))?;
    Ok(Box::new(listener))
}

/// What programs tell for it.
#[cfg(feature = "lab")]
pub(super) fn mode(asked: &Asked) -> datapath::live::Mode {
    // Metrics are of all packets.
    let only_drops = asked.filter.wants_only_drops() && asked.metrics.is_none();
    datapath::live::Mode {
        trace: true,
        capture: asked.pcap.is_some(),
        filter: only_drops.then(datapath::live::filter::drops),
        ..datapath::live::Mode::default()
    }
}

#[cfg(feature = "lab")]
mod installed {
    use std::collections::BTreeMap;
    use std::rc::Rc;

    use datapath::live::Mode;
    use datapath::live::install::{InstallError, Kind, Reader, Record, State};
    use engine::backend::BackendError;
    use engine::diag::Severity;
    use engine::source::SourceMap;
    use engine::tables::Generation;
    use engine::topology::NodeId;
    use lang::Workspace;

    use super::super::super::State as Meaning;
    use super::super::super::attach::{expire_all, over};
    use super::super::super::replay::Texts;
    use super::super::Session;
    use crate::live::Listener;
    use crate::metrics::Measured;
    use crate::monitor::{Batch, Scene, Source};
    use crate::reply::{Reply, Status};
    use crate::session::refused;

    /// Names of what is installed.
    pub(crate) fn installed() -> Vec<String> {
        State::standard().list().into_iter().map(|found| found.name).collect()
    }

    /// An installation, with the right to read its events.
    pub(crate) struct Opened {
        pub(crate) name: String,
        pub(crate) state: State,
        pub(crate) record: Record,
        pub(crate) scene: Rc<Scene>,
        pub(crate) reader: Reader,
    }

    /// What an installation's error is to a person.
    pub(crate) fn complaint(error: &InstallError) -> Box<Reply> {
        let status = match error {
            InstallError::System { .. } | InstallError::Busy { .. } | InstallError::Read { .. } => {
                Status::Environment
            }
            _ => Status::Input,
        };
        Box::new(Reply::failure(status, error.to_string(), error.remedy()))
    }

    impl Opened {
        /// Opens one by name; the only one where none is named.
        pub(crate) fn of(name: Option<&str>) -> Result<Self, Box<Reply>> {
            let state = State::standard();
            // What ended by itself has nothing more to say.
            let ended = expire_all(&state);
            if let Some(ended) = ended.iter().find(|ended| name.is_none_or(|name| name == *ended)) {
                let remedy = format!("`hopwise attach {ended} -f FILE` attaches it again");
                return Err(Box::new(Reply::failure(Status::Input, over(ended), remedy)));
            }
            let opened = || {
                let name = state.meant(name, None)?;
                let record = state.open(&name)?;
                let reader = state.reader(&name)?;
                Ok((name, record, reader))
            };
            let (name, record, reader) = opened().map_err(|error| complaint(&error))?;
            let scene = scene(&record).ok_or_else(|| not_understood(&name))?;
            Ok(Self { name, state, record, scene: Rc::new(scene), reader })
        }

        /// `lab shop`, `attachment veths`.
        pub(crate) fn title(&self) -> String {
            let kind = match self.record.kind {
                Kind::Lab => "lab",
                Kind::Attached => "attachment",
            };
            format!("{kind} {}", self.name)
        }

        /// Begins to listen.
        pub(crate) fn listen(self, mode: Mode) -> Result<Listening, Box<Reply>> {
            let mut nodes = Vec::new();
            for (id, node) in self.scene.world.nodes() {
                // Programs may hang on some of the nodes only.
                if !self.record.nodes.iter().any(|known| known.name == node.name) {
                    continue;
                }
                let programs = self.state.programs(&self.name, &node.name);
                nodes.push((id, programs.map_err(|error| complaint(&error))?));
            }
            let (state, name) = (self.state.clone(), self.name.clone());
            let renew = Box::new(move |generation: Generation| {
                let record = state.open(&name).ok()?;
                let is_it = Generation(record.number) == generation;
                scene(&record).filter(|_| is_it).map(Rc::new)
            });
            let (title, scene) = (self.title(), Rc::clone(&self.scene));
            let listener = Listener::new(title, nodes, (scene, renew), mode);
            let listener = listener.map_err(|error| refused(&error))?;
            Ok(Listening { listener, _reader: self.reader })
        }
    }

    /// A listener whose events go to nobody else.
    pub(crate) struct Listening {
        listener: Listener,
        _reader: Reader,
    }

    impl Source for Listening {
        fn name(&self) -> String {
            self.listener.name()
        }

        fn poll(&mut self) -> Result<Batch, BackendError> {
            self.listener.poll()
        }

        fn end(&mut self) -> Result<Batch, BackendError> {
            self.listener.end()
        }

        fn scene(&mut self, generation: Generation) -> Option<Rc<Scene>> {
            self.listener.scene(generation)
        }

        fn present(&mut self) -> Rc<Scene> {
            self.listener.present()
        }

        fn now(&self) -> u64 {
            self.listener.now()
        }

        fn measured(&mut self) -> Result<Vec<(NodeId, Measured)>, BackendError> {
            self.listener.measured()
        }

        fn observes(&self) -> bool {
            self.listener.observes()
        }
    }

    /// That the texts of a record mean nothing to this program.
    pub(crate) fn not_understood(name: &str) -> Box<Reply> {
        let message = format!("the texts of `{name}` cannot be understood any more");
        let remedy = "it was made by another version of hopwise: use that one, or remove it";
        Box::new(Reply::failure(Status::Environment, message, remedy))
    }

    /// A session of the texts of a record.
    pub(crate) fn session(record: &Record) -> Option<Session> {
        let (entries, mut texts) = texts(record)?;
        let mut session = Session::new(crate::backend::open);
        let workspace = Workspace::load(&entries, &mut texts, &mut session.sources);
        let generation = Generation(record.number);
        session.state = Meaning::derive_untested(workspace, &session.sources, generation).ok()?;
        Some(session)
    }

    /// The texts of a record: those that are loaded, and all.
    fn texts(record: &Record) -> Option<(Vec<(String, String)>, Texts)> {
        let texts: BTreeMap<String, String> =
            record.sources.iter().map(|s| (s.name.clone(), s.text.clone())).collect();
        let entry = |name: &String| Some((name.clone(), texts.get(name)?.clone()));
        let entries = record.entries.iter().map(entry).collect::<Option<_>>()?;
        Some((entries, Texts(texts)))
    }

    /// What the texts of a record mean.
    pub(crate) fn scene(record: &Record) -> Option<Scene> {
        let (entries, mut texts) = texts(record)?;
        let mut sources = SourceMap::default();
        let loaded = lang::load(&entries, &mut texts, &mut sources);
        let lang::Loaded { world, policies, diagnostics, .. } = loaded;
        if diagnostics.iter().any(|problem| problem.severity == Severity::Error) {
            return None;
        }
        let generation = Generation(record.number);
        let tables = engine::compile::compile(&world, &policies, generation).ok()?;
        Some(Scene { world, policies, tables, sources })
    }
}
