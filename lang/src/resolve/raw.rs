//! A packet at a hook with every name looked up and every open field filled. Bytes are made elsewhere.

use engine::backend::TunnelKey;
use engine::diag::Diagnostic;
use engine::net::{DEFAULT_WINDOW, Hook, IpHeader, Layer, Protocol, TcpFlags};
use engine::question::{DEFAULT_TTL, MAX_PACKET};
use engine::source::Span;
use engine::topology::{NodeId, Party, PodId, TunnelKind, World};

use super::{Atlas, extra, packet, party_in};
use crate::ast::{
    self, IcmpMessage, IpLayer, Name, PartyKind, PartyName, RawQuestion, RawSource, Spanned,
};
use crate::codes;
use crate::names::nearest;

/// A packet at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The node.
    pub node: NodeId,
    /// The hook.
    pub hook: Hook,
    /// The device; `None` is the one that the hook hangs on.
    pub device: Option<Device>,
    /// What the tunnel device took off the packet.
    pub tunnel: Option<TunnelKey>,
    /// The kernel's mark on it; 0 where none is written.
    pub mark: u32,
    /// Where its bytes come from.
    pub bytes: Bytes,
}

/// The device that a packet comes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The host's side of this pod's veth.
    Pod(PodId),
    /// The one of this name.
    Named(String),
}

/// Where bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bytes {
    /// They are these.
    Frame(Vec<u8>),
    /// They are in a capture.
    Pcap {
        /// Its file.
        file: Name,
        /// Which packet, from 1.
        number: u32,
    },
    /// They are these layers, outermost first.
    Layers(Vec<Layer>),
}

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;

/// Refuses the length of a frame that no backend runs.
///
/// # Errors
/// The problem, told about the place that the frame is written at.
pub fn frame_fits(length: usize, span: Span) -> Result<(), Diagnostic> {
    let most = MAX_PACKET + ETHERNET;
    if length < ETHERNET {
        let message =
            format!("the frame has {length} bytes, and an Ethernet header has {ETHERNET}");
        return Err(Diagnostic::error(codes::CANNOT_ENTER, message, span)
            .help("give the whole frame, beginning with the Ethernet addresses"));
    }
    if length > most {
        let message = format!("the frame has {length} bytes, and {most} fit");
        return Err(Diagnostic::error(codes::CANNOT_ENTER, message, span).help(
            "take a shorter payload; a capture shows packets as long as on the wire where offloading is off",
        ));
    }
    Ok(())
}

/// What a node puts into its tunnel is from its own end of it.
fn check_end(world: &World, node: NodeId, question: &RawQuestion) -> Result<(), Diagnostic> {
    let Some(key) = question.tunnel.as_ref().filter(|_| question.hook.node == Hook::ToOverlay)
    else {
        return Ok(());
    };
    let own = world.node(node);
    let end = own.and_then(|own| own.tunnel_end(world.tunnels_over_ipv6()));
    match end.filter(|end| *end != key.node.remote) {
        None => Ok(()),
        Some(end) => {
            let name = own.map_or("?", |own| own.name.as_str());
            let message =
                format!("at `to-overlay` a packet is from {name}'s own end of the tunnel");
            Err(Diagnostic::error(codes::CANNOT_ENTER, message, key.span).help(format!(
                "write `vni {} from {end}`; where it goes, its destination says",
                key.node.vni
            )))
        }
    }
}

/// The packet with its names looked up.
///
/// # Errors
/// One problem: an unknown node or message, no node where the world has several, a pod of another node, bytes that are
/// too few or too many for a frame.
pub fn raw(world: &World, question: &RawQuestion) -> Result<Raw, Diagnostic> {
    let device = question.device.as_ref().map(|name| device(world, name)).transpose()?;
    let node = node(world, question, device.as_ref())?;
    if let (Some(Device::Pod(id)), Some(written)) = (&device, &question.device)
        && world.pod(*id).is_some_and(|pod| pod.node != node)
    {
        let message = format!("{} is on another node", super::label(world, Party::Pod(*id)));
        return Err(Diagnostic::error(codes::UNKNOWN_NODE, message, written.span)
            .help("leave the node out: it is the pod's"));
    }
    check_read(question)?;
    check_end(world, node, question)?;
    let tunnel = question.tunnel.as_ref();
    Ok(Raw {
        node,
        hook: question.hook.node,
        device,
        tunnel: tunnel.map(|key| TunnelKey { vni: key.node.vni, source: key.node.remote }),
        mark: question.mark.as_ref().map_or(0, |mark| mark.node),
        bytes: match &question.source.node {
            RawSource::Hex(bytes) => {
                frame_fits(bytes.len(), question.source.span)?;
                Bytes::Frame(bytes.clone())
            }
            RawSource::Pcap { file, number } => {
                Bytes::Pcap { file: file.clone(), number: number.node }
            }
            RawSource::Layers(layers) => {
                Bytes::Layers(layers.iter().map(|l| layer(&l.node)).collect::<Result<_, _>>()?)
            }
        },
    })
}

