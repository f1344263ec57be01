//! What a record's texts mean: the world, policies and tables that an installation runs with.

use std::collections::BTreeMap;
use std::path::Path;

use datapath::live::install::{InstallError, Record, Source, State};
use engine::diag::Severity;
use engine::policy::PolicySet;
use engine::source::SourceMap;
use engine::tables::{Generation, Tables};
use engine::topology::World;
use lang::Loader;

use crate::reply::{Reply, Status};
use crate::session::tidied;

/// What an installation runs with.
pub(super) struct Scene {
    pub(super) sources: Vec<Source>,
    pub(super) entries: Vec<String>,
    pub(super) world: World,
    pub(super) policies: PolicySet,
    pub(super) tables: Tables,
}

/// Texts for what includes them, and nothing else.
struct Texts(BTreeMap<String, String>);

impl Loader for Texts {
    fn load(&mut self, path: &str, relative_to: &str) -> Result<(String, String), String> {
        let base = Path::new(relative_to).parent().unwrap_or(Path::new(""));
        let name = tidied(&base.join(path)).display().to_string();
        let text = self.0.get(&name).cloned().ok_or("it is not in the record")?;
        Ok((name, text))
    }
}

impl Scene {
    /// Compiles texts under the number of a generation. On errors: the first of them.
    pub(super) fn of(
        sources: Vec<Source>,
        entries: Vec<String>,
        number: u32,
    ) -> Result<Self, String> {
        let texts: BTreeMap<String, String> =
            sources.iter().map(|source| (source.name.clone(), source.text.clone())).collect();
        let named = entries
            .iter()
            .filter_map(|name| Some((name.clone(), texts.get(name)?.clone())))
            .collect::<Vec<_>>();
        let loaded = lang::load(&named, &mut Texts(texts), &mut SourceMap::default());
        let lang::Loaded { world, policies, diagnostics, .. } = loaded;
        if let Some(error) = diagnostics.iter().find(|d| d.severity == Severity::Error) {
            return Err(error.message.clone());
        }
        let tables = engine::compile::compile(&world, &policies, Generation(number))
            .map_err(|errors| errors.first().map_or_else(String::new, |e| e.message.clone()))?;
        Ok(Self { sources, entries, world, policies, tables })
    }

    /// That of an installation.
    pub(super) fn open(name: &str, record: &Record) -> Result<Self, Box<Reply>> {
        let scene = Self::of(record.sources.clone(), record.entries.clone(), record.number);
        scene.map_err(|error| {
            let message = format!("the texts of `{name}` cannot be understood any more: {error}");
            let remedy = format!("another version of hopwise made it: `hopwise detach {name}`");
            Box::new(Reply::failure(Status::Environment, message, remedy))
        })
    }
}

/// An installation's error as a reply.
pub(super) fn complaint(error: &InstallError) -> Box<Reply> {
    let status = match error {
        InstallError::System { .. } | InstallError::Busy { .. } | InstallError::Read { .. } => {
            Status::Environment
        }
        _ => Status::Input,
    };
    let remedy = match error {
        InstallError::Absent { known, .. } | InstallError::Which { known } if known.is_empty() => {
            "nothing is attached: `hopwise attach -f FILE` attaches to what FILE's pods have here"
                .to_owned()
        }
        InstallError::Unfinished(name) | InstallError::Version(name) => {
            format!("remove what is there of it: `hopwise detach {name}`")
        }
        error => error.remedy(),
    };
    Box::new(Reply::failure(status, error.to_string(), remedy))
}

/// Where installations are written down.
pub(super) fn state() -> State {
    State::standard()
}
