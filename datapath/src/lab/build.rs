//! Making what a plan says, by netlink, in this process. What was made goes with the namespaces, which nothing else holds.

use std::fs;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::path::PathBuf;

use rtnetlink::packet_route::IpProtocol;
use rtnetlink::packet_route::address::AddressHeaderFlags;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMetric, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RulePortRange};
use rtnetlink::{
    Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth, LinkVxlan, RouteMessageBuilder,
    RuleAddRequest,
};
use rustix::net::{AddressFamily, SocketType, netdevice, socket};

use super::LabError;
use super::namespace::Namespace;
use super::plan::{
    BRIDGE_INDEX, Device, DeviceKind, Neighbour, Plan, Role, Route, Rule, Sent, Space,
};

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
/// The priority of rules: behind that of a namespace's own addresses.
const RULE: u32 = 100;
/// What one is told that sends on what is not for it.
const FORWARDING: [(&str, &str); 3] = [
    ("ipv4/ip_forward", "1"),
    ("ipv6/conf/all/forwarding", "1"),
    ("ipv6/conf/default/forwarding", "1"),
];

/// Where the file of a namespace is, if it has one.
pub(super) type Naming<'a> = &'a dyn Fn(&Space) -> Option<PathBuf>;

/// Makes all namespaces of a plan, in its order.
pub(super) fn make(plan: &Plan, naming: Naming<'_>) -> Result<Vec<Namespace>, LabError> {
    let spaces = plan.spaces.iter().map(|space| namespace(space, naming));
    let spaces: Vec<Namespace> = spaces.collect::<Result<_, _>>()?;
    let of = |role: Role| {
        let at = plan.spaces.iter().position(|space| space.role == role);
        at.and_then(|at| spaces.get(at)).map(Namespace::descriptor)
    };
    for (space, namespace) in plan.spaces.iter().zip(&spaces) {
        links(namespace, &space.devices, &of)?;
    }
    for (space, namespace) in plan.spaces.iter().zip(&spaces) {
        furnish(namespace, Furniture::of(plan, space))?;
    }
    Ok(spaces)
}

/// Makes a namespace with its settings.
pub(super) fn namespace(space: &Space, naming: Naming<'_>) -> Result<Namespace, LabError> {
    let made = match naming(space) {
        Some(path) => Namespace::make_at(&path),
        None => Namespace::make(),
    };
    let step = || format!("making a network namespace for {}", space.name);
    let made = made.map_err(|error| LabError::system(step(), error))?;
    set(&made, space)?;
    Ok(made)
}

/// Makes devices, with their other ends.
pub(super) fn links(
    namespace: &Namespace,
    devices: &[Device],
    of: &impl Fn(Role) -> Option<RawFd>,
) -> Result<(), LabError> {
    let message = |device: &Device| Ok((device.name.clone(), message(device, of)?));
    let messages = devices.iter().map(message).collect::<Result<Vec<_>, LabError>>()?;
    inside(namespace, move |handle| add_links(handle, messages))
}

