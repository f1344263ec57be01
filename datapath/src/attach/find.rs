//! Which device is the host side of which pod's: the one that the world names, else the other end of the one that has the pod's address.
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use engine::net::Mac;
use engine::topology::{NodeId, Pod, PodId, World};

use super::AttachError;
use super::inventory::{Device, Seen};

/// A pod's device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The pod.
    pub pod: PodId,
    /// Its node in the world.
    pub node: NodeId,
    /// The namespace of the device, by its place in the list.
    pub space: usize,
    /// The device's name.
    pub device: String,
    /// Its index there.
    pub index: u32,
    /// Its Ethernet address.
    pub host_mac: Option<Mac>,
    /// That of the pod's side.
    pub mac: Option<Mac>,
    /// Addresses that the pod has in the world, and its side of the device has not, though it has others of the family.
    pub strange: Vec<IpAddr>,
}

/// What was looked for, and found or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Finding {
    /// Pods' devices, in the order of the world.
    pub found: Vec<Found>,
    /// Pods without one here: they may be on other machines.
    pub absent: Vec<PodId>,
}

/// Looks for the devices of all pods.
pub(super) fn find(world: &World, seen: &[Seen]) -> Result<Finding, AttachError> {
    let mut finding = Finding::default();
    for (id, pod) in world.pods().filter(|(_, pod)| !pod.host_network) {
        let candidates = match &pod.interface {
            Some(name) => by_name(pod, name, seen),
            None => by_address(pod, seen),
        };
        match candidates[..] {
            [] => finding.absent.push(id),
            [(space, at)] => finding.found.extend(found((id, pod), (space, at), seen)),
            _ => {
                let name = |(space, at): &(usize, usize)| {
                    let device = device(seen, *space, *at).map_or("?", |device| &device.name);
                    format!("{device} in {}", seen.get(*space).map_or("?", |seen| &seen.name))
                };
                let candidates = candidates.iter().map(name).collect();
                return Err(AttachError::Ambiguous { pod: pod.qualified(), candidates });
            }
        }
    }
    if finding.found.is_empty() {
        return Err(AttachError::Nobody);
    }
    one_space_each(world, seen, &finding)?;
    Ok(finding)
}

fn device(seen: &[Seen], space: usize, at: usize) -> Option<&Device> {
    seen.get(space)?.devices.get(at)
}

fn every(seen: &[Seen]) -> impl Iterator<Item = ((usize, usize), &Device)> {
    seen.iter().enumerate().flat_map(|(space, seen)| {
        seen.devices.iter().enumerate().map(move |(at, device)| ((space, at), device))
    })
}

/// Devices of a name; where there are several, of those the ones whose other end has the pod's address.
fn by_name(pod: &Pod, name: &str, seen: &[Seen]) -> Vec<(usize, usize)> {
    let named = every(seen).filter(|(_, device)| device.name == name);
    let named: Vec<_> = named.map(|(place, _)| place).collect();
    if named.len() < 2 {
        return named;
    }
    let addressed = by_address(pod, seen);
    let both: Vec<_> = named.iter().copied().filter(|place| addressed.contains(place)).collect();
    if both.is_empty() { named } else { both }
}

/// The other ends of veths that have one of the pod's addresses.
fn by_address(pod: &Pod, seen: &[Seen]) -> Vec<(usize, usize)> {
    let is_its = |device: &Device| device.addresses.iter().any(|at| pod.addresses.contains(at));
    let ends =
        every(seen).filter(|(_, device)| is_its(device)).filter_map(|(_, device)| device.end);
    let ends: BTreeSet<_> = ends.collect();
    ends.into_iter().collect()
}

fn found((id, pod): (PodId, &Pod), (space, at): (usize, usize), seen: &[Seen]) -> Option<Found> {
    let device = device(seen, space, at)?;
    let other = device.end.and_then(|(space, at)| self::device(seen, space, at));
    Some(Found {
        pod: id,
        node: pod.node,
        space,
        device: device.name.clone(),
        index: device.index,
        host_mac: device.mac,
        mac: other.and_then(|other| other.mac),
        strange: other.map_or_else(Vec::new, |other| strange(pod, other)),
    })
}

/// Addresses that a pod has not at its device, where that has others of the family. One without any has a pod that sends none.
fn strange(pod: &Pod, other: &Device) -> Vec<IpAddr> {
    let is_own = |at: &IpAddr| match at {
        IpAddr::V4(at) => at.is_link_local() || at.is_loopback(),
        IpAddr::V6(at) => at.is_unicast_link_local() || at.is_loopback(),
    };
    let has_others =
        |family: bool| other.addresses.iter().any(|at| at.is_ipv6() == family && !is_own(at));
    let is_strange = |at: &&IpAddr| !other.addresses.contains(at) && has_others(at.is_ipv6());
    pod.addresses.iter().filter(is_strange).copied().collect()
}

/// A node's programs share their maps, in which devices have the numbers of one namespace.
fn one_space_each(world: &World, seen: &[Seen], finding: &Finding) -> Result<(), AttachError> {
    let mut spaces: BTreeMap<NodeId, BTreeSet<usize>> = BTreeMap::new();
    for found in &finding.found {
        spaces.entry(found.node).or_default().insert(found.space);
    }
    let Some((node, spaces)) = spaces.into_iter().find(|(_, spaces)| spaces.len() > 1) else {
        return Ok(());
    };
    let name = |space: usize| seen.get(space).map_or("?", |seen| &seen.name).to_owned();
    Err(AttachError::Split {
        node: world.node(node).map_or_else(String::new, |node| node.name.clone()),
        spaces: spaces.into_iter().map(name).collect(),
    })
}

