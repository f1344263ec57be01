//! What of a lab is no longer as it was made: devices that somebody removed, or set down. Looks only, and mends nothing.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::io;

use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

use super::Lab;
use super::namespace::Namespace;
use super::plan::{DeviceKind, Plan, Role};
use crate::attach::netlink;

/// A device that is not as it was made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Broken {
    /// The device.
    pub device: String,
    /// Whose it is: a pod, a node, or `world`.
    pub of: String,
    /// Whether it is there, and down.
    pub is_there: bool,
}

impl Display for Broken {
    fn fmt(&self, out: &mut Formatter<'_>) -> fmt::Result {
        let what = if self.is_there { "down" } else { "gone" };
        write!(out, "{} of {} is {what}", self.device, self.of)
    }
}

/// A device as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Present {
    is_up: bool,
    pub(super) mtu: u32,
}

/// The devices of a namespace.
pub(super) fn present(namespace: &Namespace) -> io::Result<BTreeMap<String, Present>> {
    namespace.within(|| {
        let answers = netlink::list(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(answers.into_iter().filter_map(device).collect())
    })
}

fn device(answer: RouteNetlinkMessage) -> Option<(String, Present)> {
    let RouteNetlinkMessage::NewLink(link) = answer else { return None };
    let mut present =
        Present { is_up: link.header.flags.contains(LinkFlags::Up), ..Present::default() };
    let mut name = None;
    for attribute in link.attributes {
        match attribute {
            LinkAttribute::IfName(own) => name = Some(own),
            LinkAttribute::Mtu(own) => present.mtu = own,
            _ => {}
        }
    }
    name.map(|name| (name, present))
}

/// All devices of a plan with whose they are, both ends of pairs.
fn devices(plan: &Plan) -> impl Iterator<Item = (Role, &str)> {
    plan.spaces.iter().flat_map(|space| {
        space.devices.iter().flat_map(|device| {
            let other = match &device.kind {
                DeviceKind::Veth { space, peer } => Some((*space, peer.name.as_str())),
                _ => None,
            };
            std::iter::once((space.role, device.name.as_str())).chain(other)
        })
    })
}

impl Lab {
    /// Its devices that are gone or down. A namespace that cannot be looked into has none.
    pub fn broken(&self) -> Vec<Broken> {
        let mut broken = Vec::new();
        for (space, namespace) in self.plan.spaces.iter().zip(&self.spaces) {
            let there = present(namespace).unwrap_or_default();
            let own = devices(&self.plan).filter(|(role, _)| *role == space.role);
            broken.extend(own.filter_map(|(_, device)| {
                let found = there.get(device);
                (!found.is_some_and(|found| found.is_up)).then(|| Broken {
                    device: device.to_owned(),
                    of: space.name.clone(),
                    is_there: found.is_some(),
                })
            }));
        }
        broken.sort();
        broken
    }
}
