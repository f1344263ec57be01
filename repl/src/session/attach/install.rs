//! Attaching: the first time programs are loaded, pinned and hung on the devices; from then on they are taken over as they run, told of
//! new tables, and hung where the world has changed.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use datapath::attach::{self, AttachError, AttachWires, Finding, Hung, Space};
use datapath::live::install::{InstallError, Kind, Node, Record, Stage, State};
use datapath::live::{Backed, Conduct, Mode, Place, Programs, is_by_tcx, tick_after, time_until};
use engine::backend::{Backend as _, BackendError};
use engine::net::Hook;
use engine::topology::{NodeId, World};
use serde::{Deserialize, Serialize};

use super::scene::{Scene, complaint, state};
use super::{Wanted, check, pin, words};
use crate::reply::{Content, Listing, Reply, Status};
use crate::session::{Session, refused};

/// The name of what is attached without one.
const USUAL: &str = "attached";
/// How long conntrack remembers what is no TCP: flows that are older than programs were seen by then, or are none.
const SETTLING: Duration = Duration::from_mins(1);
/// The first generation of programs.
const FIRST: u32 = 1;

/// What a record says beside what all of them do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct More {
    /// Whether programs only observe.
    pub(super) observes: bool,
    /// Tick of the kernel's clock from which they let everything pass; 0: never.
    pub(super) until: u64,
    /// Devices that were given a clsact qdisc, by node.
    pub(super) qdiscs: Vec<(String, String)>,
}

impl More {
    pub(super) fn of(record: &Record) -> Self {
        serde_json::from_value(record.more.clone()).unwrap_or_default()
    }

    pub(super) fn write(&self, record: &mut Record) {
        record.more = serde_json::to_value(self).unwrap_or_default();
    }
}

/// What was found, and what is to be there.
struct Plan {
    name: String,
    scene: Scene,
    spaces: Vec<Space>,
    finding: Finding,
    time: Option<Duration>,
    mode: Mode,
    extra: More,
    /// What ended by itself and was removed before.
    ended: Vec<String>,
}

fn of_attaching(error: &AttachError) -> Box<Reply> {
    if let AttachError::Datapath(error) = error {
        return refused(error);
    }
    let status = match error {
        AttachError::Ambiguous { .. } | AttachError::Split { .. } => Status::Input,
        _ => Status::Environment,
    };
    Box::new(Reply::failure(status, error.to_string(), error.remedy()))
}

pub(super) fn attach(session: &mut Session, wanted: &Wanted) -> Result<Reply, Box<Reply>> {
    attach::rights().map_err(|error| of_attaching(&error))?;
    let state = state();
    let ended = super::status::expire_all(&state);
    let name = named(&state, wanted.name.as_deref())?;
    let known = known(&state, &name)?;
    if let Some(record) = known.as_ref().filter(|_| wanted.name.is_none()) {
        is_meant(session, &name, record)?;
    }
    if let Some(record) = &known {
        state.hush(&name, record);
    }
    let (spaces, finding) =
        attach::find(&session.state.world).map_err(|error| of_attaching(&error))?;
    let number = known.as_ref().map_or(FIRST, |record| record.number + 1);
    let scene = scene(session, &finding, number)?;
    let own = known.as_ref().map(|record| ids(&state, &name, record)).unwrap_or_default();
    check::may_hang(&spaces, &finding).map_err(|error| of_attaching(&error))?;
    let others = check::others(&spaces, &finding, &own)?;
    if wanted.enforce {
        check::may_enforce(&scene.world, &finding, &others)?;
    }
    // What is on trial stays so until somebody confirms it.
    let known_end = known.as_ref().map_or(0, |record| More::of(record).until);
    let until = wanted.time.map_or(known_end, tick_after);
    let observes = !wanted.enforce;
    let settled = tick_after(SETTLING);
    let conduct = if observes { Conduct::Observe } else { Conduct::Chain };
    let mode = Mode { conduct, until, settled, ..Mode::default() };
    let extra = More { observes, until, ..More::default() };
    let plan = Plan { name, scene, spaces, finding, time: wanted.time, mode, extra, ended };
    let is_new = known.is_none();
    if is_new {
        install(&state, &plan)?;
        if wanted.enforce {
            is_alone(&state, &plan)?;
        }
    } else {
        update(&state, &plan)?;
    }
    let reply = told(&plan, wanted, &others, is_new);
    Ok(session.with_warnings(reply))
}

