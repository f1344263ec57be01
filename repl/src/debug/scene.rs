//! What a question is debugged on: a copy of the session's state of its own, and the names of things in it.
//! Changing it leaves the session as it is.

use std::net::IpAddr;
use std::rc::Rc;

use datapath::vm::debug::Plan;
use engine::backend::Injection;
use engine::diag::Diagnostic;
use engine::eval::Memory;
use engine::explain::Explanation;
use engine::identity::Identity;
use engine::net::{Direction, Hook};
use engine::question::Question;
use engine::source::SourceMap;
use engine::tables::{EndpointEntry, EndpointId, EntryId, Generation, NodeTables, Origin, TableId};
use engine::topology::NodeId;
use lang::NoIncludes;
use lang::ast::RawQuestion;
use lang::command::Command;

use crate::session::{Journey, NO_EARLIER, Stage, State, UNSEEN, placed};
use crate::show::names;

/// What a question was asked after.
#[derive(Clone)]
pub(crate) enum Earlier {
    /// Nothing: it is on a conntrack of its own.
    None,
    /// Flows that both opinions know.
    Known(Memory),
    /// Flows out of a recording, which the oracle knows nothing of.
    Recorded,
    /// Flows of the session, some of them of packets that the oracle was not told about.
    Unseen,
}

/// Whose policies a program asks: the device that the packet came by, and where it goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// The device.
    pub(super) ifindex: u32,
    /// Whether who is behind it sends the packet.
    pub(super) sends: bool,
    /// The destination, if it is a packet of IP.
    pub(super) destination: Option<IpAddr>,
}

impl Ends {
    /// Those of a packet as it is now.
    pub(super) fn of(injection: &Injection, frame: &[u8]) -> Self {
        let destination = datapath::frame::read(frame).map(|headers| headers.flow.destination);
        let sends = injection.hook == Hook::FromContainer;
        Self { ifindex: injection.ifindex, sends, destination }
    }
}

/// The name of a text that was changed at a stop: its lines are not the file's.
fn edited(name: &str) -> String {
    const MARK: &str = " (edited)";
    if name.ends_with(MARK) { name.to_owned() } else { format!("{name}{MARK}") }
}

/// What is told of a question that was asked after flows of a recording.
const RECORDED: &str = "flows of the recording, which the oracle does not know";

/// What is debugged.
#[derive(Clone)]
pub(crate) enum Subject {
    /// A packet that its sender sends.
    Flow(Box<Question>),
    /// A packet at a hook.
    Packet(Box<RawQuestion>),
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Scene {
    /// Texts and everything derived from them.
    pub(crate) state: State,
    /// Texts by place.
    pub(crate) sources: SourceMap,
    /// What was before the question.
    pub(crate) earlier: Earlier,
    /// The simulated clock, in seconds.
    pub(crate) now: u64,
    /// What is asked.
    pub(crate) subject: Subject,
    /// The same as it was typed.
    pub(crate) text: String,
}

impl Scene {
    /// What asks the question, for the debugger.
    pub(crate) fn plan(self: &Rc<Self>) -> Plan<Explanation> {
        let scene = Rc::clone(self);
        Box::new(move |backend| {
            let stage = Stage {
                world: &scene.state.world,
                policies: &scene.state.policies,
                tables: &scene.state.tables,
                sources: &scene.sources,
            };
            let mut memory = match &scene.earlier {
                Earlier::Known(memory) => memory.clone(),
                Earlier::None | Earlier::Recorded | Earlier::Unseen => Memory::default(),
            };
            let (memory, unseen) = (&mut memory, &mut false);
            let mut journey = Journey { backend, memory, unseen, now: scene.now };
            journey.backend.load_world(stage.world, stage.tables)?;
            let is_fresh = matches!(scene.earlier, Earlier::None);
            if is_fresh {
                journey.forget()?;
            }
            let mut explanation = match &scene.subject {
                Subject::Flow(question) => journey.ask(&stage, question)?,
                Subject::Packet(packet) => journey.ask_at(&stage, packet)?,
            };
            if is_fresh {
                explanation.assumed.insert(0, NO_EARLIER.to_owned());
            }
            match scene.earlier {
                Earlier::Recorded => super::without_oracle(&mut explanation, RECORDED),
                Earlier::Unseen => super::without_oracle(&mut explanation, UNSEEN),
                Earlier::None | Earlier::Known(_) => {}
            }
            Ok(explanation)
        })
    }

    /// The same with statements applied, or a statement removed, and the question asked of that world. Tests in the
    /// texts do not count. Errors: what is wrong with the text, with the texts that they point into.
    pub(super) fn changed(&self, text: &str) -> Result<Self, (Vec<Diagnostic>, SourceMap)> {
        let mut sources = self.sources.clone();
        let file = sources.add(super::INPUT, text);
        let workspace = &self.state.workspace;
        let changed = match lang::command::parse(text, file) {
            Ok(Command::Remove { kind, name }) => {
                let removed = workspace.remove(&kind, &name, &mut sources);
                removed.map(|(workspace, _)| workspace).map_err(|problem| vec![problem])
            }
            Ok(_) => {
                let applied = workspace.apply(text, &mut NoIncludes, &mut sources);
                applied.map(|(workspace, _)| workspace)
            }
            Err(problems) => Err(problems),
        };
        let generation = Generation(self.state.tables.generation.0.wrapping_add(1));
        let known = self.sources.files().count();
        if let Ok(workspace) = &changed {
            for document in workspace.documents().filter(|d| d.file.0 as usize >= known) {
                sources.rename(document.file, &edited(&document.name));
            }
        }
        let derived =
            changed.and_then(|workspace| State::derive_untested(workspace, &sources, generation));
        let asked = derived.and_then(|state| {
            let subject = self.asked_again(&state, &mut sources)?;
            Ok((state, subject))
        });
        match asked {
            Ok((state, subject)) => Ok(Self { state, sources, subject, ..self.clone() }),
            Err(problems) => Err((problems, sources)),
        }
    }

