//! What there is in network namespaces: devices with their addresses, and which device is the other end of which.

use std::io;
use std::net::IpAddr;

use engine::net::Mac;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{
    InfoKind, LinkAttribute, LinkInfo, LinkMessage, LinkXdp, XdpAttached,
};

use super::netlink;

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) name: String,
    pub(super) index: u32,
    pub(super) mac: Option<Mac>,
    pub(super) is_veth: bool,
    /// The index of the device that it is tied to, in the namespace of that number; `None`: in its own.
    pub(super) link: Option<(u32, Option<i32>)>,
    /// The other end, once it is known: its namespace and its place there.
    pub(super) end: Option<(usize, usize)>,
    pub(super) addresses: Vec<IpAddr>,
}

/// A namespace's devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) devices: Vec<Device>,
}

/// Looks at the calling thread's namespace.
pub(super) fn look() -> io::Result<Seen> {
    let mut seen = Seen::default();
    for answer in netlink::list(RouteNetlinkMessage::GetLink(LinkMessage::default()))? {
        if let RouteNetlinkMessage::NewLink(link) = answer {
            seen.devices.push(device(&link));
        }
    }
    for answer in netlink::list(RouteNetlinkMessage::GetAddress(AddressMessage::default()))? {
        let RouteNetlinkMessage::NewAddress(message) = answer else { continue };
        let of = seen.devices.iter_mut().find(|device| device.index == message.header.index);
        let Some(device) = of else { continue };
        // Of a pointed address the local side is the device's.
        let local = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(address) => Some(*address),
            _ => None,
        });
        let other = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        });
        device.addresses.extend(local.or(other));
    }
    Ok(seen)
}

fn device(link: &LinkMessage) -> Device {
    let mut device = Device { index: link.header.index, ..Device::default() };
    let (mut tied, mut number) = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => device.name.clone_from(name),
            LinkAttribute::Address(bytes) => {
                device.mac = bytes.as_slice().try_into().ok().map(Mac);
            }
            LinkAttribute::Link(index) => tied = Some(*index),
            LinkAttribute::LinkNetNsId(id) => number = Some(*id),
            LinkAttribute::LinkInfo(infos) => {
                device.is_veth =
                    infos.iter().any(|info| matches!(info, LinkInfo::Kind(InfoKind::Veth)));
            }
            _ => {}
        }
    }
    device.link = tied.map(|index| (index, number));
    device
}

/// The XDP program of a device of the calling thread's namespace: its number, 0 where the kernel does not tell.
pub(super) fn xdp_of(index: u32) -> io::Result<Option<u32>> {
    let links = netlink::list(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let of = links.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) if link.header.index == index => Some(link),
        _ => None,
    });
    let mut found = None;
    for attribute in of.iter().flat_map(|link| &link.attributes) {
        let LinkAttribute::Xdp(parts) = attribute else { continue };
        for part in parts {
            match part {
                LinkXdp::Attached(XdpAttached::None) => {}
                LinkXdp::Attached(_) => found = found.or(Some(0)),
                LinkXdp::ProgId(id) => found = Some(*id),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// Finds each veth's other end. `number` is the number by which a namespace knows another one.
pub(super) fn join(seen: &mut [Seen], number: impl Fn(usize, usize) -> io::Result<Option<i32>>) {
    for space in 0..seen.len() {
        for at in 0..seen[space].devices.len() {
            let device = &seen[space].devices[at];
            let Some((index, known_as)) = device.link.filter(|_| device.is_veth) else { continue };
            let own = device.index;
            let is_end = |other: &Device| {
                other.is_veth
                    && other.index == index
                    && other.link.is_some_and(|(index, _)| index == own)
            };
            let end = seen.iter().enumerate().find_map(|(there, other)| {
                let place = other.devices.iter().position(is_end)?;
                let is_there = match known_as {
                    None => there == space,
                    Some(known_as) => number(space, there).ok().flatten() == Some(known_as),
                };
                is_there.then_some((there, place))
            });
            seen[space].devices[at].end = end;
        }
    }
}