/// Takes off what was just hung if somebody else has hung something there meanwhile.
fn is_alone(state: &State, plan: &Plan) -> Result<(), Box<Reply>> {
    let record = state.open(&plan.name).map_err(|error| complaint(&error))?;
    let own = ids(state, &plan.name, &record);
    let alone = check::others(&plan.spaces, &plan.finding, &own)
        .and_then(|others| check::may_enforce(plan.world(), &plan.finding, &others));
    if alone.is_err() {
        super::status::detach_as_it_is(state, &plan.name)?;
    }
    alone
}

/// Whether what is attached is for this cluster: nobody who leaves out the name means to end another one's.
fn is_meant(session: &Session, name: &str, record: &Record) -> Result<(), Box<Reply>> {
    let Ok(before) = Scene::open(name, record) else { return Ok(()) };
    let (was, is) = (&before.world.cluster.name, &session.state.world.cluster.name);
    if was == is {
        return Ok(());
    }
    let message =
        format!("`{name}` is attached for cluster {was}, and the file is about cluster {is}");
    let remedy = format!(
        "name what is to be attached, such as `hopwise attach {is} -f FILE`; `hopwise attach {name} -f FILE` puts this in the other's place"
    );
    Err(Box::new(Reply::failure(Status::Input, message, remedy)))
}

/// The name that is meant.
fn named(state: &State, name: Option<&str>) -> Result<String, Box<Reply>> {
    if let Some(name) = name {
        return Ok(name.to_owned());
    }
    match state.meant(None, Some(Kind::Attached)) {
        Ok(only) => Ok(only),
        Err(InstallError::Which { known }) if known.is_empty() => Ok(USUAL.to_owned()),
        Err(error) => Err(complaint(&error)),
    }
}

/// What is there of that name. What a killed process left half made is removed.
fn known(state: &State, name: &str) -> Result<Option<Record>, Box<Reply>> {
    match state.open(name) {
        Ok(record) if record.kind == Kind::Attached => {
            // Pins that somebody removed are nothing to go on from either.
            let is_whole = record.nodes.iter().all(|node| state.programs(name, &node.name).is_ok());
            let settled = settled(state, name, record).filter(|_| is_whole);
            if settled.is_none() {
                // Of two states at once there is none to go on from.
                super::status::detach_as_it_is(state, name)?;
            }
            Ok(settled.map(|(record, _)| record))
        }
        Ok(_) => {
            let message = format!("`{name}` is a lab");
            Err(Box::new(Reply::failure(Status::Input, message, "choose another name")))
        }
        Err(InstallError::Absent { .. }) => Ok(None),
        Err(InstallError::Unfinished(_)) => {
            super::status::detach_as_it_is(state, name)?;
            Ok(None)
        }
        Err(error) => Err(complaint(&error)),
    }
}

/// The session's world as it is on this machine.
fn scene(session: &Session, finding: &Finding, number: u32) -> Result<Scene, Box<Reply>> {
    let documents = session.state.workspace.documents();
    let sources = pin::pinned(documents, &session.state.world, &finding.found);
    Scene::of(sources, session.entries.clone(), number).map_err(|error| {
        let message = format!("the devices that were found do not fit into the world: {error}");
        let remedy = "give pods `interface`, `ifindex`, `mac` and `host-mac` as they are here";
        Box::new(Reply::failure(Status::Input, message, remedy))
    })
}

/// Numbers of an installation's own programs.
fn ids(state: &State, name: &str, record: &Record) -> BTreeSet<u32> {
    let mut ids = BTreeSet::new();
    for node in &record.nodes {
        let programs = state.programs(name, &node.name);
        let of = programs.ok().and_then(|mut programs| programs.ids().ok()).unwrap_or_default();
        ids.extend(of.into_iter().map(|(_, id)| id));
    }
    ids
}