    /// The question in another state of the world, in which its ends may have other numbers, or be gone.
    fn asked_again(
        &self,
        state: &State,
        sources: &mut SourceMap,
    ) -> Result<Subject, Vec<Diagnostic>> {
        let file = sources.add("the question", self.text.as_str());
        let resolved = if let Subject::Packet(_) = self.subject {
            let packet = lang::command::parse_raw(&self.text, file)?;
            placed(state, &packet).map(|()| Subject::Packet(Box::new(packet)))
        } else {
            let parsed = lang::command::parse_question(&self.text, file)?;
            let resolved = lang::resolve::question(&state.world, &parsed);
            resolved.map(|question| Subject::Flow(Box::new(question)))
        };
        let remark = "the question could not be asked any more; nothing was changed";
        resolved.map_err(|problem| vec![problem.note(remark)])
    }

    /// The node's name.
    pub(super) fn node(&self, node: NodeId) -> String {
        names::node(&self.state.world, node)
    }

    /// The tables of a node.
    pub(super) fn tables(&self, node: NodeId) -> Option<&NodeTables> {
        self.state.tables.node(node)
    }

    /// The name of a device of a node.
    pub(super) fn device(&self, node: NodeId, ifindex: u32) -> String {
        let Some(tables) = self.tables(node) else { return format!("device {ifindex}") };
        if let Some(endpoint) = tables.endpoint_at(ifindex) {
            return endpoint.interface.clone();
        }
        match self.state.world.node(node) {
            _ if ifindex == tables.tunnel_ifindex => tables.tunnel.device.clone(),
            Some(node) if ifindex == tables.device_ifindex => node.device.clone(),
            _ => format!("device {ifindex}"),
        }
    }

    /// What an identity stands for, with its number.
    pub(super) fn identity(&self, identity: Identity) -> String {
        let meaning = names::meaning(&self.state.tables, identity);
        if identity == Identity::ANY || identity.reserved_name().is_some() {
            return meaning;
        }
        format!("{identity} {meaning}")
    }

    /// The name of an endpoint.
    pub(super) fn endpoint(&self, node: NodeId, id: EndpointId) -> String {
        let entry = self.tables(node).and_then(|tables| tables.endpoint(id));
        entry.map_or_else(
            || format!("endpoint {}", id.0),
            |e| self.state.world.endpoint_name(e.endpoint),
        )
    }

    /// Endpoints of a node that use a policy table, with the direction in which they do.
    fn users(
        &self,
        node: NodeId,
        table: TableId,
    ) -> impl Iterator<Item = (&EndpointEntry, Direction)> {
        let endpoints = self.tables(node).map_or(&[][..], |tables| &tables.endpoints);
        endpoints.iter().flat_map(move |endpoint| {
            let egress = (endpoint.egress == table).then_some((endpoint, Direction::Egress));
            let ingress = (endpoint.ingress == table).then_some((endpoint, Direction::Ingress));
            egress.into_iter().chain(ingress)
        })
    }

    /// The endpoint that a policy table was asked for, how many others share the table, and the direction. Without
    /// a packet that tells, the first one that uses it.
    pub(super) fn user(
        &self,
        node: NodeId,
        table: TableId,
        ends: Option<Ends>,
    ) -> Option<(&EndpointEntry, Direction, usize)> {
        let is_meant = |endpoint: &EndpointEntry, direction| match (ends, direction) {
            (Some(ends), Direction::Egress) => ends.sends && endpoint.ifindex == ends.ifindex,
            (Some(ends), Direction::Ingress) => {
                ends.destination.is_some_and(|address| endpoint.addresses.contains(&address))
            }
            (None, _) => false,
        };
        let meant = self.users(node, table).find(|(endpoint, way)| is_meant(endpoint, *way));
        let others = self.users(node, table).count().saturating_sub(1);
        let (endpoint, direction) = meant.or_else(|| self.users(node, table).next())?;
        Some((endpoint, direction, others))
    }

    /// Rules and implied outcomes behind an entry, with the places of rules.
    pub(super) fn origins(
        &self,
        node: NodeId,
        endpoint: EndpointId,
        direction: Direction,
        entry: EntryId,
    ) -> Vec<String> {
        let origins = self.state.tables.provenance.origins(node, endpoint, direction, entry);
        origins.iter().map(|origin| self.origin(*origin)).collect()
    }

    fn origin(&self, origin: Origin) -> String {
        match origin {
            Origin::Rule(rule) => {
                let handle = self.state.policies.rule_handle(rule);
                let place = self.state.policies.rule(rule);
                let place = place.map(|(_, rule)| self.sources.location(rule.span).to_string());
                format!("{handle} {}", place.unwrap_or_default()).trim_end().to_owned()
            }
            Origin::Implied(implied) => implied.name().to_owned(),
        }
    }
}
