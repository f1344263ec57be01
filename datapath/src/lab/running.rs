//! Labs that run: whose pods have networks of their own, with the datapath on their devices. Those with a name stay when the process
//! is gone, and are written down as installations; the others go with the value that holds them.

mod resume;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::backend::{Backend, BackendError};
use engine::tables::Tables;
use engine::topology::{NodeId, World};

use super::build;
use super::change::{Change, Leaving};
use super::namespace::Namespace;
use super::wires::LabWires;
use super::{Broken, Lab, LabError, Options, Plan, Role, Space};
use crate::live::install::{self, InstallError, Kind, Record, Source, Stage, State};
use crate::live::{Backed, Place, Verified};
pub use resume::resume;

/// A world with what it compiles to.
#[derive(Clone, Copy)]
pub struct Scene<'a> {
    /// The world.
    pub world: &'a World,
    /// Its tables.
    pub tables: &'a Tables,
}

impl Scene<'_> {
    fn plan(&self) -> Result<Plan, LabError> {
        Ok(Plan::of(self.world, self.tables, Options::default())?)
    }
}

/// The texts that a scene comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// All of them.
    pub sources: Vec<Source>,
    /// The names of those that are loaded, without what they include.
    pub entries: Vec<String>,
}

/// A lab that runs.
pub struct Running {
    live: Backed<LabWires>,
}

/// Whose names pods have that come and go by a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Those that came.
    pub come: Vec<String>,
    /// Those that went.
    pub gone: Vec<String>,
}

fn of_datapath(error: BackendError) -> LabError {
    LabError::Datapath(error)
}

/// Where a lab's namespaces have names, if it has one itself.
struct Home<'a> {
    state: &'a State,
    name: &'a str,
}

impl Home<'_> {
    fn path(&self, space: &Space) -> PathBuf {
        self.state.namespace(self.name, &space.place)
    }
}

fn path_in(home: Option<&Home<'_>>, space: &Space) -> Option<PathBuf> {
    home.map(|home| home.path(space))
}

impl Running {
    /// Makes one without a name.
    pub fn make(scene: Scene<'_>) -> Result<Self, LabError> {
        Self::make_in(scene, None)
    }

    fn make_in(scene: Scene<'_>, home: Option<&Home<'_>>) -> Result<Self, LabError> {
        let plan = scene.plan()?;
        let (programs, spaces) =
            Verified::beside(scene.tables, || build::make(&plan, &|space| path_in(home, space)));
        let spaces = spaces?;
        let wires = LabWires::quiet(Lab { plan, spaces }, scene.world, scene.tables);
        let wires = match home {
            Some(home) => wires.pinned(home.state.pins(home.name)),
            None => wires,
        };
        let mut live = Backed::with(wires, programs.map_err(of_datapath)?);
        live.load(scene.tables).map_err(of_datapath)?;
        Ok(Self { live })
    }

    /// Opens what runs already under a name.
    fn open(scene: Scene<'_>, home: &Home<'_>) -> Result<Self, LabError> {
        let wires = LabWires::quiet(opened(scene, home)?, scene.world, scene.tables);
        let wires = wires.pinned(home.state.pins(home.name));
        Ok(Self { live: Backed::adopt(wires, scene.tables).map_err(of_datapath)? })
    }

    /// What is on its devices.
    pub fn live(&mut self) -> &mut Backed<LabWires> {
        &mut self.live
    }

    /// The namespace of a role.
    pub fn space(&mut self, role: Role) -> Result<Namespace, LabError> {
        let found = self.live.wires(|wires| wires.lab().space(role).map(Namespace::try_clone));
        let found = found.ok_or_else(|| {
            LabError::system("looking for a namespace", "the lab has none for that")
        })?;
        found.map_err(|error| LabError::system("opening a namespace", error))
    }

    /// Makes it another world's while packets pass.
    pub fn change(&mut self, scene: Scene<'_>) -> Result<Moved, LabError> {
        self.change_in(scene, None)
    }

    fn change_in(&mut self, scene: Scene<'_>, home: Option<&Home<'_>>) -> Result<Moved, LabError> {
        let plan = scene.plan()?;
        let old = self.live.wires(|wires| wires.lab().plan().clone());
        let change = Change::between(&old, &plan)?;
        let naming = |space: &Space| path_in(home, space);
        let mut released = |space: &Space| match path_in(home, space) {
            Some(path) => release(&path),
            None => Ok(()),
        };
        for device in &change.gone {
            if change.is_in_the_way(device) {
                self.detach(device.node, &device.device)?;
            }
        }
        let leaving = self.live.wires(|wires| {
            wires.change(scene.world, scene.tables, |lab| {
                lab.prepare(plan, &change, &naming, &mut released)
            })
        })?;
        self.take_over(scene, &change)?;
        self.leave(leaving, &mut released)?;
        let names = |devices: &[super::PodDevice]| {
            let mut names: Vec<String> = devices.iter().map(|device| device.pod.clone()).collect();
            names.sort();
            names
        };
        Ok(Moved { come: names(&change.come), gone: names(&change.gone) })
    }