impl Plan {
    fn world(&self) -> &World {
        &self.scene.world
    }

    /// A node with devices in a namespace, of which none is told yet.
    fn node(&self, node: NodeId, space: &Space) -> Result<Hung, Box<Reply>> {
        let namespace = space.namespace.try_clone().map_err(|error| {
            complaint(&InstallError::System {
                step: "holding a namespace".to_owned(),
                error: error.to_string(),
            })
        })?;
        let name = self.world().node(node).map(|node| node.name.clone()).unwrap_or_default();
        Ok(Hung { name, namespace, places: Vec::new() })
    }

    /// The nodes that have devices here, with the namespaces that these are in.
    fn hung(&self) -> Result<BTreeMap<NodeId, (&Space, Hung)>, Box<Reply>> {
        let mut nodes = BTreeMap::new();
        for found in &self.finding.found {
            let Some(space) = self.spaces.get(found.space) else { continue };
            let (_, hung) = match nodes.entry(found.node) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(new) => new.insert((space, self.node(found.node, space)?)),
            };
            let place = |hook| Place { hook, device: found.device.clone() };
            hung.places.extend([Hook::FromContainer, Hook::ToContainer].map(place));
        }
        Ok(nodes)
    }

    /// The record of it, and its wires.
    fn laid_out(&self, state: &State) -> Result<(Record, AttachWires), Box<Reply>> {
        let mut record = Record::new(Kind::Attached, self.scene.tables.generation.0);
        record.sources.clone_from(&self.scene.sources);
        record.entries.clone_from(&self.scene.entries);
        let mut nodes = BTreeMap::new();
        for (id, (space, hung)) in self.hung()? {
            let (name, places) = (hung.name.clone(), hung.places.clone());
            let identity = space.namespace.identity().ok();
            record.nodes.push(Node { name, namespace: space.path.clone(), identity, places });
            nodes.insert(id, hung);
        }
        self.extra.write(&mut record);
        Ok((record, AttachWires { nodes, pins: state.pins(&self.name), mode: self.mode }))
    }
}

/// Devices that will be given a clsact qdisc.
fn without_qdisc(wires: &AttachWires) -> Result<Vec<(String, String)>, BackendError> {
    if is_by_tcx()? {
        return Ok(Vec::new());
    }
    let mut bare = Vec::new();
    for hung in wires.nodes.values() {
        let devices: BTreeSet<&String> = hung.places.iter().map(|place| &place.device).collect();
        for device in devices {
            let has = hung.namespace.visit(|| {
                attach::index(device).is_some_and(|index| attach::clsact(index).unwrap_or(true))
            });
            if !has.unwrap_or(true) {
                bare.push((hung.name.clone(), device.clone()));
            }
        }
    }
    Ok(bare)
}

/// Attaches for the first time.
fn install(state: &State, plan: &Plan) -> Result<(), Box<Reply>> {
    let (mut record, wires) = plan.laid_out(state)?;
    let qdiscs = without_qdisc(&wires).map_err(|error| refused(&error))?;
    More { qdiscs, ..plan.extra.clone() }.write(&mut record);
    let change = state.claim(&plan.name, record.clone()).map_err(|error| complaint(&error))?;
    let attached = Backed::new(wires).and_then(|mut nodes| nodes.load(&plan.scene.tables));
    let begun = attached.and_then(|()| begin(state, plan, &record));
    let saved = begun.map_err(|error| refused(&error)).and_then(|until| {
        record.stage = Stage::Up;
        More { until, ..More::of(&record) }.write(&mut record);
        change.save(record.clone()).map_err(|error| complaint(&error))
    });
    drop(change);
    saved.inspect_err(|_| {
        // The first error is the one to tell.
        let _ = super::status::remove(state, &plan.name);
    })
}

