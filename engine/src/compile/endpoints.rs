//! What a node's endpoints hang on: ids, devices and Ethernet addresses, pinned or made up. A made-up value
//! of a pod comes from its name, so that it stays when other pods come and go. Never about policy.

use std::collections::BTreeSet;

use super::hash::hash;
use super::identities::Identities;
use super::limits;
use crate::diag::{Code, Diagnostic};
use crate::identity::Identity;
use crate::net::Mac;
use crate::tables::{EndpointEntry, EndpointId, TableId};
use crate::topology::{Endpoint, Node, NodeId, Pod, PodId, World};

/// `duplicate-pin`.
const DUPLICATE_PIN: Code = Code(108);
/// Characters of a network device's name (`IFNAMSIZ` less the final NUL).
const NAME_LENGTH: usize = 15;
/// The node's own device on every node.
pub(super) const HOST_DEVICE: &str = "cilium_host";
/// The device of a node's health endpoint.
const HEALTH_DEVICE: &str = "lxc_health";
/// Index that the underlay device has unless a pod pins it; the tunnel's and the host's have the next free
/// ones.
const FIRST_DEVICE: u32 = 2;
/// Made-up indices begin here, clear of the devices that every machine has.
const FIRST_VETH: u32 = 100;
/// How many made-up indices there are.
const VETHS: u64 = 1 << 24;

/// A node's devices and endpoints, by id. Table ids are set later.
#[derive(Default)]
pub(super) struct Devices {
    pub(super) device_ifindex: u32,
    pub(super) tunnel_ifindex: u32,
    pub(super) host_ifindex: u32,
    pub(super) endpoints: Vec<EndpointEntry>,
}

/// The pods of each node that have a network of their own, by name.
pub(super) fn by_node(world: &World) -> Vec<Vec<PodId>> {
    let mut pods = vec![Vec::new(); world.nodes.len()];
    for (id, pod) in world.pods().filter(|(_, p)| !p.host_network) {
        if let Some(list) = pods.get_mut(pod.node.index()) {
            list.push((&pod.namespace, &pod.name, id));
        }
    }
    let by_name = |mut list: Vec<(&String, &String, PodId)>| {
        list.sort_unstable();
        list.into_iter().map(|(_, _, id)| id).collect()
    };
    pods.into_iter().map(by_name).collect()
}

/// Values that are spoken for on a node.
#[derive(Default)]
struct Taken {
    ids: BTreeSet<u16>,
    indices: BTreeSet<u32>,
    names: BTreeSet<String>,
    /// Those of them that are no pod's.
    of_node: BTreeSet<String>,
    macs: BTreeSet<Mac>,
}

impl Devices {
    /// Pinned values first, so that no made-up one takes them.
    pub(super) fn allot(
        world: &World,
        here: NodeId,
        node: &Node,
        pods: &[PodId],
        identities: &Identities,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let most = limits::ENDPOINTS_PER_NODE - usize::from(!node.health.is_empty());
        if pods.len() > most {
            diagnostics.push(limits::too_many_endpoints(node, pods.len(), most));
            return Self::default();
        }
        let own: Vec<(PodId, &Pod)> =
            pods.iter().filter_map(|id| Some((*id, world.pod(*id)?))).collect();
        let mut taken = Taken::default();
        let devices = [&node.device, &world.cluster.tunnel.device];
        let fixed = ["lo", HOST_DEVICE]
            .into_iter()
            .chain((!node.health.is_empty()).then_some(HEALTH_DEVICE));
        taken.names.extend(devices.into_iter().cloned().chain(fixed.map(str::to_owned)));
        taken.of_node.clone_from(&taken.names);
        taken.macs.extend(node.mac);
        for (_, pod) in &own {
            taken.pins(pod, diagnostics);
        }
        let device_ifindex = taken.free_index(FIRST_DEVICE);
        let tunnel_ifindex = taken.free_index(FIRST_DEVICE);
        let host_ifindex = taken.free_index(FIRST_DEVICE);
        let mut endpoints: Vec<EndpointEntry> =
            own.iter().map(|(id, pod)| taken.endpoint(*id, pod, identities.of_pod(*id))).collect();
        if !node.health.is_empty() {
            endpoints.push(taken.health(here, node));
        }
        if world.cluster.host_firewall {
            endpoints.push(taken.host(here, node, host_ifindex));
        }
        endpoints.sort_by_key(|endpoint| endpoint.id);
        Self { device_ifindex, tunnel_ifindex, host_ifindex, endpoints }
    }
}

impl Taken {
    /// Takes what a pod pins. The front end tells most clashes before; this is what keeps tables sound.
    fn pins(&mut self, pod: &Pod, diagnostics: &mut Vec<Diagnostic>) {
        const POD: &str = "another pod of its node";
        let mut clash = |what: &str, value: String, whose: &str| {
            let message = format!("{what} {value} of pod {} is that of {whose}", pod.qualified());
            let advice = format!("give the pod another {what}; one is chosen where none is given");
            diagnostics.push(Diagnostic::error(DUPLICATE_PIN, message, pod.span).help(advice));
        };
        if let Some(id) = pod.endpoint_id.filter(|id| !self.ids.insert(*id)) {
            clash("endpoint id", id.to_string(), POD);
        }
        if let Some(index) = pod.ifindex.filter(|index| !self.indices.insert(*index)) {
            clash("interface index", index.to_string(), POD);
        }
        if let Some(name) = pod.interface.as_ref().filter(|n| !self.names.insert((*n).clone())) {
            let is_nodes = self.of_node.contains(name);
            let whose = if is_nodes { "a device of the node itself" } else { POD };
            clash("interface", format!("`{name}`"), whose);
        }
        for mac in [pod.mac, pod.host_mac].into_iter().flatten() {
            if !self.macs.insert(mac) {
                clash("Ethernet address", mac.to_string(), POD);
            }
        }
    }