    /// Hangs programs on new devices, then activates the tables.
    fn take_over(&mut self, scene: Scene<'_>, change: &Change) -> Result<(), LabError> {
        for device in &change.come {
            let space = self.space(Role::Node(device.node))?;
            let places = LabWires::of_pod(&device.device);
            let Some(programs) = self.live.programs(device.node) else { continue };
            let hung = space.visit(|| places.into_iter().try_for_each(|p| programs.attach(p)));
            hung.map_err(|error| LabError::system("entering a namespace", error))?
                .map_err(of_datapath)?;
        }
        self.live.load(scene.tables).map_err(of_datapath)?;
        for node in scene.tables.nodes.iter().map(|node| node.node) {
            let space = self.space(Role::Node(node))?;
            let Some(programs) = self.live.programs(node) else { continue };
            let alone = space.visit(|| programs.left_alone());
            alone
                .map_err(|error| LabError::system("entering a namespace", error))?
                .map_err(of_datapath)?;
        }
        Ok(())
    }

    fn leave(
        &mut self,
        leaving: Leaving,
        released: &mut dyn FnMut(&Space) -> Result<(), LabError>,
    ) -> Result<(), LabError> {
        for device in &leaving.devices {
            self.detach(device.node, &device.device)?;
        }
        self.live.wires(|wires| wires.lab().finish(leaving, released))
    }

    fn detach(&mut self, node: NodeId, device: &str) -> Result<(), LabError> {
        let space = self.space(Role::Node(node))?;
        let Some(programs) = self.live.programs(node) else { return Ok(()) };
        let off = space.visit(|| programs.detach(device));
        off.map_err(|error| LabError::system("entering a namespace", error))?.map_err(of_datapath)
    }

    /// Where programs hang, by node.
    fn places(&mut self, tables: &Tables) -> Vec<Vec<Place>> {
        let places = |node: NodeId| {
            let programs = self.live.programs(node);
            programs.map(|programs| programs.places().cloned().collect()).unwrap_or_default()
        };
        tables.nodes.iter().map(|node| node.node).map(places).collect()
    }
}

/// What is written down about a lab.
fn record(scene: Scene<'_>, home: &Home<'_>, texts: Texts) -> Result<Record, LabError> {
    let plan = scene.plan()?;
    let path = |space: &Space| home.path(space);
    let nodes = plan.spaces.iter().filter(|space| matches!(space.role, Role::Node(_)));
    Ok(Record {
        sources: texts.sources,
        entries: texts.entries,
        nodes: nodes
            .map(|space| install::Node {
                name: space.name.clone(),
                namespace: Some(path(space)),
                identity: None,
                places: Vec::new(),
            })
            .collect(),
        spaces: plan
            .spaces
            .iter()
            .map(|space| install::Space { name: space.name.clone(), path: path(space) })
            .collect(),
        ..Record::new(Kind::Lab, scene.tables.generation.0)
    })
}

fn is_up(mut record: Record, places: Vec<Vec<Place>>) -> Record {
    for (node, places) in record.nodes.iter_mut().zip(places) {
        node.places = places;
    }
    Record { stage: Stage::Up, ..record }
}

/// Opens a lab of a name to send frames in it; `scene` is what its record's texts mean, under the record's number. Nothing changes by
/// that, and programs tell what they told before.
pub fn enter(state: &State, name: &str, scene: Scene<'_>) -> Result<Backed<LabWires>, LabError> {
    let lab = opened(scene, &Home { state, name })?;
    let wires = LabWires::on(lab, scene.world, scene.tables)?.pinned(state.pins(name));
    Backed::adopt(wires, scene.tables).map_err(of_datapath)
}

/// The namespaces of a lab of a name.
fn opened(scene: Scene<'_>, home: &Home<'_>) -> Result<Lab, LabError> {
    let plan = scene.plan()?;
    let open = |space: &Space| {
        Namespace::open(&home.path(space))
            .map_err(|error| LabError::system(format!("opening {}", space.name), error))
    };
    let spaces = plan.spaces.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    Ok(Lab { plan, spaces })
}

/// Devices of a lab of a name that are gone or down.
///
/// # Errors
/// Where a namespace is gone.
pub fn broken(state: &State, name: &str, scene: Scene<'_>) -> Result<Vec<Broken>, LabError> {
    Ok(opened(scene, &Home { state, name })?.broken())
}

/// Makes a lab of a name. On an error nothing of it stays.
pub fn up(state: &State, name: &str, scene: Scene<'_>, texts: Texts) -> Result<(), LabError> {
    let home = Home { state, name };
    let record = record(scene, &home, texts)?;
    let claimed = state.claim(name, record.clone())?;
    let made = Running::make_in(scene, Some(&home)).and_then(|mut lab| {
        let places = lab.places(scene.tables);
        Ok(claimed.save(is_up(record, places))?)
    });
    if made.is_err() {
        drop(claimed);
        drop(down(state, name));
    }
    made
}