/// Lets the time that programs are given begin when they hang, not when they began to be loaded; its end.
fn begin(state: &State, plan: &Plan, record: &Record) -> Result<u64, BackendError> {
    let (until, settled) = (plan.time.map_or(0, tick_after), tick_after(SETTLING));
    for node in &record.nodes {
        let mut programs = Programs::open(&state.node_pins(&plan.name, &node.name))?;
        programs.set_mode(Mode { until, settled, ..plan.mode })?;
    }
    Ok(until)
}

/// Takes over what runs, and changes it. Nothing is dropped meanwhile: programs see the old tables until they see the new ones.
fn update(state: &State, plan: &Plan) -> Result<(), Box<Reply>> {
    let (change, written) = state.change(&plan.name).map_err(|error| complaint(&error))?;
    let (old, other) = settled(state, &plan.name, written)
        .filter(|(old, _)| old.number + 1 == plan.scene.tables.generation.0)
        .ok_or_else(|| {
            let process = "another".to_owned();
            complaint(&InstallError::Busy { name: plan.name.clone(), process })
        })?;
    if let Some(other) = other {
        remove_others(state, &plan.name, &other, &old);
    }
    let (mut record, wires) = plan.laid_out(state)?;
    let before = Scene::open(&plan.name, &old)?;
    same_numbers(&before.world, plan.world(), &old)?;
    let mut qdiscs = More::of(&old).qdiscs;
    qdiscs.extend(without_qdisc(&wires).map_err(|error| refused(&error))?);
    More { qdiscs, ..plan.extra.clone() }.write(&mut record);
    (record.stage, record.since) = (Stage::Up, old.since);
    let between = Record { next: Some(Box::new(record.clone())), ..old.clone() };
    change.save(between).map_err(|error| complaint(&error))?;
    take_over(state, plan, &old, (&before, wires)).map_err(|error| refused(&error))?;
    remove_others(state, &plan.name, &old, &record);
    change.save(record).map_err(|error| complaint(&error))
}

/// What runs, where a process may have been killed that changed it, by the number that is active; and what runs no more, or never did.
/// `None`: some nodes were changed and some were not.
fn settled(state: &State, name: &str, mut written: Record) -> Option<(Record, Option<Record>)> {
    let Some(next) = written.next.take() else { return Some((written, None)) };
    let active = |node: &Node| state.programs(name, &node.name).ok()?.active().ok();
    let is = |record: &Record| record.nodes.iter().all(|node| active(node) == Some(record.number));
    let (now, other) = if is(&next) { (*next, written) } else { (written, *next) };
    is(&now).then_some((now, Some(other)))
}

/// Takes programs off the nodes of a record that another one has no more.
fn remove_others(state: &State, name: &str, record: &Record, kept: &Record) {
    let is_gone = |node: &&Node| kept.nodes.iter().all(|kept| kept.name != node.name);
    for node in record.nodes.iter().filter(is_gone) {
        super::status::remove_node(state, name, node);
    }
}

/// Tells programs that run of new tables, and hangs them where the world has changed.
fn take_over(
    state: &State,
    plan: &Plan,
    old: &Record,
    (before, mut wires): (&Scene, AttachWires),
) -> Result<(), BackendError> {
    let is_known = |hung: &Hung| old.nodes.iter().any(|node| node.name == hung.name);
    let (known, new): (BTreeMap<NodeId, Hung>, BTreeMap<NodeId, Hung>) =
        std::mem::take(&mut wires.nodes).into_iter().partition(|(_, hung)| is_known(hung));
    wires.nodes = known;
    let mut nodes = Backed::adopt(wires, &before.tables)?;
    nodes.wires(|wires| wires.nodes.extend(new));
    nodes.load(&plan.scene.tables)?;
    let wires = nodes.let_go().ok_or_else(|| BackendError::System {
        call: "letting go of the nodes".to_owned(),
        error: "somebody else holds them".to_owned(),
    })?;
    for (id, hung) in &wires.nodes {
        let mut programs = Programs::open(&state.node_pins(&plan.name, &hung.name))?;
        let told = programs.mode();
        let hangs = |place| programs.places().any(|known| known == place);
        let is_settled = hung.places.iter().all(hangs);
        let settled = if is_settled { told.settled } else { plan.mode.settled };
        programs.set_mode(Mode { settled, ..plan.mode.telling(told) })?;
        let before = old.nodes.iter().find(|before| before.name == hung.name);
        if let Some(before) = before.filter(|before| has_moved(before, hung)) {
            leave(before, &More::of(old).qdiscs, &mut programs)?;
        }
        wires.settle(*id, &mut programs)?;
    }
    Ok(())
}

