//! What no lab can host, told before anything is made.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use engine::tables::{NodeTables, Tables};
use engine::topology::{Routing, TunnelKind};

use super::{DeviceKind, MOST, Plan, PlanError, Space, draw};

/// What can be told of the world.
pub(super) fn world(tables: &Tables) -> Result<(), PlanError> {
    let count = tables.nodes.iter().map(|node| 1 + node.endpoints.len()).sum::<usize>();
    if count >= MOST {
        return Err(PlanError::TooMany(count));
    }
    let is_geneve = |node: &NodeTables| {
        node.routing == Routing::Tunnel && node.tunnel.kind == TunnelKind::Geneve
    };
    if tables.nodes.iter().any(is_geneve) {
        return Err(PlanError::Geneve);
    }
    Ok(())
}

/// What can be told of the plan.
pub(super) fn plan(plan: &Plan) -> Result<(), PlanError> {
    let mut places: BTreeMap<&str, &str> = BTreeMap::new();
    for space in &plan.spaces {
        if let Some(other) = places.insert(&space.place, &space.name) {
            let (one, other) = (other.to_owned(), space.name.clone());
            return Err(PlanError::Place { place: space.place.clone(), one, other });
        }
        devices(space)?;
        addresses(space)?;
    }
    Ok(())
}

/// Whether the kernel can make all of a namespace's devices.
fn devices(space: &Space) -> Result<(), PlanError> {
    let mut names = BTreeSet::from(["lo"]);
    let mut indices = BTreeSet::from([0, 1]);
    for device in &space.devices {
        let ends = match &device.kind {
            DeviceKind::Veth { space: there, peer } if *there == space.role => Some(&**peer),
            _ => None,
        };
        for device in ends.into_iter().chain([device]) {
            let (name, of) = (device.name.clone(), space.name.clone());
            let index = device.index.unwrap_or_default();
            let is_new =
                names.insert(&device.name) & device.index.is_none_or(|index| indices.insert(index));
            if !is_new || i32::try_from(index).is_err() {
                return Err(PlanError::Device { name, index, of });
            }
        }
    }
    Ok(())
}

/// Whether all addresses can be given to devices; those of the lab itself are nobody's.
fn addresses(space: &Space) -> Result<(), PlanError> {
    let given = space.addresses.iter().filter(|(device, _)| device != draw::BRIDGE);
    let bad = given.map(|(_, address)| *address).find(|address| is_reserved(*address));
    match bad {
        Some(address) => Err(PlanError::Address { address, of: space.name.clone() }),
        None => Ok(()),
    }
}

fn is_reserved(address: IpAddr) -> bool {
    draw::is_of_the_lab(address)
        || match address {
            IpAddr::V4(v4) => {
                v4.octets()[0] == 0 || v4.is_loopback() || v4.is_multicast() || v4.is_broadcast()
            }
            IpAddr::V6(v6) => {
                v6.is_unspecified()
                    || v6.is_loopback()
                    || v6.is_multicast()
                    || v6.to_ipv4_mapped().is_some()
            }
        }
}