    /// The first index from `from` on that nobody has; takes it.
    fn free_index(&mut self, from: u32) -> u32 {
        let index =
            (from..u32::MAX).find(|index| !self.indices.contains(index)).unwrap_or(u32::MAX);
        self.indices.insert(index);
        index
    }

    fn endpoint(&mut self, id: PodId, pod: &Pod, identity: Option<Identity>) -> EndpointEntry {
        let name = pod.qualified();
        let endpoint_id = pod.endpoint_id.unwrap_or_else(|| self.made_up_id(&name));
        let ifindex = pod.ifindex.unwrap_or_else(|| self.made_up_index(&name));
        let interface = pod.interface.clone().unwrap_or_else(|| self.interface(pod, &name));
        let mac = pod.mac.unwrap_or_else(|| self.made_up_mac("mac", &name));
        let host_mac = pod.host_mac.unwrap_or_else(|| self.made_up_mac("host mac", &name));
        EndpointEntry {
            id: EndpointId(endpoint_id),
            endpoint: Endpoint::Pod(id),
            identity: identity.unwrap_or(Identity::INIT),
            addresses: pod.addresses.clone(),
            ifindex,
            interface,
            mac,
            host_mac,
            egress: TableId(0),
            ingress: TableId(0),
        }
    }

    /// The health endpoint of a node. (No pod's name is without a slash, so that no seed is a pod's.)
    fn health(&mut self, here: NodeId, node: &Node) -> EndpointEntry {
        let ifindex = self.made_up_index("health");
        EndpointEntry {
            endpoint: Endpoint::Health(here),
            identity: Identity::HEALTH,
            addresses: node.health.clone(),
            interface: HEALTH_DEVICE.to_owned(),
            ..self.of_node("health", here, ifindex)
        }
    }

    /// A node itself.
    fn host(&mut self, here: NodeId, node: &Node, ifindex: u32) -> EndpointEntry {
        EndpointEntry { addresses: node.addresses.clone(), ..self.of_node("host", here, ifindex) }
    }

    /// An endpoint that is no pod's; nothing of it is pinned.
    fn of_node(&mut self, name: &str, here: NodeId, ifindex: u32) -> EndpointEntry {
        EndpointEntry {
            id: EndpointId(self.made_up_id(name)),
            endpoint: Endpoint::Host(here),
            identity: Identity::HOST,
            addresses: Vec::new(),
            ifindex,
            interface: HOST_DEVICE.to_owned(),
            mac: self.made_up_mac("mac", name),
            host_mac: self.made_up_mac("host mac", name),
            egress: TableId(0),
            ingress: TableId(0),
        }
    }

    fn made_up_id(&mut self, name: &str) -> u16 {
        let id = |at| u16::try_from(at % u64::from(u16::MAX)).unwrap_or(0) + 1;
        free(&mut self.ids, &format!("id {name}"), id)
    }

    fn made_up_index(&mut self, name: &str) -> u32 {
        let index = |at| u32::try_from(at % VETHS).unwrap_or(0) + FIRST_VETH;
        free(&mut self.indices, &format!("veth {name}"), index)
    }

    fn made_up_mac(&mut self, side: &str, name: &str) -> Mac {
        free(&mut self.macs, &format!("{side} {name}"), mac_of)
    }

    /// `lxc_NAME` where it fits and is free, else `lxc` and twelve digits, as the reference names them.
    fn interface(&mut self, pod: &Pod, name: &str) -> String {
        let plain = format!("lxc_{}", pod.name);
        if plain.len() <= NAME_LENGTH && self.names.insert(plain.clone()) {
            return plain;
        }
        free(&mut self.names, &format!("lxc {name}"), |at| format!("lxc{:012x}", at >> 16))
    }
}

/// A locally administered unicast address.
fn mac_of(at: u64) -> Mac {
    let mut bytes = [0; 6];
    bytes.copy_from_slice(&at.to_be_bytes()[..6]);
    bytes[0] = bytes[0] & 0xFC | 2;
    Mac(bytes)
}

/// The first value nobody has, counting on from the one that a seed gives; takes it. There are always more
/// values than endpoints.
fn free<T: Ord + Clone>(taken: &mut BTreeSet<T>, seed: &str, value: impl Fn(u64) -> T) -> T {
    let mut at = hash(seed);
    loop {
        let candidate = value(at);
        if taken.insert(candidate.clone()) {
            return candidate;
        }
        at = at.wrapping_add(STEP);
    }
}

/// Odd, and it changes the high and the low bits alike.
const STEP: u64 = 0x0001_0001_0001_0001;