/// Whether a node's devices are in another namespace than before.
fn has_moved(before: &Node, hung: &Hung) -> bool {
    let now = hung.namespace.identity().ok();
    before.identity.is_some_and(|known| now.is_some_and(|now| now != known))
}

/// Takes a node's programs off where its devices were, and the qdiscs that were made for them.
fn leave(
    before: &Node,
    qdiscs: &[(String, String)],
    programs: &mut Programs,
) -> Result<(), BackendError> {
    let devices: BTreeSet<&String> = before.places.iter().map(|place| &place.device).collect();
    let made =
        |device: &String| qdiscs.iter().any(|(node, of)| *node == before.name && of == device);
    let mut work = || {
        devices.iter().try_for_each(|device| {
            programs.detach(device)?;
            if made(device)
                && let Some(index) = attach::index(device)
            {
                // Where somebody else has hung something on it, it stays.
                let _ = attach::remove_clsact(index);
            }
            Ok(())
        })
    };
    match super::status::inside(before, &mut work) {
        Ok(left) => left,
        // It is gone, and its devices with it.
        Err(_) => work(),
    }
}

/// Nodes go by their places in the world, which must not change under programs that run.
fn same_numbers(before: &World, now: &World, old: &Record) -> Result<(), Box<Reply>> {
    let place = |world: &World, name: &str| world.nodes.iter().position(|n| n.name == name);
    let is_same = |node: &Node| {
        let now = place(now, &node.name);
        now.is_none() || place(before, &node.name) == now
    };
    if old.nodes.iter().all(is_same) {
        return Ok(());
    }
    let message = "the nodes of the world come in another order than those of what is attached";
    let remedy = "put nodes at the end of the file, or detach first";
    Err(Box::new(Reply::failure(Status::Input, message, remedy)))
}

fn told(plan: &Plan, wanted: &Wanted, others: &[(String, String)], is_new: bool) -> Reply {
    let columns =
        [("pod", "POD"), ("node", "NODE"), ("namespace", "NAMESPACE"), ("device", "DEVICE")];
    let mut listing = Listing::new("attached", &columns);
    for found in &plan.finding.found {
        let pod = plan.world().pod(found.pod).map(engine::topology::Pod::qualified);
        let node = plan.world().node(found.node).map(|node| node.name.clone());
        let space = plan.spaces.get(found.space).map(|space| space.name.clone());
        listing.rows.push(vec![pod.into(), node.into(), space.into(), found.device.clone().into()]);
    }
    listing.notes.extend(plan.ended.iter().map(|name| super::status::over(name)));
    let name = &plan.name;
    let did = if is_new { "attached as" } else { "changed" };
    let what = if wanted.enforce {
        "programs decide what passes"
    } else {
        "programs observe only: every packet passes on as before"
    };
    listing.notes.push(format!("{did} {name}: {what}"));
    if plan.extra.until != 0 {
        let left = words::left(wanted.time.unwrap_or_else(|| time_until(plan.extra.until)));
        listing.notes.push(format!(
            "after {left} they let everything pass, unless `hopwise attach {name} --confirm` comes before"
        ));
    }
    for (device, words) in check::strangers(plan.world(), &plan.finding) {
        listing.notes.push(format!("{device}: {words}: whatever it sends is a would-be drop"));
    }
    let absent = plan.finding.absent.iter().filter_map(|id| plan.world().pod(*id));
    let absent: Vec<String> = absent.map(engine::topology::Pod::qualified).collect();
    if !absent.is_empty() {
        listing.notes.push(format!("without a device here: {}", absent.join(", ")));
    }
    for (occupant, device) in others {
        listing.notes.push(format!("beside {occupant} on {device}"));
    }
    Reply::ok(Content::Listing(listing))
}
