//! Breakpoints and watchpoints: what they stop at, and whether they do.

use std::collections::BTreeSet;

use datapath::vm::call::Helper;
use datapath::vm::debug::{EntryKey, EntryValue, Happening, key_of, value_of};
use datapath::vm::machine::Machine;
use engine::backend::Injection;
use engine::reason::DropReason;
use engine::tables::{EntryId, Origin, TableId};
use engine::topology::NodeId;
use engine::trace::{Action, Event};
use lang::debug::{Condition, PacketPart, Place, Thing};

use super::field::Reading;
use super::scene::{Ends, Scene};
use super::{Problem, code, condition, events};

/// A breakpoint or watchpoint.
#[derive(Clone, Debug)]
pub(super) struct Stop {
    /// Its number, from 1.
    pub(super) number: u32,
    /// As it was typed, without the word and the condition.
    pub(super) text: String,
    /// What it stops at.
    pub(super) what: What,
    /// Only where this holds, with its text.
    pub(super) condition: Option<(Condition, String)>,
    /// Whether it is gone after the first stop.
    pub(super) once: bool,
    /// Whether it stops at all.
    pub(super) enabled: bool,
    /// How often it stopped.
    pub(super) hits: u64,
}

/// What stops.
#[derive(Clone, Debug)]
pub(super) enum What {
    /// An instruction about to run, where the run comes to its line.
    Code(BTreeSet<(u32, usize)>),
    /// A helper about to be called; any without one.
    Helper(Option<Helper>),
    /// A look-up.
    Lookup(Option<u16>),
    /// An update or removal.
    Update(Option<u16>),
    /// A reported event.
    Event(Option<String>),
    /// An entry that a rule is behind.
    Rule(Vec<Origin>),
    /// A drop.
    Drop(Option<DropReason>),
    /// Bytes of the packet.
    Write(Option<PacketPart>),
    /// The beginning of a hop.
    Hop(Option<NodeId>),
    /// Something that changes, and what it was.
    Watch(Thing, Option<Vec<String>>),
}

/// What a place names; an error says what there is instead.
pub(super) fn resolve(
    scene: &Scene,
    machine: &Machine,
    own: Option<code::SourceLine>,
    place: &Place,
) -> Result<What, Problem> {
    Ok(match place {
        Place::Code(place) => What::Code(code::places(machine, own, place)?.into_iter().collect()),
        Place::Helper(name) => What::Helper(name.as_deref().map(helper).transpose()?),
        Place::Lookup(map) => What::Lookup(optional_map(machine, map.as_deref())?),
        Place::Update(map) => What::Update(optional_map(machine, map.as_deref())?),
        Place::Event(kind) => {
            if let Some(kind) = kind.as_deref().filter(|kind| !events::KINDS.contains(kind)) {
                let remedy = format!("there are {}", events::KINDS.join(", "));
                return Err(Problem::unknown("kind of event", kind, &events::KINDS, &remedy));
            }
            What::Event(kind.clone())
        }
        Place::Rule { policy, rule } => What::Rule(origins(scene, policy, rule.as_deref())?),
        Place::Drop(reason) => What::Drop(reason.as_deref().map(drop_reason).transpose()?),
        Place::Write(part) => What::Write(part.clone()),
        Place::Hop(node) => {
            What::Hop(node.as_deref().map(|name| node_of(scene, name)).transpose()?)
        }
    })
}

fn helper(name: &str) -> Result<Helper, Problem> {
    let name = name.strip_prefix("bpf_").unwrap_or(name);
    let names: Vec<&str> = Helper::ALL.iter().map(|helper| helper.name()).collect();
    let found = Helper::ALL.iter().find(|helper| helper.name() == name).copied();
    found.ok_or_else(|| {
        Problem::unknown("helper", name, &names, &format!("the programs know {}", names.join(", ")))
    })
}

/// A map by its name, in either case, or by a beginning that only it has.
pub(super) fn map(machine: &Machine, name: &str) -> Result<u16, Problem> {
    let names: Vec<&str> = machine.image().maps.iter().map(|map| map.name.as_str()).collect();
    let wanted = name.to_uppercase();
    let mut begins = (0_u16..).zip(&names).filter(|(_, known)| known.starts_with(&wanted));
    let exact = (0_u16..).zip(&names).find(|(_, known)| **known == wanted);
    let only = begins.next().filter(|_| begins.next().is_none());
    exact
        .or(only)
        .map(|(at, _)| at)
        .ok_or_else(|| Problem::unknown("map", name, &names, "`info maps` lists them"))
}

fn optional_map(machine: &Machine, name: Option<&str>) -> Result<Option<u16>, Problem> {
    name.map(|name| map(machine, name)).transpose()
}

fn origins(scene: &Scene, handle: &str, name: Option<&str>) -> Result<Vec<Origin>, Problem> {
    let policies = &scene.state.policies;
    let handles: Vec<&str> = policies.iter().map(|(_, policy)| policy.handle.as_str()).collect();
    let found = policies.iter().find(|(_, policy)| policy.handle == handle);
    let (id, policy) = found.ok_or_else(|| {
        Problem::unknown("policy", handle, &handles, "`break rule NAMESPACE/POLICY#RULE`")
    })?;
    let rules = (0_u32..).zip(&policy.rules);
    let chosen = rules.filter(|(_, rule)| name.is_none_or(|name| rule.name == name));
    let chosen: Vec<_> = chosen
        .map(|(index, _)| Origin::Rule(engine::policy::RuleId { policy: id, index }))
        .collect();
    if chosen.is_empty() {
        let rules: Vec<&str> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
        let remedy = format!("{handle} has {}", rules.join(", "));
        return Err(Problem::unknown("rule", name.unwrap_or_default(), &rules, &remedy));
    }
    Ok(chosen)
}

