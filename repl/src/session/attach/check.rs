//! Whether programs may act on devices that others use: nothing else decides there, and everything that the file asks for can be
//! done from the devices of pods alone.

use std::collections::BTreeSet;

use datapath::attach::{AttachError, Finding, Found, Space, has_ingress, occupants};
use datapath::live::is_by_tcx;
use engine::topology::World;

use super::scene::complaint;
use crate::reply::{Reply, Status};

/// What hangs on the devices already, by device, but for programs of these numbers.
pub(super) fn others(
    spaces: &[Space],
    finding: &Finding,
    own: &BTreeSet<u32>,
) -> Result<Vec<(String, String)>, Box<Reply>> {
    let mut others = Vec::new();
    for Found { device, index, space, .. } in &finding.found {
        let Some(space) = spaces.get(*space) else { continue };
        let on = space.namespace.within(|| occupants(device, *index)).map_err(|error| {
            let step = format!("asking what sits on {device}");
            complaint(&datapath::live::install::InstallError::System {
                step,
                error: error.to_string(),
            })
        })?;
        let foreign = on.iter().filter(|occupant| occupant.id.is_none_or(|id| !own.contains(&id)));
        others.extend(foreign.map(|occupant| (occupant.to_string(), device.clone())));
    }
    Ok(others)
}

/// Devices whose pod has other addresses here than in the file, with what is said of that.
pub(super) fn strangers<'a>(
    world: &'a World,
    finding: &'a Finding,
) -> impl Iterator<Item = (&'a str, String)> {
    let strange = finding.found.iter().filter(|found| !found.strange.is_empty());
    strange.filter_map(|found| {
        let pod = world.pod(found.pod)?.qualified();
        let addresses: Vec<String> = found.strange.iter().map(ToString::to_string).collect();
        let words =
            format!("its pod has no {}, which the file gives {pod}", addresses.join(" and no "));
        Some((found.device.as_str(), words))
    })
}

/// Refuses where a program would hang at another side than its own.
pub(super) fn may_hang(spaces: &[Space], finding: &Finding) -> Result<(), AttachError> {
    if is_by_tcx()? {
        return Ok(());
    }
    for Found { device, index, space, .. } in &finding.found {
        let Some(space) = spaces.get(*space) else { continue };
        // A namespace that went away meanwhile is told of when something is hung in it.
        if space.namespace.within(|| has_ingress(*index)).unwrap_or(false) {
            return Err(AttachError::Ingress { device: device.clone() });
        }
    }
    Ok(())
}

/// Refuses to act where that would be wrong.
pub(super) fn may_enforce(
    world: &World,
    finding: &Finding,
    others: &[(String, String)],
) -> Result<(), Box<Reply>> {
    let input = |message: String, remedy: &str| {
        Err(Box::new(Reply::failure(Status::Input, message, remedy)))
    };
    if let Some((occupant, device)) = others.first() {
        let error = AttachError::Occupied { occupant: occupant.clone(), device: device.clone() };
        return Err(Box::new(Reply::failure(
            Status::Environment,
            error.to_string(),
            error.remedy(),
        )));
    }
    let cluster = &world.cluster;
    if let Some((device, words)) = strangers(world, finding).next() {
        return input(
            format!("{device}: {words}: whatever it sends would be dropped"),
            "write the pod's addresses as they are here, or another `interface`",
        );
    }
    let elsewhere =
        [(cluster.host_firewall, "host-firewall on"), (!cluster.prefilter.is_empty(), "prefilter")];
    if let Some((_, setting)) = elsewhere.iter().find(|(is_set, _)| *is_set) {
        return input(
            format!("`{setting}` protects the nodes' own devices, on which nothing is hung here"),
            "leave it out of the file, or attach without `--enforce`",
        );
    }
    if let Some(service) = world.services.first() {
        let blind = finding.found.iter().find(|found| {
            found.mac.is_none() && world.pod(found.pod).is_none_or(|pod| pod.mac.is_none())
        });
        if let Some(found) = blind {
            return input(
                format!(
                    "the other end of {} cannot be found, nor its Ethernet address: what its pod sends to itself by `{}` would not reach it",
                    found.device,
                    service.qualified()
                ),
                "give the pod its `mac` in the file",
            );
        }
    }
    Ok(())
}
