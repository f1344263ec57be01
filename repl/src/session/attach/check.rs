//! Whether programs may act on devices that others use: nothing else decides there, and everything that the programs would do can be
//! done from the devices of pods alone.

use std::collections::BTreeSet;

use datapath::attach::{AttachError, Finding, Found, Space, occupants};
use engine::topology::{HostRouting, NodeId, Routing, World};

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
    if cluster.routing == Routing::Tunnel || cluster.host_routing != HostRouting::Stack {
        return input(
            "only the node's own stack can route what leaves devices that were here before"
                .to_owned(),
            "say `tunnel none` and `host-routing stack` in the cluster, or attach without `--enforce`",
        );
    }
    if let Some(service) = world.services.first() {
        return input(
            format!(
                "answers of `{}` do not all come by the devices of pods, so that it cannot be translated there",
                service.qualified()
            ),
            "leave services out, whoever translates them now goes on doing so; or attach without `--enforce`",
        );
    }
    let nodes: BTreeSet<NodeId> = finding.found.iter().map(|found| found.node).collect();
    let absent = finding.absent.iter().filter_map(|id| world.pod(*id));
    if let Some(pod) = absent.clone().find(|pod| nodes.contains(&pod.node)) {
        return input(
            format!("`{}` has no device here although other pods of its node do", pod.qualified()),
            "give it its `interface` or its address, take it out of the file, or attach without `--enforce`",
        );
    }
    let blind = finding.found.iter().find(|found| {
        found.mac.is_none() && world.pod(found.pod).is_none_or(|pod| pod.mac.is_none())
    });
    if let Some(found) = blind {
        return input(
            format!("the other end of {} cannot be found, nor its Ethernet address", found.device),
            "give the pod its `mac` in the file",
        );
    }
    Ok(())
}
