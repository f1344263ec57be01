//! How a packet of a capture is asked about again, in the words of `hopwise trace`: by its number, where the capture holds it as
//! the datapath got it; else in the words of a question, or of a packet that comes out of a tunnel.

use engine::backend::TunnelKey;
use engine::explain::Explanation;
use engine::net::{Packet, TcpFlags, Transport, icmp};
use engine::trace::Place;

/// From here on a packet's time to live decides nothing.
const LONG_LIVED: u8 = 3;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Again {
    /// Where the frame enters, if the capture holds it.
    at: Option<String>,
    /// The words; `None` where none would give the same answer.
    words: Option<String>,
}

impl Again {
    /// The packet as its sender sends it; `is_held` if the capture holds that very frame.
    pub(super) fn sent(explanation: &Explanation, packet: &Packet, is_held: bool) -> Self {
        let first = explanation.hops.first().filter(|_| is_held);
        let at = first.map(|hop| format!("{} {} on {}", hop.node, hop.hook, hop.device));
        Self { at, words: question(packet).map(|question| format!("'{question}'")) }
    }

    /// The packet as it comes out of a tunnel.
    pub(super) fn out_of(explanation: &Explanation, packet: &Packet, key: TunnelKey) -> Self {
        let TunnelKey { vni, source } = key;
        let words = explanation.hops.first().zip(layers(packet)).map(|(hop, layers)| {
            format!("--at '{} {} vni {vni} from {source}' '{layers}'", hop.node, hop.hook)
        });
        Self { at: None, words }
    }

    /// The arguments of `hopwise trace` for the packet of this number; `file` is the capture, where it can be read again.
    pub(super) fn arguments(&self, number: u64, file: Option<&str>) -> Option<String> {
        let Some((at, file)) = self.at.as_ref().zip(file) else { return self.words.clone() };
        let file = if file.contains(char::is_whitespace) {
            format!("\"{file}\"")
        } else {
            file.to_owned()
        };
        Some(format!("--at '{at}' pcap {file} number {number}"))
    }
}

/// Whether words can say it: pieces, options and headers between are not repeated.
fn is_plain(packet: &Packet) -> bool {
    !packet.ip.fragment.is_fragment()
        && packet.ip.options.is_empty()
        && packet.ip.extensions.is_empty()
}

fn question(packet: &Packet) -> Option<String> {
    let (source, destination) = (packet.ip.source, packet.ip.destination);
    let (from, port) = packet.transport.ports();
    let place = Place { address: destination, port };
    let protocol = packet.protocol();
    let said = match packet.transport {
        _ if !is_plain(packet) => return None,
        Transport::Tcp { flags, .. } => {
            let flags = if flags == TcpFlags::SYN { String::new() } else { worded(flags)? };
            format!("{source} -> {place}/{protocol} from-port {from}{flags}")
        }
        Transport::Udp { .. } | Transport::Sctp { .. } => {
            format!("{source} -> {place}/{protocol} from-port {from}")
        }
        Transport::Icmp { .. } => format!("{source} -> {destination} {}", echo(packet)?),
        Transport::Other { .. } => return None,
    };
    Some(said + &lifetime(packet))
}

fn layers(packet: &Packet) -> Option<String> {
    let version = if packet.ip.source.is_ipv6() { "ipv6" } else { "ipv4" };
    let (from, to) = packet.transport.ports();
    let protocol = packet.protocol();
    let behind = match packet.transport {
        _ if !is_plain(packet) => return None,
        Transport::Tcp { flags, .. } => format!("tcp {from} > {to}{}", worded(flags)?),
        Transport::Udp { .. } | Transport::Sctp { .. } => format!("{protocol} {from} > {to}"),
        Transport::Icmp { .. } => echo(packet)?,
        Transport::Other { .. } => return None,
    };
    let (source, destination) = (packet.ip.source, packet.ip.destination);
    Some(format!("{version} {source} > {destination}{} / {behind}", lifetime(packet)))
}

/// ` syn-ack`; `None` for none at all.
fn worded(flags: TcpFlags) -> Option<String> {
    (flags.0 != 0).then(|| format!(" {}", flags.to_string().to_lowercase()))
}

fn lifetime(packet: &Packet) -> String {
    if packet.ip.ttl >= LONG_LIVED { String::new() } else { format!(" ttl {}", packet.ip.ttl) }
}

/// An echo; other messages quote packets.
fn echo(packet: &Packet) -> Option<String> {
    let Transport::Icmp { kind, code: 0, rest: [high, low, ..] } = packet.transport else {
        return None;
    };
    let (word, names, echoes) = if packet.ip.source.is_ipv6() {
        ("icmpv6", icmp::NAMES_V6, [icmp::V6_ECHO_REQUEST, icmp::V6_ECHO_REPLY])
    } else {
        ("icmp", icmp::NAMES_V4, [icmp::ECHO_REQUEST, icmp::ECHO_REPLY])
    };
    let (name, _) = names.iter().find(|(_, number)| *number == kind && echoes.contains(&kind))?;
    Some(format!("{word} {name} id {}", u16::from_be_bytes([high, low])))
}