/// Nothing may be written that the program does not read.
fn check_read(question: &RawQuestion) -> Result<(), Diagnostic> {
    let hook = question.hook.node;
    if let Some(key) = &question.tunnel
        && !matches!(hook, Hook::FromOverlay | Hook::ToOverlay)
    {
        let message = format!("`vni` means nothing at `{hook}`");
        return Err(Diagnostic::error(codes::CONFLICTING_OPTION, message, key.span)
            .also(question.hook.span, "the packet enters here")
            .help("`from-overlay` and `to-overlay` read what a tunnel device takes off or puts on; in the packet itself a tunnel is layers: `udp 5 > 8472 / vxlan vni 7 / eth ...`"));
    }
    let Some(mark) = question.mark.as_ref().filter(|mark| mark.node != 0) else { return Ok(()) };
    let counts = marks(hook);
    if counts.iter().any(|(known, _)| mark.node & MARK_MASK == *known) {
        return Ok(());
    }
    let message = format!("mark {:#x} means nothing at `{hook}`", mark.node);
    let problem = Diagnostic::error(codes::CONFLICTING_OPTION, message, mark.span)
        .also(question.hook.span, "the packet enters here");
    let known = counts.iter().map(|(known, what)| format!("{known:#x} ({what})"));
    Err(match known.collect::<Vec<_>>().as_slice() {
        [] => problem.help("leave it out: no mark is read there"),
        known => problem.help(format!("of bits 8 to 11 there count {}", known.join(", "))),
    })
}

/// The bits of a mark that say who marked.
const MARK_MASK: u32 = 0xf00;

/// The marks that a hook tells apart, by those bits, and what each says.
fn marks(hook: Hook) -> &'static [(u32, &'static str)] {
    match hook {
        Hook::ToContainer | Hook::ToHost => &[(0x700, "local delivery judged it")],
        Hook::FromHost => &[(0xc00, "the node itself sent it")],
        Hook::ToNetdev => &[
            (0x300, "its source is translated"),
            (0x400, "it comes out of the tunnel device"),
            (0xc00, "the node itself sent it"),
            (0xf00, "a program of the node let it go, with an identity from bit 16"),
        ],
        _ => &[],
    }
}

/// The written node, else the pod's, else the only one.
fn node(
    world: &World,
    question: &RawQuestion,
    device: Option<&Device>,
) -> Result<NodeId, Diagnostic> {
    let names = || world.nodes.iter().map(|node| node.name.as_str());
    let Some(name) = &question.node else {
        if let Some(Device::Pod(id)) = device
            && let Some(pod) = world.pod(*id)
        {
            return Ok(pod.node);
        }
        if let [_] = world.nodes.as_slice() {
            return Ok(NodeId(0));
        }
        let message = "it is open at which node the packet enters";
        let span = question.hook.span;
        let problem = Diagnostic::error(codes::UNKNOWN_NODE, message, span);
        return Err(match world.nodes.as_slice() {
            [] => problem.help("the world has no node at all"),
            _ => problem
                .help(format!("name one of {} before the hook", crate::names::listed(names()))),
        });
    };
    let found = world.nodes().find(|(_, node)| node.name == name.node);
    found.map(|(id, _)| id).ok_or_else(|| {
        let message = format!("no node is named `{}`", name.node);
        let problem = Diagnostic::error(codes::UNKNOWN_NODE, message, name.span);
        match nearest(&name.node, names()) {
            Some(near) => problem.fix(format!("did you mean `{near}`?"), name.span, near),
            None => problem.help(format!("nodes: {}", crate::names::listed(names()))),
        }
    })
}

