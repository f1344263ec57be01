//! What is attached where, and taking it off again.

use std::collections::BTreeSet;
use std::time::Duration;

use datapath::attach;
use datapath::lab::namespace::Namespace;
use datapath::live::install::{InstallError, Kind, Node, Record, State, Summary};
use datapath::live::{Mode, Programs, Side, time_until};
use engine::backend::BackendError;
use engine::net::{Direction, Hook};
use engine::trace::Counter;

use super::install::More;
use super::scene::{complaint, state};
use super::words;
use crate::reply::{Cell, Content, Listing, Reply, Status};

/// What is said where a killed process left programs telling.
pub(in crate::session) const UNHEARD: &str =
    "whoever listened was killed: its programs tell nothing any more";

const COLUMNS: [(&str, &str); 12] = [
    ("installation", "NAME"),
    ("mode", "MODE"),
    ("node", "NODE"),
    ("namespace", "NAMESPACE"),
    ("hook", "HOOK"),
    ("devices", "DEVICES"),
    ("state", "STATE"),
    ("program", "PROGRAM"),
    ("generation", "GENERATION"),
    ("passed", "PASSED"),
    ("dropped", "DROPPED"),
    ("lost", "LOST"),
];

fn attached(state: &State) -> Vec<Summary> {
    let is_attached =
        |found: &Summary| found.record.as_ref().is_some_and(|record| record.kind == Kind::Attached);
    state.list().into_iter().filter(is_attached).collect()
}

/// Why this process can neither see what is attached nor take it off, if that is so and anything is.
fn powerless(state: &State) -> Option<Reply> {
    let refused = attach::rights().err()?;
    if state.list().is_empty() {
        return None;
    }
    Some(Reply::failure(Status::Environment, refused.to_string(), refused.remedy()))
}

/// `status [NAME]`
pub(crate) fn status(name: Option<&str>) -> Reply {
    let state = state();
    if let Some(reply) = powerless(&state) {
        return reply;
    }
    let ended = expire_all(&state);
    let mut listing = Listing::new("attachments", &COLUMNS);
    let mut is_known = name.is_none();
    for found in attached(&state) {
        if name.is_some_and(|name| name != found.name) {
            continue;
        }
        is_known = true;
        if let Err(reply) = tell(&state, &found, &mut listing) {
            return *reply;
        }
    }
    let unreadable =
        state.list().into_iter().filter(|found| found.record.is_none() && !found.is_busy);
    let unreadable: Vec<String> = unreadable.map(|found| found.name).collect();
    if !is_known && !name.is_some_and(|name| unreadable.iter().any(|known| known == name)) {
        let known = attached(&state).into_iter().map(|found| found.name).collect();
        let name = name.unwrap_or_default().to_owned();
        return *complaint(&InstallError::Absent { name, known });
    }
    listing.notes.extend(ended.iter().map(|name| over(name)));
    if name.is_none() {
        listing.notes.extend(unheard_labs(&state));
    }
    listing.notes.extend(unreadable.into_iter().map(|name| {
        format!("{name}: what is written down of it cannot be read; `hopwise detach {name}` takes off what is there")
    }));
    if listing.rows.is_empty() && listing.notes.is_empty() {
        listing.notes.push("nothing is attached".to_owned());
    }
    Reply::ok(Content::Listing(listing))
}

/// What is said of one whose time is over.
pub(in crate::session) fn over(name: &str) -> String {
    format!("the time of {name} is over: it is detached")
}

/// Makes programs of labs quiet that nobody listens to any more; what is said of that.
fn unheard_labs(state: &State) -> Vec<String> {
    let labs = state.list().into_iter().filter_map(|found| Some((found.name, found.record?)));
    let labs = labs.filter(|(_, record)| record.kind == Kind::Lab);
    let unheard = labs.filter(|(name, record)| state.hush(name, record));
    unheard.map(|(name, _)| format!("lab {name}: {UNHEARD}")).collect()
}

