//! Keys and values of the datapath's maps in words, with the rules behind entries.

use std::net::SocketAddr;

use datapath::vm::debug::{EntryKey, EntryValue, Target, key_of, value_of};
use datapath::vm::map::Map;
use engine::net::{Direction, FlowKey, Protocol};
use engine::tables::{EntryId, PolicyKey, TableId};
use engine::topology::NodeId;

use super::info::counted;
use super::scene::{Ends, Scene};

/// A node whose maps are told about.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) scene: &'a Scene,
    pub(super) node: NodeId,
    /// The packet that they are asked about.
    pub(super) ends: Option<Ends>,
}

/// Bytes as they lie there: `0x0a01`.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Place<'_> {
    /// A key in words.
    pub(super) fn key(self, map: &str, bytes: &[u8]) -> String {
        match key_of(map, bytes) {
            EntryKey::Index(index) => index.to_string(),
            EntryKey::Counter(hook, reason, direction) => {
                let what = reason.map_or_else(|| "forwarded".to_owned(), |r| r.to_string());
                format!("{hook} {direction} {what}")
            }
            EntryKey::Service { place, protocol, .. } => format!("{protocol} {place}"),
            EntryKey::Member { first, place } => format!("{place} among those from {first}"),
            EntryKey::Range { entry, prefix, .. } => format!("{prefix} to frontend {}", entry.0),
            EntryKey::Client { client, frontend, protocol } => {
                format!("{client} to {protocol} {frontend}")
            }
            EntryKey::Pieces(flow, id) => format!("{}, id {id}", flow_in_words(&flow)),
            EntryKey::Prefix { prefix, .. } if prefix.prefix_len() == prefix.max_prefix_len() => {
                prefix.addr().to_string()
            }
            EntryKey::Prefix { prefix, .. } => prefix.to_string(),
            EntryKey::Policy { table, key, .. } => self.policy_key(table, &key),
            EntryKey::Attachment { ifindex, .. } => self.scene.device(self.node, ifindex),
            EntryKey::Flow(flow) => flow_in_words(&flow),
            EntryKey::Bytes(bytes) => hex(&bytes),
        }
    }

    /// `egress of web/client: 1042 {app=echo} in web, tcp 8080`
    fn policy_key(self, table: TableId, key: &PolicyKey) -> String {
        let peer = self.scene.identity(key.identity);
        format!("{}: {peer}, {}", self.table(table), traffic(key))
    }

    /// `egress of web/client`, `table 7 (ingress of web/a and 3 more)`
    fn table(self, table: TableId) -> String {
        let Some((first, direction, others)) = self.scene.user(self.node, table, self.ends) else {
            return format!("table {}", table.0);
        };
        let name = self.scene.endpoint(self.node, first.id);
        match others {
            0 => format!("{direction} of {name}"),
            more => format!("{direction} of {name} and {more} more"),
        }
    }

    /// A value in words; `now` is the clock, in seconds.
    pub(super) fn value(self, map: &str, key: &[u8], value: &[u8], now: u64) -> String {
        match value_of(map, key, value, now) {
            EntryValue::Number(number) => number.to_string(),
            EntryValue::Generation(generation) => format!("generation {generation}"),
            EntryValue::Ipcache { identity, entry, .. } => {
                let tables = self.scene.tables(self.node);
                let target = tables.and_then(|tables| tables.ipcache_entry(entry));
                let leads = target.map_or_else(String::new, |entry| self.leads_to(entry.target));
                format!("{}{leads}, entry {}", self.scene.identity(identity), entry.0)
            }
            EntryValue::Target(target) => self.target(target),
            EntryValue::Policy { entry, deny, .. } => {
                let action = if deny { "deny" } else { "allow" };
                let behind = self.behind(map, key, entry);
                format!("{action} by entry {}{behind}", entry.0)
            }
            EntryValue::Flow(flow) => {
                let state = match (flow.closing, flow.seen_reply) {
                    (true, _) => "closing",
                    (false, true) => "established",
                    (false, false) => "new",
                };
                let (forward, replies) =
                    (counted(flow.forward.0, "packet", "packets"), flow.replies.0);
                let opened = flow_in_words(&flow.flow);
                let left = flow.expires_in;
                format!("{state}, {opened}, {forward}, {replies} back, {left}s left")
            }
            EntryValue::Service { entry, internal, external, affinity } => {
                let of = |(first, count): (u32, u32)| format!("{count} from {first}");
                let (inside, outside) = (of(internal), of(external));
                let keeps = match affinity {
                    0 => String::new(),
                    seconds => format!(", kept for {seconds}s"),
                };
                format!("frontend {}: backends {inside}, outside {outside}{keeps}", entry.0)
            }
            EntryValue::Backend(address, port) => SocketAddr::new(address, port).to_string(),
            EntryValue::Affinity(address, port, last) => {
                format!("{}, since tick {last}", SocketAddr::new(address, port))
            }
            EntryValue::Maglev => "a Maglev table".to_owned(),
            EntryValue::Ports(source, destination) => format!("ports {source} and {destination}"),
            EntryValue::Count { packets, bytes } => {
                let packets = counted(packets, "packet", "packets");
                format!("{packets}, {}", counted(bytes, "byte", "bytes"))
            }
            EntryValue::Seam { now, ifindex } => {
                format!("second {now}, device {}", self.scene.device(self.node, ifindex))
            }
            EntryValue::Bytes(bytes) => hex(&bytes),
        }
    }

    fn leads_to(self, target: engine::tables::Target) -> String {
        match target {
            engine::tables::Target::Endpoint(id) => {
                format!(", is {} here", self.scene.endpoint(self.node, id))
            }
            engine::tables::Target::Tunnel { remote, node } => {
                format!(", on {} {remote}", self.scene.node(node))
            }
            engine::tables::Target::Native { remote, node } => {
                format!(", on {} {remote}, by no tunnel", self.scene.node(node))
            }
            engine::tables::Target::Service(id) => {
                format!(", service {}", crate::show::names::service(&self.scene.state.world, id))
            }
            engine::tables::Target::Host => ", the node itself".to_owned(),
            engine::tables::Target::Stack => ", by the node's routing".to_owned(),
        }
    }

    fn target(self, target: Target) -> String {
        match target {
            Target::Endpoint(id, identity, ifindex) => {
                let device = self.scene.device(self.node, ifindex);
                let name = self.scene.endpoint(self.node, id);
                format!("{name} at {device}, {}", self.scene.identity(identity))
            }
            Target::Tunnel(remote) => format!("tunnel to {remote}"),
            Target::Native(remote) => format!("pods at {remote}, by no tunnel"),
            Target::Node(remote) => format!("the node at {remote}"),
            Target::Service => "services".to_owned(),
            Target::Host => "the node itself".to_owned(),
            Target::Stack => "the node's routing".to_owned(),
            Target::Unused => "unused".to_owned(),
        }
    }

    /// The rules behind a policy entry, by the table that its key names.
    fn behind(self, map: &str, key: &[u8], entry: EntryId) -> String {
        let EntryKey::Policy { table, .. } = key_of(map, key) else { return String::new() };
        let first = self.scene.user(self.node, table, self.ends);
        let origins = first.map(|(endpoint, direction, _)| {
            self.scene.origins(self.node, endpoint.id, direction, entry)
        });
        match origins {
            Some(origins) if !origins.is_empty() => format!(": {}", origins.join("; ")),
            _ => String::new(),
        }
    }

    /// Entries of a map in words, as `KEY -> VALUE`: those that are in use, and of tables those of the slot that
    /// is active.
    pub(super) fn entries(self, map: &Map, active: u32, now: u64) -> Vec<(Vec<u8>, String)> {
        let name = &map.definition().name;
        let shown = |key: &[u8], value: &[u8]| match key_of(name, key) {
            EntryKey::Prefix { slot, .. }
            | EntryKey::Policy { slot, .. }
            | EntryKey::Service { slot, .. }
            | EntryKey::Range { slot, .. } => u32::from(slot) == active & 1,
            EntryKey::Attachment { slot, .. } => slot == active & 1,
            EntryKey::Index(_) | EntryKey::Counter(..) | EntryKey::Bytes(_) => {
                value.iter().any(|byte| *byte != 0)
            }
            EntryKey::Flow(_)
            | EntryKey::Member { .. }
            | EntryKey::Client { .. }
            | EntryKey::Pieces(..) => true,
        };
        let entries = map.entries();
        let entries = entries.iter().filter(|(key, value)| shown(key, value));
        let words = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let line = format!("{} -> {}", self.key(name, key), self.value(name, key, value, now));
            (key.clone(), line)
        };
        entries.map(words).collect()
    }
}

/// `tcp 8080`, `tcp 8080-8087`, `any port of udp`, `anything`
fn traffic(key: &PolicyKey) -> String {
    match (key.protocol, key.port_bits) {
        (None, _) => "anything".to_owned(),
        (Some(protocol), 0) => format!("any {protocol}"),
        (Some(protocol), 16..) => format!("{protocol} {}", key.port),
        (Some(protocol), bits) => {
            let last = key.port | (u16::MAX >> bits);
            format!("{protocol} {}-{last}", key.port)
        }
    }
}

/// `tcp 10.0.0.1:80 - 10.0.0.2:40000`
pub(super) fn flow_in_words(flow: &FlowKey) -> String {
    let end = |address, port| match port {
        0 => format!("{address}"),
        _ => SocketAddr::new(address, port).to_string(),
    };
    let FlowKey { source, destination, protocol, source_port, destination_port } = *flow;
    let (from, to) = (end(source, source_port), end(destination, destination_port));
    format!("{} {from} - {to}", word(protocol))
}

fn word(protocol: Protocol) -> String {
    protocol.to_string()
}

/// The direction's word.
pub(super) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "egress",
        Direction::Ingress => "ingress",
    }
}