/// Makes a lab of a name another world's while packets pass: policies from one packet to the next, pods that come before that and
/// pods that go after it. `before` is what its record's texts mean, under the record's number; `after` has the next one.
pub fn apply(
    state: &State,
    name: &str,
    (before, after): (Scene<'_>, Scene<'_>),
    texts: Texts,
) -> Result<Moved, LabError> {
    let home = Home { state, name };
    let (claimed, old) = state.change(name)?;
    if old.number != before.tables.generation.0 {
        return Err(
            InstallError::Busy { name: name.to_owned(), process: old.process.to_string() }.into()
        );
    }
    let new = Record { since: old.since, ..record(after, &home, texts)? };
    let (was, will) = (before.plan()?, after.plan()?);
    let change = Change::between(&was, &will)?;
    let mut lab = Running::open(before, &home)?;
    let next = Some(Box::new(new.clone()));
    claimed.save(Record { stage: Stage::Building, next, ..old.clone() })?;
    match lab.change_in(after, Some(&home)) {
        Ok(moved) => {
            let places = lab.places(after.tables);
            claimed.save(is_up(new, places))?;
            Ok(moved)
        }
        Err(error) => {
            drop(lab);
            undo(&home, &will, &change);
            claimed.save(old)?;
            Err(error)
        }
    }
}

/// Takes away what was made for pods that then did not come.
fn undo(home: &Home<'_>, plan: &Plan, change: &Change) {
    for device in &change.come {
        let node = plan.space(Role::Node(device.node)).map(|space| home.path(space));
        if let Some(node) = node.and_then(|path| Namespace::open(&path).ok()) {
            drop(build::unlink(&node, vec![device.device.clone()]));
        }
        let pod = plan.spaces.iter().find(|space| space.name == device.pod);
        drop(pod.map(|space| release(&home.path(space))));
    }
}

/// Removes a lab of a name, however far its maker came, with all devices: also those of namespaces that a process is still in.
pub fn down(state: &State, name: &str) -> Result<(), LabError> {
    if let Ok(Record { kind: Kind::Attached, .. }) = state.open(name) {
        return Err(LabError::NotALab(name.to_owned()));
    }
    let held = held(&state.namespace(name, ""));
    remove(state, name)?;
    held.iter().for_each(empty);
    Ok(())
}

/// Removes an installation. A program that another thread of this process is about to start has our descriptors, and a lock with
/// them, for a moment.
fn remove(state: &State, name: &str) -> Result<(), LabError> {
    let (begun, own) = (Instant::now(), std::process::id().to_string());
    loop {
        match state.remove(name) {
            Err(InstallError::Busy { process, .. })
                if process == own && begun.elapsed() < Duration::from_secs(1) =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return Ok(done?),
        }
    }
}

/// Removes all labs, and whatever is left of labs; says what their names were.
pub fn down_all(state: &State) -> Result<Vec<String>, LabError> {
    let is_attached = |found: &install::Summary| {
        found.record.as_ref().is_some_and(|record| record.kind == Kind::Attached)
    };
    let (others, labs): (Vec<_>, Vec<_>) = state.list().into_iter().partition(is_attached);
    let mut names: Vec<String> = labs.into_iter().map(|found| found.name).collect();
    for name in &names {
        down(state, name)?;
    }
    if others.is_empty() {
        let first = state.namespace("", "");
        let first = first.to_string_lossy().trim_end_matches('-').to_owned() + "-";
        let held = held(Path::new(&first));
        names.extend(state.remove_all()?);
        held.iter().for_each(empty);
    }
    Ok(names)
}

/// The namespaces whose files begin so.
fn held(begin: &Path) -> Vec<Namespace> {
    let (Some(directory), Some(begin)) = (begin.parent(), begin.file_name()) else {
        return Vec::new();
    };
    let begin = begin.to_string_lossy().into_owned();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&*begin));
    entries.filter_map(|entry| Namespace::open(&entry.path()).ok()).collect()
}

/// Removes all devices of a namespace that can be removed. One whose maker was killed before it was mounted is none.
fn empty(space: &Namespace) {
    let names = || {
        let text = fs::read_to_string("/proc/thread-self/net/dev")?;
        let names = text.lines().filter_map(|line| line.split_once(':'));
        Ok(names.map(|(name, _)| name.trim().to_owned()).collect::<Vec<_>>())
    };
    for name in space.within(names).unwrap_or_default() {
        if name != "lo" {
            drop(build::unlink(space, vec![name]));
        }
    }
}

/// Takes a name off a namespace.
fn release(path: &Path) -> Result<(), LabError> {
    Ok(install::release(path)?)
}