#[cfg(test)]
mod tests {
    use engine::source::Span;
    use engine::topology::{Labels, Readiness};

    use super::*;
    use crate::attach::inventory;

    fn veth(name: &str, index: u32, link: (u32, Option<i32>), addresses: &[&str]) -> Device {
        Device {
            name: name.to_owned(),
            index,
            mac: Some(Mac([2, 0, 0, 0, 0, u8::try_from(index).unwrap()])),
            is_veth: true,
            link: Some(link),
            end: None,
            addresses: addresses.iter().map(|at| at.parse().unwrap()).collect(),
        }
    }

    /// A node with two pods, and another namespace that has a device of the same name.
    fn machine() -> Vec<Seen> {
        let named = |name: &str, devices: Vec<Device>| Seen { name: name.to_owned(), devices };
        let mut seen = vec![
            named(
                "own",
                vec![veth("cali1", 5, (2, Some(1)), &[]), veth("cali2", 6, (2, Some(2)), &[])],
            ),
            named("a", vec![veth("eth0", 2, (5, Some(0)), &["10.1.0.10"])]),
            named("b", vec![veth("eth0", 2, (6, Some(0)), &["10.1.0.11", "fd00::11"])]),
            named("c", vec![veth("cali1", 9, (9, None), &[])]),
        ];
        let number =
            |from: usize, to: usize| Ok(if from == 0 { i32::try_from(to).ok() } else { Some(0) });
        inventory::join(&mut seen, number);
        seen
    }

    fn pod(name: &str, node: u32, address: &str, interface: Option<&str>) -> Pod {
        Pod {
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            node: NodeId(node),
            addresses: vec![address.parse().unwrap()],
            labels: Labels::default(),
            mac: None,
            host_mac: None,
            interface: interface.map(str::to_owned),
            ifindex: None,
            endpoint_id: None,
            host_network: false,
            readiness: Readiness::Ready,
            ports: Vec::new(),
            span: Span::default(),
        }
    }

    fn devices(pods: Vec<Pod>) -> Result<(Vec<String>, usize), String> {
        let world = World { pods, ..World::default() };
        let finding = find(&world, &machine()).map_err(|error| error.to_string())?;
        let name = |found: &Found| format!("{}:{}", found.space, found.device);
        Ok((finding.found.iter().map(name).collect(), finding.absent.len()))
    }

    #[test]
    fn a_device_is_found_by_its_name_or_by_the_pods_address() {
        let a = pod("a", 0, "10.1.0.10", None);
        let b = pod("b", 0, "fd00::11", None);
        let elsewhere = pod("c", 0, "10.1.0.12", None);
        let found = devices(vec![a.clone(), b, elsewhere]);
        assert_eq!(found, Ok((vec!["0:cali1".to_owned(), "0:cali2".to_owned()], 1)));
        // The world's name is right whatever the addresses are; of two devices of that name the one that leads to the address.
        let named = pod("d", 0, "10.1.0.99", Some("cali2"));
        assert_eq!(devices(vec![named.clone()]), Ok((vec!["0:cali2".to_owned()], 0)));
        let wrong = find(&World { pods: vec![named], ..World::default() }, &machine()).unwrap();
        assert_eq!(wrong.found[0].strange, ["10.1.0.99".parse::<IpAddr>().unwrap()]);
        let twice = Pod { interface: Some("cali1".to_owned()), ..a };
        assert_eq!(devices(vec![twice]), Ok((vec!["0:cali1".to_owned()], 0)));
        let found = find(
            &World { pods: vec![pod("a", 0, "10.1.0.10", None)], ..World::default() },
            &machine(),
        );
        let found = found.unwrap().found.remove(0);
        assert_eq!(found.index, 5);
        let macs = [found.host_mac, found.mac].map(|mac| mac.map(|mac| mac.0[5]));
        assert_eq!(macs, [Some(5), Some(2)]);
    }

    #[test]
    fn what_is_not_clear_is_refused() {
        let error = devices(vec![pod("a", 0, "10.9.0.1", Some("cali1"))]).unwrap_err();
        assert_eq!(error, "several devices may be that of shop/a: cali1 in own, cali1 in c");
        let error = devices(vec![pod("a", 0, "10.9.0.1", None)]).unwrap_err();
        assert_eq!(error, "no pod of this world has a device on this machine");
        let error =
            devices(vec![pod("a", 0, "10.1.0.10", None), pod("b", 0, "10.1.0.11", Some("eth9"))]);
        assert_eq!(error, Ok((vec!["0:cali1".to_owned()], 1)));
        let mut seen = machine();
        seen[3].devices[0].name = "other".to_owned();
        let pods = vec![pod("a", 0, "10.1.0.10", None), pod("b", 0, "10.1.0.99", Some("other"))];
        let error = find(&World { pods, ..World::default() }, &seen).unwrap_err();
        assert!(matches!(error, AttachError::Split { spaces, .. } if spaces == ["own", "c"]));
    }
}
