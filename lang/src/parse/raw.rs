//! Packets that enter at a hook as they are: bytes, a capture's packet, or layers.

use std::net::IpAddr;

use engine::diag::Diagnostic;
use engine::net::{Fragment, Hook, extension};

use super::policy::icmp_family;
use super::value::{self, Sink, address, number};
use super::{Rule, Tree, question};
use crate::ast::{IpLayer, Layer, PacketOption, RawQuestion, RawSource, Spanned, TunnelKey};
use crate::codes;

/// The largest VNI: 24 bits (RFC 7348 5, RFC 8926 3.4).
const LARGEST_VNI: u64 = 0xff_ffff;

pub(super) fn read(tree: &Tree<'_>, sink: Sink<'_>) -> Option<RawQuestion> {
    let hook = tree.child(Rule::raw_hook)?;
    let known = Hook::ALL.iter().find(|known| known.to_string() == hook.text());
    let node = tree.child(Rule::raw_node).and_then(|n| n.child(Rule::name));
    let mut question = RawQuestion {
        node: node.map(|n| n.name()),
        hook: hook.at(*known?),
        device: None,
        tunnel: None,
        mark: None,
        source: source(&tree.child(Rule::raw_source)?, sink)?,
        span: tree.span(),
    };
    for written in tree.all(Rule::raw_field) {
        let kind = written.only()?;
        match kind.rule() {
            Rule::raw_device => {
                let device = kind.child(Rule::qualified)?.name().node;
                once(&mut question.device, "on", kind.at(device), sink)?;
            }
            Rule::raw_tunnel => {
                let key = TunnelKey {
                    vni: vni(&kind, sink)?,
                    remote: address(&kind.child(Rule::address)?, sink)?.node,
                };
                once(&mut question.tunnel, "vni", kind.at(key), sink)?;
            }
            _ => {
                let mark = bits(&kind, "a mark", u64::from(u32::MAX), sink)?;
                once(&mut question.mark, "mark", kind.at(mark), sink)?;
            }
        }
    }
    Some(question)
}

fn once<T>(
    slot: &mut Option<Spanned<T>>,
    word: &str,
    given: Spanned<T>,
    sink: Sink<'_>,
) -> Option<()> {
    if let Some(first) = slot {
        sink.push(codes::twice(&format!("`{word}`"), given.span, first.span));
        return None;
    }
    *slot = Some(given);
    Some(())
}

