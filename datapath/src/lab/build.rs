//! Making what a plan says, by netlink, in this process. What was made goes with the namespaces, which nothing else holds.

use std::fs;
use std::future::Future;
use std::io;

use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMetric, RouteScope};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use super::LabError;
use super::namespace::Namespace;
use super::plan::{BRIDGE_INDEX, Device, DeviceKind, Plan, Role, Route, Space};

/// What every namespace is told before it has devices: nothing but what a plan says is there, and frames pass that come by one device and
/// answer by another.
const SETTINGS: [(&str, &str); 13] = [
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/accept_local", "1"),
    ("ipv4/conf/default/accept_local", "1"),
    ("ipv4/ping_group_range", "0 2147483647"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/dad_transmits", "0"),
    ("ipv6/conf/default/addr_gen_mode", "1"),
    ("ipv6/conf/default/router_solicitations", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
    ("ipv6/conf/default/disable_ipv6", "0"),
    ("ipv6/conf/all/disable_ipv6", "0"),
];
/// What one is told that sends on what is not for it.
const FORWARDING: [(&str, &str); 3] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
];

/// Makes all namespaces of a plan, in its order.
pub(super) fn make(plan: &Plan) -> Result<Vec<Namespace>, LabError> {
    let mut spaces = Vec::with_capacity(plan.spaces.len());
    for space in &plan.spaces {
        let namespace =
            Namespace::make().map_err(|e| LabError::system("making a network namespace", e))?;
        set(&namespace, space)?;
        spaces.push(namespace);
    }
    let of = |role: Role| {
        let at = plan.spaces.iter().position(|space| space.role == role);
        at.and_then(|at| spaces.get(at)).map(Namespace::descriptor)
    };
    for (space, namespace) in plan.spaces.iter().zip(&spaces) {
        let mut messages = Vec::new();
        for device in &space.devices {
            messages.push((device.name.clone(), message(device, &of)?));
        }
        inside(namespace, move |handle| add_links(handle, messages))?;
    }
    for (space, namespace) in plan.spaces.iter().zip(&spaces) {
        let (space, ports) = (space.clone(), ports(plan, space));
        inside(namespace, move |handle| furnish(handle, space, ports))?;
    }
    Ok(spaces)
}

fn set(namespace: &Namespace, space: &Space) -> Result<(), LabError> {
    let forwarding = FORWARDING.iter().filter(|_| space.forwards);
    let settings: Vec<_> = SETTINGS.iter().chain(forwarding).collect();
    let written = namespace.within(move || {
        let write = |(name, value): &(&str, &str)| {
            fs::write(format!("/proc/sys/net/{name}"), value)
                .map_err(|error| io::Error::other(format!("{name}: {error}")))
        };
        settings.into_iter().try_for_each(write)
    });
    written.map_err(|error| LabError::system(format!("settings of {}", space.name), error))
}

/// Runs requests inside a namespace.
fn inside<F>(namespace: &Namespace, work: impl FnOnce(Handle) -> F + Send) -> Result<(), LabError>
where
    F: Future<Output = Result<(), LabError>>,
{
    let done = namespace.within(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let _entered = runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection()?;
        runtime.spawn(connection);
        Ok(runtime.block_on(work(handle)))
    });
    done.map_err(|error| LabError::system("talking to the kernel by netlink", error))?
}

/// The message that makes a device, with its other end.
fn message(device: &Device, of: &impl Fn(Role) -> Option<i32>) -> Result<LinkMessage, LabError> {
    Ok(match &device.kind {
        DeviceKind::Bridge => common(LinkBridge::new(&device.name), device).build(),
        DeviceKind::Vxlan { port } => {
            let builder = LinkMessageBuilder::<LinkVxlan>::new(&device.name);
            common(builder.collect_metadata(true).learning(false).port(*port), device).build()
        }
        DeviceKind::Veth { space, peer } => {
            let there = of(*space).ok_or_else(|| {
                LabError::system(format!("making {}", device.name), "its other end has no place")
            })?;
            let end = LinkMessageBuilder::<LinkUnspec>::new().name(peer.name.clone());
            let end = common(end, peer).setns_by_fd(there).build();
            let builder = LinkVeth::new(&device.name, &peer.name);
            common(builder.set_info_data(InfoData::Veth(InfoVeth::Peer(end))), device).build()
        }
        DeviceKind::Peer => {
            return Err(LabError::system("making a device", "an end of a pair without the other"));
        }
    })
}