/// A pod with a network of its own by its name, else a device of that name.
fn device(world: &World, written: &Name) -> Result<Device, Diagnostic> {
    let kind = PartyKind::Pod(crate::parse::qualify(&written.node));
    let name = PartyName { kind, span: written.span };
    match party_in(Atlas::plain(world), &name) {
        Ok(Party::Pod(id)) if world.pod(id).is_some_and(|pod| pod.host_network) => {
            let message = format!("{} has no device of its own", written.node);
            Err(Diagnostic::error(codes::UNKNOWN_ENDPOINT, message, written.span)
                .help("it is on the host network: name the node's device, or none"))
        }
        Ok(Party::Pod(id)) => Ok(Device::Pod(id)),
        // Several pods have the name, or it is a pod's that is not there.
        Err(problem) if problem.code == codes::AMBIGUOUS_ENDPOINT || written.node.contains('/') => {
            Err(problem)
        }
        _ => Ok(Device::Named(written.node.clone())),
    }
}

fn layer(layer: &ast::Layer) -> Result<Layer, Diagnostic> {
    Ok(match layer {
        ast::Layer::Ethernet { source, destination, ether_type } => {
            Layer::Ethernet { source: *source, destination: *destination, ethertype: *ether_type }
        }
        ast::Layer::Ip(header) => Layer::Ip { header: ip(header), protocol: header.protocol },
        ast::Layer::Tcp { source, destination, flags, sequence } => {
            let flags = flags.unwrap_or(TcpFlags::SYN);
            Layer::Tcp {
                source: *source,
                destination: *destination,
                flags,
                sequence: sequence.unwrap_or(1),
                acknowledgement: u32::from(flags.contains(TcpFlags::ACK)),
                window: DEFAULT_WINDOW,
                options: Vec::new(),
            }
        }
        ast::Layer::Udp { source, destination } => {
            Layer::Udp { source: *source, destination: *destination }
        }
        ast::Layer::Sctp { source, destination } => {
            Layer::Sctp { source: *source, destination: *destination, tag: 0 }
        }
        ast::Layer::Icmp { family, message, id, sequence, mtu } => {
            icmp(*family, message.as_ref(), (*id, *sequence), mtu.as_ref())?
        }
        ast::Layer::Vxlan { vni } => tunnel(TunnelKind::Vxlan, *vni),
        ast::Layer::Geneve { vni } => tunnel(TunnelKind::Geneve, *vni),
        ast::Layer::Payload(bytes) => Layer::Payload(bytes.clone()),
    })
}

fn icmp(
    family: Protocol,
    message: Option<&IcmpMessage>,
    numbers: (Option<u16>, Option<u16>),
    mtu: Option<&Spanned<u32>>,
) -> Result<Layer, Diagnostic> {
    let v6 = family == Protocol::Icmpv6;
    let (kind, code) = packet::icmp_type(message, v6)?;
    if let Some(mtu) = mtu {
        let rest = packet::mtu_numbers(mtu, (kind, code), v6)?;
        return Ok(Layer::Icmp { v6, kind, code, rest });
    }
    let usual = u16::from(packet::is_echo(kind, v6));
    let (id, sequence) = (numbers.0.unwrap_or(usual), numbers.1.unwrap_or(usual));
    let ([a, b], [c, d]) = (id.to_be_bytes(), sequence.to_be_bytes());
    Ok(Layer::Icmp { v6, kind, code, rest: [a, b, c, d] })
}

fn tunnel(kind: TunnelKind, vni: u32) -> Layer {
    Layer::Tunnel { kind, vni, options: Vec::new() }
}

fn ip(header: &IpLayer) -> IpHeader {
    IpHeader {
        source: header.source,
        destination: header.destination,
        traffic_class: 0,
        ttl: header.ttl.unwrap_or(DEFAULT_TTL),
        id: header.id.map_or(0, u32::from),
        flow_label: header.flow_label.unwrap_or(0),
        dont_fragment: header.dont_fragment,
        fragment: header.fragment.unwrap_or_default(),
        options: extra::ip_options(&header.options),
        extensions: extra::extensions(&header.extensions),
    }
}

#[cfg(test)]
mod tests {
    use engine::net::Fragment;
    use engine::source::SourceMap;

    use super::*;
    use crate::{NoIncludes, command, load};

    const WORLD: &str = "cluster c {\n  node n1 { ip 192.168.0.1 pods 10.1.0.0/24 }\n  node n2 { ip 192.168.0.2 }\n}\n\
        namespace web {}\npod web/a on n1 { ip 10.1.0.10 }\npod web/agent on n2 { host-network }\n";