fn drop_reason(word: &str) -> Result<DropReason, Problem> {
    let by_number = word.parse().ok().and_then(DropReason::from_code);
    let known = DropReason::ALL.iter().copied();
    let found = by_number.or_else(|| known.clone().find(|reason| reason.name() == word));
    found.ok_or_else(|| {
        let names: Vec<&str> = known.map(DropReason::name).collect();
        Problem::unknown("drop reason", word, &names, "`explain 133` tells about one by its number")
    })
}

fn node_of(scene: &Scene, name: &str) -> Result<NodeId, Problem> {
    let nodes = || scene.state.world.nodes();
    let names: Vec<&str> = nodes().map(|(_, node)| node.name.as_str()).collect();
    let found = nodes().find(|(_, node)| node.name == name).map(|(id, _)| id);
    found.ok_or_else(|| {
        Problem::unknown("node", name, &names, &format!("there are {}", names.join(", ")))
    })
}

/// What a stop is asked about: the machine after an instruction, and what that did.
pub(super) struct Moment<'a> {
    pub(super) scene: &'a Scene,
    pub(super) injection: &'a Injection,
    pub(super) reading: Reading<'a>,
    pub(super) happened: &'a [Happening],
    /// Whether a hop has just begun.
    pub(super) began: bool,
    /// Whether the next instruction is of another source line or function than the one that has just run.
    pub(super) new_line: bool,
}

impl Stop {
    /// Whether it stops here.
    pub(super) fn hits(&self, moment: &Moment<'_>) -> bool {
        self.what.is_at(moment) && self.may(moment)
    }

    /// Whether it may stop here: it is enabled, and its condition holds.
    pub(super) fn may(&self, moment: &Moment<'_>) -> bool {
        self.enabled
            && self.condition.as_ref().is_none_or(|(condition, _)| {
                let node = moment.scene.node(moment.injection.node);
                condition::holds(condition, &moment.reading, &node)
            })
    }

    /// What kind it is.
    pub(super) fn kind(&self) -> &'static str {
        match self.what {
            What::Watch(..) => "watchpoint",
            _ => "breakpoint",
        }
    }
}

impl What {
    /// Watches are compared by who runs the machine; they never are here.
    fn is_at(&self, moment: &Moment<'_>) -> bool {
        let machine = moment.reading.machine;
        let happened = |test: &dyn Fn(&Happening) -> bool| moment.happened.iter().any(test);
        match self {
            Self::Code(places) => {
                machine.is_running()
                    && moment.new_line
                    && places.contains(&(machine.program(), machine.pc()))
            }
            Self::Helper(wanted) => machine
                .next_call()
                .is_some_and(|call| wanted.is_none_or(|wanted| wanted == call.helper)),
            Self::Lookup(wanted) => happened(
                &|h| matches!(h, Happening::Lookup { map, .. } if wanted.is_none_or(|w| w == *map)),
            ),
            Self::Update(wanted) => happened(
                &|h| matches!(h, Happening::Updated { map, .. } if wanted.is_none_or(|w| w == *map)),
            ),
            Self::Event(kind) => happened(&|h| {
                let Happening::Reported(stamped) = h else { return false };
                kind.as_deref().is_none_or(|kind| events::kind(&stamped.event) == kind)
            }),
            Self::Rule(origins) => happened(&|h| decides(moment, h, origins)),
            Self::Drop(reason) => happened(&|h| {
                let Happening::Reported(stamped) = h else { return false };
                matches!(stamped.event, Event::Outcome(Action::Drop(why))
                    if reason.is_none_or(|wanted| wanted == why))
            }),
            Self::Write(part) => happened(&|h| {
                let Happening::Wrote { from, bytes } = h else { return false };
                let Some(part) = part else { return true };
                let wanted = moment.reading.part(part);
                wanted.is_some_and(|wanted| wanted.start < from + bytes.len() && *from < wanted.end)
            }),
            Self::Hop(node) => {
                moment.began && node.is_none_or(|node| node == moment.injection.node)
            }
            Self::Watch(..) => false,
        }
    }
}

/// Whether an entry that one of the rules is behind was found, or is what conntrack remembered.
fn decides(moment: &Moment<'_>, happening: &Happening, wanted: &[Origin]) -> bool {
    let node = moment.injection.node;
    let stands_behind = |table: TableId, entry: EntryId| {
        let provenance = &moment.scene.state.tables.provenance;
        let ends = Ends::of(moment.injection, moment.reading.machine.skb().bytes());
        let asked = moment.scene.user(node, table, Some(ends));
        asked.is_some_and(|(endpoint, direction, _)| {
            let origins = provenance.origins(node, endpoint.id, direction, entry);
            origins.iter().any(|origin| wanted.contains(origin))
        })
    };
    match happening {
        Happening::Lookup { map, key, found: Some(found) } => {
            let maps = &moment.reading.machine.image().maps;
            let name = maps.get(usize::from(*map)).map_or("", |map| map.name.as_str());
            let key_said = key_of(name, key);
            match (key_said, value_of(name, key, found, moment.injection.now)) {
                (EntryKey::Policy { table, .. }, EntryValue::Policy { entry, .. }) => {
                    stands_behind(table, entry)
                }
                _ => false,
            }
        }
        Happening::Reported(stamped) => match stamped.event {
            Event::Policy { endpoint, direction, entry, remembered: true, .. } => {
                let provenance = &moment.scene.state.tables.provenance;
                let origins = provenance.origins(node, endpoint, direction, entry);
                origins.iter().any(|origin| wanted.contains(origin))
            }
            _ => false,
        },
        _ => false,
    }
}