/// Removes devices by name, with their other ends; those that are gone already are no error.
pub(super) fn unlink(namespace: &Namespace, devices: Vec<String>) -> Result<(), LabError> {
    inside(namespace, move |handle| async move {
        for name in devices {
            let Ok(index) = index(&name) else { continue };
            let removed = handle.link().del(index).execute().await;
            removed.map_err(|error| LabError::system(format!("removing {name}"), error))?;
        }
        Ok(())
    })
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
pub(super) fn inside<F>(
    namespace: &Namespace,
    work: impl FnOnce(Handle) -> F + Send,
) -> Result<(), LabError>
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
fn message(device: &Device, of: &impl Fn(Role) -> Option<RawFd>) -> Result<LinkMessage, LabError> {
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

/// What is put into a namespace beside devices, and which devices are put up.
#[derive(Clone, Debug, Default)]
pub(super) struct Furniture {
    /// Whose it is, for errors.
    pub(super) name: String,
    /// Devices by name, with whether they ask nobody and whether they are a bridge's ports.
    pub(super) ports: Vec<(String, bool, bool)>,
    pub(super) addresses: Vec<(String, IpAddr)>,
    pub(super) routes: Vec<Route>,
    pub(super) rules: Vec<Rule>,
    pub(super) neighbours: Vec<Neighbour>,
}

impl Furniture {
    /// Nothing yet, for a namespace of a name.
    pub(super) fn named(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// All of a namespace.
    pub(super) fn of(plan: &Plan, space: &Space) -> Self {
        let own = space.devices.iter();
        let ends =
            plan.spaces.iter().flat_map(|other| &other.devices).filter_map(|device| match &device
                .kind
            {
                DeviceKind::Veth { space: there, peer } if *there == space.role => Some(&**peer),
                _ => None,
            });
        let mut ports = vec![("lo".to_owned(), false, false)];
        ports.extend(own.chain(ends).map(port));
        Self {
            name: space.name.clone(),
            ports,
            addresses: space.addresses.clone(),
            routes: space.routes.clone(),
            rules: space.rules.clone(),
            neighbours: space.neighbours.clone(),
        }
    }
}

/// A device to put up.
pub(super) fn port(device: &Device) -> (String, bool, bool) {
    (device.name.clone(), device.no_arp, device.bridge.is_some())
}

/// Puts devices up and gives them addresses, routes and neighbours.
pub(super) fn furnish(namespace: &Namespace, furniture: Furniture) -> Result<(), LabError> {
    inside(namespace, move |handle| put(handle, furniture))
}

async fn put(handle: Handle, furniture: Furniture) -> Result<(), LabError> {
    let failed = |what: String| {
        let name = furniture.name.clone();
        move |error: rtnetlink::Error| LabError::system(format!("{what} in {name}"), error)
    };
    for (name, no_arp, is_port) in &furniture.ports {
        let mut link = LinkUnspec::new_with_name(name).up();
        if *is_port {
            link = link.controller(BRIDGE_INDEX);
        }
        let mut link = link.build();
        if *no_arp {
            link.header.flags |= LinkFlags::Noarp;
            link.header.change_mask |= LinkFlags::Noarp;
        }
        let set = handle.link().set(link).execute().await;
        set.map_err(failed(format!("putting {name} up")))?;
    }
    for (device, address) in &furniture.addresses {
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let mut request = handle.address().add(index(device)?, *address, bits).replace();
        if address.is_ipv6() {
            // Nobody else has it, and it is there to send from at once.
            request.message_mut().header.flags |= AddressHeaderFlags::Nodad;
        }
        let added = request.execute().await;
        added.map_err(failed(format!("address {address} on {device}")))?;
    }
    for neighbour in &furniture.neighbours {
        let request = handle.neighbours().add(index(&neighbour.device)?, neighbour.address);
        let request =
            request.state(NeighbourState::Permanent).link_layer_address(&neighbour.mac.0).replace();
        let added = request.execute().await;
        added.map_err(failed(format!("neighbour {}", neighbour.address)))?;
    }
    for route in &furniture.routes {
        let added = handle.route().add(route_message(route)?).replace().execute().await;
        added.map_err(failed(format!("the route to {}", route.to)))?;
    }
    for (priority, rule) in (RULE..).zip(&furniture.rules) {
        let request = own(rule, handle.rule().add().priority(priority));
        let added =
            if rule.is_v6 { request.v6().execute().await } else { request.v4().execute().await };
        added.map_err(failed("a rule for what is sent".to_owned()))?;
    }
    Ok(())
}

/// The rule about what a namespace itself sends.
fn own(rule: &Rule, request: RuleAddRequest) -> RuleAddRequest {
    let mut request = match rule.table {
        Some(table) => request.table_id(table.into()).action(RuleAction::ToTable),
        None => request.action(RuleAction::Blackhole),
    };
    request = request.input_interface("lo");
    match &rule.what {
        Sent::Everything => {}
        Sent::By(device) => request = request.output_interface(device),
        Sent::Datagrams(port) => {
            let ports = RulePortRange { start: *port, end: *port };
            let attributes = &mut request.message_mut().attributes;
            attributes.push(RuleAttribute::IpProtocol(IpProtocol::Udp));
            attributes.push(RuleAttribute::DestinationPortRange(ports));
        }
    }
    request
}

/// Takes addresses, neighbours and routes away; what is gone already is no error.
pub(super) fn take(namespace: &Namespace, furniture: Furniture) -> Result<(), LabError> {
    inside(namespace, move |handle| async move {
        for route in &furniture.routes {
            drop(handle.route().del(route_message(route)?).execute().await);
        }
        for neighbour in &furniture.neighbours {
            let Ok(index) = index(&neighbour.device) else { continue };
            let mut request = handle.neighbours().add(index, neighbour.address);
            let message = request.message_mut().clone();
            drop(handle.neighbours().del(message).execute().await);
        }
        for (device, address) in &furniture.addresses {
            let Ok(index) = index(device) else { continue };
            let bits = if address.is_ipv4() { 32 } else { 128 };
            let mut request = handle.address().add(index, *address, bits);
            let message = request.message_mut().clone();
            drop(handle.address().del(message).execute().await);
        }
        Ok(())
    })
}

fn route_message(route: &Route) -> Result<rtnetlink::packet_route::route::RouteMessage, LabError> {
    let mut builder = RouteMessageBuilder::<IpAddr>::new();
    builder =
        builder.destination_prefix(route.to.addr(), route.to.prefix_len()).map_err(refused)?;
    builder = match &route.device {
        Some(device) => builder.output_interface(index(device)?),
        None => builder.kind(RouteType::BlackHole),
    };
    builder = match route.via {
        Some(via) => builder.gateway(via).map_err(refused)?.onlink(),
        None if route.device.is_some() => builder.scope(RouteScope::Link),
        None => builder,
    };
    if let Some(source) = route.source {
        builder = builder.pref_source(source).map_err(refused)?;
    }
    if let Some(table) = route.table {
        builder = builder.table_id(table.into());
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