fn source(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Spanned<RawSource>> {
    let written = tree.only()?;
    let source = match written.rule() {
        Rule::raw_hex => RawSource::Hex(bytes(&written, sink)?),
        Rule::raw_pcap => {
            let file = match written.child(Rule::string) {
                Some(quoted) => value::string(&quoted),
                None => written.child(Rule::bare_file)?.name(),
            };
            let digits = written.child(Rule::number)?;
            let most = u64::from(u32::MAX);
            let number = value::positive(&digits, "the number of a packet", most, sink)?;
            RawSource::Pcap { file, number: digits.at(number) }
        }
        _ => {
            let layers = written.all(Rule::layer).map(|layer| {
                let kind = layer.only()?;
                Some(kind.at(read_layer(&kind, sink)?))
            });
            RawSource::Layers(layers.collect::<Option<_>>()?)
        }
    };
    Some(written.at(source))
}

/// Hex digits in groups.
fn bytes(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Vec<u8>> {
    let groups = tree.all(Rule::hex_bytes).map(|group| question::hex(&group, sink));
    Some(groups.collect::<Option<Vec<_>>>()?.concat())
}

fn vni<T: TryFrom<u64>>(tree: &Tree<'_>, sink: Sink<'_>) -> Option<T> {
    number(&tree.child(Rule::number)?, "a VNI", LARGEST_VNI, sink)
}

/// A number in decimal, or behind `0x` in hex.
fn bits<T: TryFrom<u64>>(tree: &Tree<'_>, what: &str, most: u64, sink: Sink<'_>) -> Option<T> {
    let written = tree.child(Rule::bits)?;
    let text = written.text();
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    let fits = parsed.ok().filter(|n| *n <= most).and_then(|n| T::try_from(n).ok());
    if fits.is_none() {
        sink.push(value::out_of_range(text, what, most, written.span()));
    }
    fits
}

fn read_layer(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Layer> {
    Some(match tree.rule() {
        Rule::eth_layer => ethernet(tree, sink)?,
        Rule::ipv4_layer | Rule::ipv6_layer => Layer::Ip(ip(tree, sink)?),
        Rule::tcp_layer => tcp(tree, sink)?,
        Rule::udp_layer => {
            let (source, destination) = ports(tree, sink)?;
            Layer::Udp { source, destination }
        }
        Rule::sctp_layer => {
            let (source, destination) = ports(tree, sink)?;
            Layer::Sctp { source, destination }
        }
        Rule::icmp_layer => icmp(tree, sink)?,
        Rule::vxlan_layer => Layer::Vxlan { vni: vni(tree, sink)? },
        Rule::geneve_layer => Layer::Geneve { vni: vni(tree, sink)? },
        Rule::payload => Layer::Payload(value::string_in(tree)?.node.into_bytes()),
        _ => Layer::Payload(bytes(tree, sink)?),
    })
}

fn ethernet(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Layer> {
    let mut macs = tree.all(Rule::mac).map(|mac| mac.text().parse().ok());
    let ether_type = match tree.child(Rule::eth_type) {
        Some(written) => Some(bits(&written, "an EtherType", 0xffff, sink)?),
        None => None,
    };
    Some(Layer::Ethernet { source: macs.next()??, destination: macs.next()??, ether_type })
}

fn ports(tree: &Tree<'_>, sink: Sink<'_>) -> Option<(u16, u16)> {
    let mut ports = tree.all(Rule::number).map(|port| number(&port, "a port", 65_535, sink));
    Some((ports.next()??, ports.next()??))
}

fn tcp(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Layer> {
    let (source, destination) = ports(tree, sink)?;
    let (mut flags, mut sequence) = (None, None);
    for written in tree.all(Rule::tcp_field) {
        let kind = written.only()?;
        if kind.rule() == Rule::flags {
            once(&mut flags, "TCP flags", kind.at(question::flags(kind.text())), sink)?;
        } else {
            let digits = kind.child(Rule::number)?;
            let value = number(&digits, "a sequence number", u64::from(u32::MAX), sink)?;
            once(&mut sequence, "seq", kind.at(value), sink)?;
        }
    }
    let (flags, sequence) = (flags.map(|f| f.node), sequence.map(|s| s.node));
    Some(Layer::Tcp { source, destination, flags, sequence })
}

fn icmp(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Layer> {
    let PacketOption::Icmp { message, .. } = question::icmp(tree, sink)? else { return None };
    let (mut id, mut sequence, mut mtu) = (None, None, None);
    for written in tree.all(Rule::icmp_field) {
        let kind = written.only()?;
        if kind.rule() == Rule::mtu {
            once(&mut mtu, "mtu", kind.at(question::mtu(&kind, sink)?), sink)?;
            continue;
        }
        let digits = kind.child(Rule::number)?;
        let (slot, word) = match kind.rule() {
            Rule::echo_id => (&mut id, "id"),
            _ => (&mut sequence, "seq"),
        };
        let value = number(&digits, "a number of an echo", 65_535, sink)?;
        once(slot, word, kind.at(value), sink)?;
    }
    let (id, sequence) = (id.map(|i| i.node), sequence.map(|s| s.node));
    Some(Layer::Icmp { family: icmp_family(tree), message, id, sequence, mtu })
}

fn ip(tree: &Tree<'_>, sink: Sink<'_>) -> Option<IpLayer> {
    let v6 = tree.rule() == Rule::ipv6_layer;
    let mut sides = Vec::new();
    for written in tree.all(Rule::address) {
        let side = address(&written, sink)?;
        check_family(&side, v6, sink)?;
        sides.push(side.node);
    }
    let (source, destination) = (*sides.first()?, *sides.get(1)?);
    let mut layer = IpLayer {
        source,
        destination,
        ttl: None,
        id: None,
        flow_label: None,
        dont_fragment: false,
        fragment: None,
        protocol: None,
        options: Vec::new(),
        extensions: Vec::new(),
    };
    let mut seen: Vec<Tree<'_>> = Vec::new();
    for written in tree.all(Rule::ip_field) {
        let field = written.only()?;
        if let Some(first) = seen.iter().find(|other| other.rule() == field.rule()) {
            let word = super::first_word(field.text());
            sink.push(codes::twice(&format!("`{word}`"), field.span(), first.span()));
            return None;
        }
        ip_field(&field, v6, &mut layer, sink)?;
        seen.push(field);
    }
    if let Some(id) = seen.iter().find(|f| v6 && f.rule() == Rule::echo_id)
        && layer.fragment.is_none()
    {
        foreign(id, "IPv6 has an `id` in fragments only", sink);
        return None;
    }
    Some(layer)
}

fn check_family(side: &Spanned<IpAddr>, v6: bool, sink: Sink<'_>) -> Option<()> {
    if side.node.is_ipv6() == v6 {
        return Some(());
    }
    let (layer, other) = if v6 { ("ipv6", "ipv4") } else { ("ipv4", "ipv6") };
    let message = format!("`{}` is no address of an `{layer}` layer", side.node);
    sink.push(
        Diagnostic::error(codes::BAD_ADDRESS, message, side.span)
            .help(format!("write `{other}`, or an address of the other family")),
    );
    None
}

/// A field that the family does not have.
fn foreign(field: &Tree<'_>, message: &str, sink: Sink<'_>) {
    sink.push(Diagnostic::error(codes::CONFLICTING_OPTION, message, field.span()));
}

fn ip_field(field: &Tree<'_>, v6: bool, layer: &mut IpLayer, sink: Sink<'_>) -> Option<()> {
    let digits = field.child(Rule::number);
    match field.rule() {
        Rule::k_df | Rule::ip_options if v6 => {
            let word = super::first_word(field.text());
            foreign(field, &format!("IPv6 has no `{word}`"), sink);
            return None;
        }
        Rule::extensions | Rule::flow_label if !v6 => {
            let word = super::first_word(field.text());
            foreign(field, &format!("IPv4 has no `{word}`"), sink);
            return None;
        }
        Rule::ttl => layer.ttl = Some(number(&digits?, "a TTL", 255, sink)?),
        Rule::echo_id => {
            layer.id = Some(number(&digits?, "an IP identification", 65_535, sink)?);
        }
        Rule::flow_label => layer.flow_label = Some(question::flow_label(&digits?, sink)?),
        Rule::k_df => layer.dont_fragment = true,
        Rule::fragment => {
            let PacketOption::Fragment { offset, more } = question::fragment(field, sink)? else {
                return None;
            };
            layer.fragment = Some(Fragment { offset, more });
        }
        Rule::ip_proto => layer.protocol = Some(number(&digits?, "a protocol", 255, sink)?),
        Rule::ip_options => {
            layer.options = question::ip_options(&field.child(Rule::hex_bytes)?, sink)?;
        }
        _ => {
            let numbers = field.all(Rule::extension_name).map(|name| {
                let known = extension::NAMES.iter().find(|(known, _)| *known == name.text());
                known.map(|(_, number)| *number)
            });
            layer.extensions = numbers.collect::<Option<_>>()?;
        }
    }
    Some(())
}