fn tell(state: &State, found: &Summary, listing: &mut Listing) -> Result<(), Box<Reply>> {
    let name = &found.name;
    let record = match state.open(name) {
        Ok(record) => record,
        Err(error) => {
            listing.notes.push(format!("{error}; {}", complaint_remedy(&error)));
            return Ok(());
        }
    };
    if state.hush(name, &record) {
        listing.notes.push(format!("{name}: {UNHEARD}"));
    }
    let more = More::of(&record);
    for node in &record.nodes {
        if !state.node_pins(name, &node.name).exists() {
            let node = &node.name;
            listing.notes.push(format!(
                "{name}: the pins of {node} are gone, so that nothing is known of its programs; `hopwise attach {name} -f FILE` begins anew, `hopwise detach {name}` ends it"
            ));
            continue;
        }
        let rows = rows(state, name, node, more.observes);
        listing.rows.extend(rows.map_err(|error| crate::session::refused(&error))?);
        let others = others(state, name, node).into_iter();
        listing.notes.extend(others.map(|other| format!("{name}: {other}")));
    }
    if more.observes {
        let text = "it only observes: what is dropped would be, and what may be of older flows counts as passed";
        listing.notes.push(format!("{name}: {text}"));
    }
    if more.until != 0 {
        let left = words::left(time_until(more.until));
        listing.notes.push(format!(
            "{name}: everything passes after {left} more, unless `hopwise attach {name} --confirm` comes before"
        ));
    }
    Ok(())
}

fn complaint_remedy(error: &InstallError) -> String {
    match complaint(error).content {
        Content::Failure(failure) => failure.remedy.unwrap_or_default(),
        _ => String::new(),
    }
}

fn rows(
    state: &State,
    name: &str,
    node: &Node,
    observes: bool,
) -> Result<Vec<Vec<Cell>>, BackendError> {
    let mut programs = Programs::open(&state.node_pins(name, &node.name))?;
    let (counters, generation) = (programs.counters()?, programs.active()?);
    let (ids, lost) = (programs.ids()?, programs.lost()?);
    let space = node.namespace.as_ref();
    let mut rows = Vec::new();
    for hook in Hook::ALL {
        let places = node.places.iter().filter(|place| place.hook == hook);
        let devices: Vec<String> = places.map(|place| place.device.clone()).collect();
        let Some((_, id)) = ids.iter().find(|(of, _)| *of == hook && !devices.is_empty()) else {
            continue;
        };
        let (passed, dropped) = counted(&counters, hook);
        rows.push(vec![
            name.into(),
            if observes { "observe" } else { "enforce" }.into(),
            node.name.clone().into(),
            space.map_or_else(|| "own".to_owned(), |path| path.display().to_string()).into(),
            hook.to_string().into(),
            devices.clone().into(),
            hold(node, &devices, Side::of(hook), *id).into(),
            (*id).into(),
            generation.into(),
            passed.into(),
            dropped.into(),
            lost.into(),
        ]);
    }
    Ok(rows)
}

/// Whether a program hangs on its devices.
fn hold(node: &Node, devices: &[String], side: Side, id: u32) -> String {
    let look = || {
        let is_gone = |device: &&String| !attach::hangs(device, side, id);
        devices.iter().filter(is_gone).cloned().collect::<Vec<_>>()
    };
    match inside(node, look) {
        Ok(gone) if gone.is_empty() => "attached".to_owned(),
        Ok(gone) => format!("gone from {}", gone.join(", ")),
        Err(_) => "out of reach".to_owned(),
    }
}

/// What hangs on a node's devices beside its programs.
fn others(state: &State, name: &str, node: &Node) -> Vec<String> {
    let own = Programs::open(&state.node_pins(name, &node.name)).and_then(|mut own| own.ids());
    let own: BTreeSet<u32> = own.unwrap_or_default().into_iter().map(|(_, id)| id).collect();
    let devices: BTreeSet<&String> = node.places.iter().map(|place| &place.device).collect();
    let on = |device: &&String| -> Vec<String> {
        let on = attach::index(device).map(|index| attach::occupants(device, index));
        let on = on.and_then(Result::ok).unwrap_or_default();
        let foreign = on.iter().filter(|other| other.id.is_none_or(|id| !own.contains(&id)));
        foreign.map(|other| format!("beside {other} on {device}")).collect()
    };
    inside(node, || devices.iter().flat_map(on).collect()).unwrap_or_default()
}