fn common<T>(builder: LinkMessageBuilder<T>, device: &Device) -> LinkMessageBuilder<T> {
    let mut builder = builder.mtu(device.mtu);
    if let Some(index) = device.index {
        builder = builder.index(index);
    }
    if let Some(mac) = device.mac {
        builder = builder.address(mac.0.to_vec());
    }
    builder
}

async fn add_links(handle: Handle, links: Vec<(String, LinkMessage)>) -> Result<(), LabError> {
    for (name, link) in links {
        let added = handle.link().add(link).execute().await;
        added.map_err(|error| LabError::system(format!("making {name}"), error))?;
    }
    Ok(())
}

/// The devices of a namespace, with whether they ask nobody and whether they are a bridge's ports.
fn ports(plan: &Plan, space: &Space) -> Vec<(String, bool, bool)> {
    let own = space.devices.iter();
    let ends =
        plan.spaces.iter().flat_map(|other| &other.devices).filter_map(|device| {
            match &device.kind {
                DeviceKind::Veth { space: there, peer } if *there == space.role => Some(&**peer),
                _ => None,
            }
        });
    let port = |device: &Device| (device.name.clone(), device.no_arp, device.bridge.is_some());
    let mut ports = vec![("lo".to_owned(), false, false)];
    ports.extend(own.chain(ends).map(port));
    ports
}

/// Puts devices up and gives them addresses, routes and neighbours.
async fn furnish(
    handle: Handle,
    space: Space,
    ports: Vec<(String, bool, bool)>,
) -> Result<(), LabError> {
    let failed = |what: String| {
        let name = space.name.clone();
        move |error: rtnetlink::Error| LabError::system(format!("{what} in {name}"), error)
    };
    for (name, no_arp, is_port) in ports {
        let mut link = LinkUnspec::new_with_name(&name).up();
        if is_port {
            link = link.controller(BRIDGE_INDEX);
        }
        let mut link = link.build();
        if no_arp {
            link.header.flags |= LinkFlags::Noarp;
            link.header.change_mask |= LinkFlags::Noarp;
        }
        let set = handle.link().set(link).execute().await;
        set.map_err(failed(format!("putting {name} up")))?;
    }
    for (device, address) in &space.addresses {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let added = handle.address().add(index(device)?, *address, bits).execute().await;
        added.map_err(failed(format!("address {address} on {device}")))?;
    }
    for neighbour in &space.neighbours {
        let request = handle.neighbours().add(index(&neighbour.device)?, neighbour.address);
        let request =
            request.state(NeighbourState::Permanent).link_layer_address(&neighbour.mac.0).replace();
        let added = request.execute().await;
        added.map_err(failed(format!("neighbour {}", neighbour.address)))?;
    }
    for route in &space.routes {
        let added = handle.route().add(route_message(route)?).replace().execute().await;
        let to = route.to.map_or_else(|| "everywhere".to_owned(), |to| to.to_string());
        added.map_err(failed(format!("the route to {to} by {}", route.device)))?;
    }
    Ok(())
}

fn route_message(route: &Route) -> Result<rtnetlink::packet_route::route::RouteMessage, LabError> {
    let mut builder =
        RouteMessageBuilder::<std::net::IpAddr>::new().output_interface(index(&route.device)?);
    builder = match (route.to, route.via) {
        (Some(to), _) => builder.destination_prefix(to.addr(), to.prefix_len()).map_err(refused)?,
        (None, via) => {
            let any: std::net::IpAddr = match via {
                Some(via) if via.is_ipv6() => std::net::Ipv6Addr::UNSPECIFIED.into(),
                _ => std::net::Ipv4Addr::UNSPECIFIED.into(),
            };
            builder.destination_prefix(any, 0).map_err(refused)?
        }
    };
    builder = match route.via {
        Some(via) => builder.gateway(via).map_err(refused)?.onlink(),
        None => builder.scope(RouteScope::Link),
    };
    // An address of IPv6 is none to send from until its device has a carrier, which comes later; the kernel finds it by itself.
    if let Some(source) = route.source.filter(std::net::IpAddr::is_ipv4) {
        builder = builder.pref_source(source).map_err(refused)?;
    }
    let mut message = builder.build();
    if let Some(mtu) = route.mtu {
        message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    Ok(message)
}

/// The index of a device of the calling thread's namespace.
fn index(device: &str) -> Result<u32, LabError> {
    let failed = |error: rustix::io::Errno| LabError::system(format!("device {device}"), error);
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(failed)?;
    netdevice::name_to_index(&any, device).map_err(failed)
}

fn refused(error: impl std::fmt::Display) -> LabError {
    LabError::system("a route", error)
}
