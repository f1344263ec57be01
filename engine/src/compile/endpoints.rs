//! What a node's pods hang on: endpoint ids, devices and Ethernet addresses, pinned or made up. A made-up
//! value comes from the pod's name, so that it stays when other pods come and go. Never about policy.

use std::collections::BTreeSet;

use super::identities::Identities;
use super::limits;
use crate::diag::{Code, Diagnostic};
use crate::identity::Identity;
use crate::net::Mac;
use crate::tables::{EndpointEntry, EndpointId, TableId};
use crate::topology::{Endpoint, Node, Pod, PodId, World};

/// `duplicate-pin`.
const DUPLICATE_PIN: Code = Code(108);
/// Characters of a network device's name (`IFNAMSIZ` less the final NUL).
const NAME_LENGTH: usize = 15;
/// Index that the underlay device has unless a pod pins it; the tunnel device has the next free one.
const FIRST_DEVICE: u32 = 2;
/// Made-up indices begin here, clear of the devices that every machine has.
const FIRST_VETH: u32 = 100;
/// How many made-up indices there are.
const VETHS: u64 = 1 << 24;

/// A node's devices and endpoints, by id. Table ids are set later.
pub(super) struct Devices {
    pub(super) device_ifindex: u32,
    pub(super) tunnel_ifindex: u32,
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
    macs: BTreeSet<Mac>,
}

impl Devices {
    /// Pinned values first, so that no made-up one takes them.
    pub(super) fn allot(
        world: &World,
        node: &Node,
        pods: &[PodId],
        identities: &Identities,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        if pods.len() > limits::ENDPOINTS_PER_NODE {
            diagnostics.push(limits::too_many_endpoints(node, pods.len()));
            return Self { device_ifindex: 0, tunnel_ifindex: 0, endpoints: Vec::new() };
        }
        let own: Vec<(PodId, &Pod)> =
            pods.iter().filter_map(|id| Some((*id, world.pod(*id)?))).collect();
        let mut taken = Taken::default();
        let devices = [&node.device, &world.cluster.tunnel.device];
        taken.names.extend(devices.into_iter().cloned().chain(["lo".to_owned()]));
        taken.macs.extend(node.mac);
        for (_, pod) in &own {
            taken.pins(pod, diagnostics);
        }
        let device_ifindex = taken.free_index(FIRST_DEVICE);
        let tunnel_ifindex = taken.free_index(FIRST_DEVICE);
        let mut endpoints: Vec<EndpointEntry> =
            own.iter().map(|(id, pod)| taken.endpoint(*id, pod, identities.of_pod(*id))).collect();
        endpoints.sort_by_key(|endpoint| endpoint.id);
        Self { device_ifindex, tunnel_ifindex, endpoints }
    }
}

impl Taken {
    /// Takes what a pod pins. The front end tells most clashes before; this is what keeps tables sound.
    fn pins(&mut self, pod: &Pod, diagnostics: &mut Vec<Diagnostic>) {
        let mut clash = |what: &str, value: String| {
            let message = format!(
                "{what} {value} of pod {} is that of another pod of its node",
                pod.qualified()
            );
            diagnostics.push(Diagnostic::error(DUPLICATE_PIN, message, pod.span));
        };
        if let Some(id) = pod.endpoint_id.filter(|id| !self.ids.insert(*id)) {
            clash("endpoint id", id.to_string());
        }
        if let Some(index) = pod.ifindex.filter(|index| !self.indices.insert(*index)) {
            clash("interface index", index.to_string());
        }
        if let Some(name) = pod.interface.as_ref().filter(|n| !self.names.insert((*n).clone())) {
            clash("interface", format!("`{name}`"));
        }
        for mac in [pod.mac, pod.host_mac].into_iter().flatten() {
            if !self.macs.insert(mac) {
                clash("Ethernet address", mac.to_string());
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
        let made_up_id = |at| u16::try_from(at % u64::from(u16::MAX)).unwrap_or(0) + 1;
        let index = |at| u32::try_from(at % VETHS).unwrap_or(0) + FIRST_VETH;
        let endpoint_id = pod
            .endpoint_id
            .unwrap_or_else(|| free(&mut self.ids, &format!("id {name}"), made_up_id));
        let ifindex =
            pod.ifindex.unwrap_or_else(|| free(&mut self.indices, &format!("veth {name}"), index));
        let interface = pod.interface.clone().unwrap_or_else(|| self.interface(pod, &name));
        let mac = pod.mac.unwrap_or_else(|| free(&mut self.macs, &format!("mac {name}"), mac_of));
        let host_mac = pod
            .host_mac
            .unwrap_or_else(|| free(&mut self.macs, &format!("host mac {name}"), mac_of));
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

/// FNV-1a with a final mix: the same on every machine and in every version, which the standard library's
/// hasher does not promise.
fn hash(text: &str) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state ^= state >> 33;
    state = state.wrapping_mul(0xff51_afd7_ed55_8ccd);
    state ^ state >> 33
}
