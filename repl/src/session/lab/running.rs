//! What a lab is made of, as sessions know it: the texts, what they mean under a generation, and the place of somebody's network.

use std::collections::BTreeMap;

use datapath::lab::namespace::Namespace;
use datapath::lab::{LabError, Options, Plan, Role, Running, Scene, Texts};
use datapath::live::install::{InstallError, Kind, Record, Source, State};
use engine::compile::compile;
use engine::policy::PolicySet;
use engine::source::SourceMap;
use engine::tables::{Generation, Tables};
use engine::topology::{Party, World};
use lang::Workspace;

use super::super::replay::Texts as Included;
use super::super::{INPUT, Session, State as Derived};
use crate::reply::{Reply, Status};

/// The lab that a session holds, if it does.
#[derive(Default)]
pub(crate) struct Held(pub(in crate::session) Option<Box<Own>>);

/// A lab of a session's own.
pub(crate) struct Own {
    pub(in crate::session) running: Running,
    pub(in crate::session) meant: Meant,
}

/// A world with its tables, and what explanations need besides.
pub(crate) struct Meant {
    pub(super) world: World,
    pub(super) tables: Tables,
    policies: PolicySet,
    sources: SourceMap,
}

impl Meant {
    /// What is seen of packets is explained from.
    pub(in crate::session) fn scene_of_all(&self) -> crate::monitor::Scene {
        crate::monitor::Scene {
            world: self.world.clone(),
            policies: self.policies.clone(),
            tables: self.tables.clone(),
            sources: self.sources.clone(),
        }
    }

    pub(super) fn scene(&self) -> Scene<'_> {
        Scene { world: &self.world, tables: &self.tables }
    }

    /// What a session means, under a generation.
    pub(super) fn of(session: &Session, generation: u32) -> Result<Self, Box<Reply>> {
        let state = &session.state;
        match compile(&state.world, &state.policies, Generation(generation)) {
            Ok(tables) => Ok(Self {
                world: state.world.clone(),
                tables,
                policies: state.policies.clone(),
                sources: session.sources.clone(),
            }),
            Err(problems) => Err(Box::new(session.complain(problems))),
        }
    }

    /// What the texts of a record mean.
    pub(super) fn recorded(name: &str, record: &Record) -> Result<Self, Box<Reply>> {
        let texts: BTreeMap<String, String> =
            record.sources.iter().map(|s| (s.name.clone(), s.text.clone())).collect();
        let entry = |name: &String| (name.clone(), texts.get(name).cloned().unwrap_or_default());
        let entries: Vec<_> = record.entries.iter().map(entry).collect();
        let mut sources = SourceMap::default();
        let workspace = Workspace::load(&entries, &mut Included(texts), &mut sources);
        let generation = Generation(record.number);
        match Derived::derive_untested(workspace, &sources, generation) {
            Ok(state) => {
                let Derived { world, tables, policies, .. } = state;
                Ok(Self { world, tables, policies, sources })
            }
            Err(_) => {
                let message = format!("the texts of `{name}` cannot be understood any more");
                let remedy = format!(
                    "another version of hopwise made it: use that one, or `hopwise lab down {name}`"
                );
                Err(Box::new(Reply::failure(Status::Environment, message, remedy)))
            }
        }
    }

    /// Whose network a name in questions stands for, or `world`.
    pub(in crate::session) fn role(&self, place: &str) -> Result<Role, Box<Reply>> {
        if place == "world" {
            return Ok(Role::World);
        }
        let party = self.party(place).or_else(|reply| {
            // A service of the same name has no network, so that the pod is meant.
            self.party(&format!("pod {place}")).map_err(|_| reply)
        })?;
        Plan::whose(&self.world, &self.tables, party).ok_or_else(|| {
            let message = format!("`{place}` has no network of its own in a lab");
            Box::new(Reply::failure(Status::Input, message, "name a pod, a node or `world`"))
        })
    }

    fn party(&self, place: &str) -> Result<Party, Box<Reply>> {
        let mut sources = SourceMap::default();
        let file = sources.add(INPUT, place);
        let found = lang::command::parse_party(place, file).and_then(|name| {
            let party = lang::resolve::party(&self.world, &name);
            party.map_err(|problem| vec![problem])
        });
        found.map_err(|problems| Box::new(Reply::diagnostics(problems, sources.into())))
    }

    /// How many nodes and pods there are.
    pub(super) fn counts(&self) -> String {
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            number => format!("{number} {what}s"),
        };
        let pods = self.world.pods.len();
        format!("{}, {}", count(self.world.nodes.len(), "node"), count(pods, "pod"))
    }
}

/// The texts of a session.
pub(super) fn texts(session: &Session) -> Texts {
    let workspace = session.workspace();
    let source = |document: &lang::workspace::Document| Source {
        name: document.name.clone(),
        text: document.text.clone(),
    };
    Texts {
        sources: workspace.documents().map(source).collect(),
        entries: workspace.entries().map(|document| document.name.clone()).collect(),
    }
}

/// The network of somebody in a lab of a name.
pub(super) fn space_in(state: &State, name: &str, place: &str) -> Result<Namespace, Box<Reply>> {
    let record = state.open(name).map_err(|error| told(&error.into()))?;
    if record.kind == Kind::Attached {
        return Err(told(&LabError::NotALab(name.to_owned())));
    }
    let meant = Meant::recorded(name, &record)?;
    let role = meant.role(place)?;
    let plan = Plan::of(&meant.world, &meant.tables, Options::default());
    let plan = plan.map_err(|error| told(&error.into()))?;
    let space = plan.space(role).map(|space| state.namespace(name, &space.place));
    let opened = space.map(|path| Namespace::open(&path)).transpose();
    opened.ok().flatten().ok_or_else(|| {
        let message = format!("the network of `{place}` in lab `{name}` is gone");
        Box::new(Reply::failure(
            Status::Environment,
            message,
            format!("somebody removed it: `hopwise lab down {name}`, and make it again"),
        ))
    })
}

/// A lab's error as a reply.
pub(in crate::session) fn told(error: &LabError) -> Box<Reply> {
    let status = match error {
        LabError::Installed(
            InstallError::System { .. } | InstallError::Busy { .. } | InstallError::Read { .. },
        )
        | LabError::Datapath(_)
        | LabError::System { .. } => Status::Environment,
        LabError::Installed(_) | LabError::Plan(_) | LabError::Fixed(_) | LabError::NotALab(_) => {
            Status::Input
        }
    };
    Box::new(Reply::failure(status, error.to_string(), error.remedy()))
}
