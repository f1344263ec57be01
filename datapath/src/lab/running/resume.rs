//! Going on with a change of a lab that a process was killed over, wherever it was: what it made of new pods is taken away, so that the
//! whole change can be made again; what it did to all others is done once more, which changes nothing.

use super::{Home, Moved, Running, Scene, is_up, release};
use crate::lab::build;
use crate::lab::change::{Change, PodDevice};
use crate::lab::namespace::Namespace;
use crate::lab::{LabError, Plan, Role, Space};
use crate::live::Programs;
use crate::live::install::{self, InstallError, Record, State};

/// Makes a lab what it was to become. `interrupted` is what [`State::resume`] gave; `before` and `after` are what its record's texts and
/// those of the next one mean, under their numbers.
pub fn resume(
    state: &State,
    (claimed, record): (install::Change, Record),
    (before, after): (Scene<'_>, Scene<'_>),
) -> Result<Moved, LabError> {
    let name = claimed.name().to_owned();
    let home = Home { state, name: &name };
    let next = record.next.ok_or_else(|| InstallError::Unfinished(name.clone()))?;
    let (was, will) = (before.plan()?, after.plan()?);
    let change = Change::between(&was, &will)?;
    for device in &change.come {
        take_away(&home, &will, device)?;
    }
    for device in &change.gone {
        stand_in(&home, &was, device)?;
    }
    let mut lab = Running::open(before, &home)?;
    let moved = lab.change_in(after, Some(&home))?;
    let places = lab.places(after.tables);
    claimed.save(is_up(*next, places))?;
    Ok(moved)
}

fn of_pod<'p>(plan: &'p Plan, device: &PodDevice) -> Option<&'p Space> {
    plan.spaces.iter().find(|space| space.name == device.pod)
}

/// Takes away what is there of a new pod: nobody has been told of it yet.
fn take_away(home: &Home<'_>, plan: &Plan, device: &PodDevice) -> Result<(), LabError> {
    if let Some(space) = plan.space(Role::Node(device.node)) {
        let node = Namespace::open(&home.path(space))
            .map_err(|error| LabError::system(format!("opening {}", space.name), error))?;
        let pins = home.state.node_pins(home.name, &space.name);
        let off = node.visit(|| Programs::open(&pins)?.detach(&device.device));
        off.map_err(|error| LabError::system("entering a namespace", error))?
            .map_err(LabError::Datapath)?;
        build::unlink(&node, vec![device.device.clone()])?;
    }
    of_pod(plan, device).map_or(Ok(()), |space| release(&home.path(space)))
}

/// Makes an empty network for a pod that was to go and is gone already, so that it can go.
fn stand_in(home: &Home<'_>, plan: &Plan, device: &PodDevice) -> Result<(), LabError> {
    match of_pod(plan, device) {
        Some(space) if !home.path(space).exists() => {
            build::namespace(space, &|space| Some(home.path(space))).map(drop)
        }
        _ => Ok(()),
    }
}