/// Packets that a hook let pass, on the side that it is on, and that it dropped.
fn counted(counters: &[Counter], hook: Hook) -> (u64, u64) {
    let side = if Side::of(hook) == Side::Egress { Direction::Ingress } else { Direction::Egress };
    let of = |wanted: &dyn Fn(&&Counter) -> bool| {
        let counters = counters.iter().filter(|counter| counter.hook == hook);
        counters.filter(|counter| wanted(counter)).map(|counter| counter.packets).sum()
    };
    let passed = of(&|counter| counter.reason.is_none() && counter.direction == side);
    (passed, of(&|counter| counter.reason.is_some()))
}

/// `detach NAME`
pub(crate) fn detach(name: Option<&str>) -> Reply {
    let state = state();
    if let Some(reply) = powerless(&state) {
        return reply;
    }
    let removed = || -> Result<String, Box<Reply>> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => state.meant(None, Some(Kind::Attached)).map_err(|error| complaint(&error))?,
        };
        let record = summary(&state, &name).and_then(|found| found.record);
        if record.as_ref().is_some_and(|record| record.kind == Kind::Lab) {
            let message = format!("`{name}` is a lab");
            let remedy = format!("`hopwise lab down {name}` takes it down");
            return Err(Box::new(Reply::failure(Status::Input, message, remedy)));
        }
        let lost = out_of_reach(record.as_ref());
        remove(&state, &name).map_err(|error| complaint(&error))?;
        Ok(name + &lost)
    };
    match removed() {
        Ok(name) => Reply::text(format!("detached {name}")),
        Err(reply) => *reply,
    }
}

fn summary(state: &State, name: &str) -> Option<Summary> {
    state.list().into_iter().find(|found| found.name == name)
}

/// `detach --all`: also what a killed process left.
pub(crate) fn detach_all() -> Reply {
    let state = state();
    if let Some(reply) = powerless(&state) {
        return reply;
    }
    let mut removed = Vec::new();
    let is_ours = |found: &Summary| match &found.record {
        Some(record) => record.kind == Kind::Attached,
        // Whoever made it was killed before it had a kind.
        None => !found.is_busy,
    };
    for found in state.list().into_iter().filter(is_ours) {
        let lost = out_of_reach(found.record.as_ref());
        if let Err(error) = remove(&state, &found.name) {
            return *complaint(&error);
        }
        removed.push(found.name + &lost);
    }
    without_folders(&state);
    if removed.is_empty() {
        return Reply::text("nothing is attached");
    }
    Reply::text(format!("detached {}", removed.join(", ")))
}

/// Takes off what is there of a name.
pub(super) fn detach_as_it_is(state: &State, name: &str) -> Result<(), Box<Reply>> {
    remove(state, name).map_err(|error| complaint(&error))
}

/// Takes programs off, and the qdiscs that were made for them.
pub(super) fn remove(state: &State, name: &str) -> Result<(), InstallError> {
    state.remove_with(name, without_qdiscs)?;
    without_folders(state);
    Ok(())
}

/// Removes the folders of all installations, which a killed process may have left empty.
fn without_folders(state: &State) {
    // Where something else is in them, they stay.
    drop(std::fs::remove_dir(state.run()));
    drop(std::fs::remove_dir(state.all_pins()));
}