    fn read(text: &str) -> Result<Raw, String> {
        let text = &text.replace("FRAME", &"00".repeat(ETHERNET));
        let mut sources = SourceMap::default();
        let loaded = load(&[("w.hop".to_owned(), WORLD.to_owned())], &mut NoIncludes, &mut sources);
        assert_eq!(loaded.diagnostics, []);
        let file = sources.add("input", text);
        let question =
            command::parse_raw(text, file).map_err(|problems| format!("{problems:?}"))?;
        raw(&loaded.world, &question).map_err(|problem| {
            let helps = problem.helps.iter().map(|help| format!("; {}", help.message));
            format!("{} {}{}", problem.code, problem.message, helps.collect::<String>())
        })
    }

    #[test]
    fn names_are_looked_up() {
        let packet = read("n2 to-netdev mark 0xc07 hex FRAME").expect("resolves");
        assert_eq!((packet.node, packet.mark, packet.device), (NodeId(1), 0xc07, None));
        let packet = read("from-container on a hex FRAME").expect("resolves");
        assert_eq!((packet.node, packet.device), (NodeId(0), Some(Device::Pod(PodId(0)))));
        let packet = read("n1 from-container on lxc7 hex FRAME").expect("resolves");
        assert_eq!(packet.device, Some(Device::Named("lxc7".into())));
        for (text, expected) in [
            ("n3 from-netdev hex FRAME", "HW0103 no node is named `n3`; did you mean `n1`?"),
            (
                "from-netdev hex FRAME",
                "HW0103 it is open at which node the packet enters; name one of n1, n2 before the hook",
            ),
            (
                "n2 from-container on web/a hex FRAME",
                "HW0103 web/a is on another node; leave the node out: it is the pod's",
            ),
            (
                "from-container on web/agent hex FRAME",
                "HW0200 web/agent has no device of its own; it is on the host network: name the node's device, or none",
            ),
            (
                "n1 from-netdev hex 0000",
                "HW0213 the frame has 2 bytes, and an Ethernet header has 14; give the whole frame, beginning with the Ethernet addresses",
            ),
            (
                "n1 from-netdev vni 7 from 192.168.0.2 hex FRAME",
                "HW0204 `vni` means nothing at `from-netdev`; `from-overlay` and `to-overlay` read what a tunnel device takes off or puts on; in the packet itself a tunnel is layers: `udp 5 > 8472 / vxlan vni 7 / eth ...`",
            ),
            (
                "from-container on a mark 0xf00 hex FRAME",
                "HW0204 mark 0xf00 means nothing at `from-container`; leave it out: no mark is read there",
            ),
            (
                "to-container on a mark 0x1010f00 hex FRAME",
                "HW0204 mark 0x1010f00 means nothing at `to-container`; of bits 8 to 11 there count 0x700 (local delivery judged it)",
            ),
            (
                "n1 from-netdev icmp ecko",
                "HW0122 `ecko` is not an icmp message; did you mean `echo-reply`?",
            ),
        ] {
            let said = read(text).expect_err(text);
            assert!(said.starts_with(expected.split("; did").next().unwrap_or("")), "{said}");
            if !text.contains("ecko") {
                assert_eq!(said, expected);
            }
        }
    }

    #[test]
    fn layers_are_filled() {
        let text = "n1 from-overlay vni 7 from 192.168.0.2 ipv4 10.0.0.1 > 10.0.0.2 fragment more ip-options 01 / \
            tcp 1 > 2 ack / icmp / icmpv6 echo-request id 5 / icmp 3/4 / icmp 3/4 mtu 1400 / icmpv6 packet-too-big mtu 1280";
        let packet = read(text).expect("resolves");
        assert_eq!(packet.tunnel.map(|key| key.vni), Some(7));
        let Bytes::Layers(layers) = packet.bytes else { panic!("layers") };
        let [Layer::Ip { header, protocol: None }, tcp, rest @ ..] = layers.as_slice() else {
            panic!("{layers:?}")
        };
        assert_eq!((header.ttl, header.id), (64, 0));
        assert_eq!(header.fragment, Fragment { offset: 0, more: true });
        assert_eq!(header.options, [1, 0, 0, 0]);
        assert!(matches!(tcp, Layer::Tcp { flags: TcpFlags::ACK, acknowledgement: 1, .. }));
        let numbers: Vec<(u8, u8, [u8; 4])> = rest
            .iter()
            .filter_map(|layer| match layer {
                Layer::Icmp { kind, code, rest, .. } => Some((*kind, *code, *rest)),
                _ => None,
            })
            .collect();
        assert_eq!(
            numbers,
            [
                (8, 0, [0, 1, 0, 1]),
                (128, 0, [0, 5, 0, 1]),
                (3, 4, [0; 4]),
                (3, 4, [0, 0, 5, 120]),
                (2, 0, [0, 0, 5, 0])
            ]
        );
    }
}