/// Takes away the qdiscs that were made for it, but for those that somebody else has hung something on.
fn without_qdiscs(record: &Record) {
    let next = record.next.as_deref();
    let mut qdiscs = More::of(record).qdiscs;
    qdiscs.extend(next.into_iter().flat_map(|next| More::of(next).qdiscs));
    for (node, device) in qdiscs {
        let Some(node) = record.all_nodes().find(|known| known.name == node) else { continue };
        let work = || attach::index(&device).map_or(Ok(()), attach::remove_clsact);
        // A device or namespace that is gone took its qdiscs along.
        let _ = inside(node, work);
    }
}

pub(super) fn inside<T>(node: &Node, work: impl FnOnce() -> T) -> std::io::Result<T> {
    let lost = || std::io::Error::other("nothing leads to its network namespace");
    Namespace::open(&node.reach().ok_or_else(lost)?)?.visit(work)
}

/// What is said of nodes whose namespaces nothing leads to.
fn out_of_reach(record: Option<&Record>) -> String {
    let nodes = record.into_iter().flat_map(Record::all_nodes);
    let lost: Vec<&str> =
        nodes.filter(|node| node.reach().is_none()).map(|node| node.name.as_str()).collect();
    if lost.is_empty() {
        return String::new();
    }
    let nodes = lost.join(", ");
    format!(
        "; nothing leads to the network namespace of {nodes} any more: what may hang there yet lets everything pass"
    )
}

/// Takes a node's programs off that the world has no more.
pub(super) fn remove_node(state: &State, name: &str, node: &Node) {
    let pins = state.node_pins(name, &node.name);
    // What cannot be opened goes with the rest when it is detached.
    let remove = || Programs::open(&pins).and_then(Programs::remove);
    if inside(node, remove).is_err() {
        let _ = remove();
    }
}

/// `attach NAME --confirm`: what would end goes on.
pub(crate) fn confirm(name: Option<&str>) -> Reply {
    let state = state();
    expire_all(&state);
    let confirmed = || -> Result<String, Box<Reply>> {
        let name = match name {
            Some(name) => name.to_owned(),
            None => state.meant(None, Some(Kind::Attached)).map_err(|error| complaint(&error))?,
        };
        let (change, mut record) = state.change(&name).map_err(|error| complaint(&error))?;
        let extra = More::of(&record);
        if extra.until == 0 {
            let message = format!("`{name}` does not end by itself");
            let remedy = "there is nothing to confirm; `hopwise status` says what is attached";
            return Err(Box::new(Reply::failure(Status::Input, message, remedy)));
        }
        for node in &record.nodes {
            let told =
                Programs::open(&state.node_pins(&name, &node.name)).and_then(|mut programs| {
                    let mode = programs.mode();
                    programs.set_mode(Mode { until: 0, ..mode })
                });
            told.map_err(|error| crate::session::refused(&error))?;
        }
        More { until: 0, ..extra }.write(&mut record);
        change.save(record).map_err(|error| complaint(&error))?;
        Ok(name)
    };
    match confirmed() {
        Ok(name) => Reply::text(format!("{name} stays until `hopwise detach {name}`")),
        Err(reply) => *reply,
    }
}

/// How long it is until an installation ends by itself, or nothing where it does not any more. One whose time is over is removed.
pub(crate) fn expire(name: &str) -> Option<Duration> {
    let state = state();
    let record = state.open(name).ok()?;
    let until = More::of(&record).until;
    if until == 0 {
        return None;
    }
    let left = time_until(until);
    if left.is_zero() {
        // Its programs do nothing any more; whoever is at work on it now will be followed by somebody who asks again.
        let _ = remove(&state, name);
        return None;
    }
    Some(left)
}

/// Removes what ended; says what it was.
pub(in crate::session) fn expire_all(state: &State) -> Vec<String> {
    let mut ended = Vec::new();
    for found in attached(state) {
        let until = found.record.as_ref().map_or(0, |record| More::of(record).until);
        let is_over = until != 0 && time_until(until).is_zero();
        if is_over && remove(state, &found.name).is_ok() {
            ended.push(found.name);
        }
    }
    ended
}

/// The name of the only one.
pub(crate) fn only() -> Option<String> {
    state().meant(None, Some(Kind::Attached)).ok()
}
