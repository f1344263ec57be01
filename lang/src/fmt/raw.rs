//! The canonical text of packets that enter at a hook, from their trees.

use super::question::{hex, icmp, quoted};
use crate::ast::{IpLayer, Layer, RawQuestion, RawSource};

use engine::net::extension;

/// The text of a packet at a hook, as [`crate::command::parse_raw`] reads it: `at NODE HOOK ...`.
pub fn raw(question: &RawQuestion) -> String {
    let mut words = vec!["at".to_owned()];
    words.extend(question.node.as_ref().map(|node| node.node.clone()));
    words.push(question.hook.node.to_string());
    words.extend(question.device.as_ref().map(|device| format!("on {}", device.node)));
    words.extend(
        question
            .tunnel
            .as_ref()
            .map(|key| format!("vni {} from {}", key.node.vni, key.node.remote)),
    );
    words.extend(question.mark.as_ref().map(|mark| format!("mark {:#x}", mark.node)));
    words.push(match &question.source.node {
        RawSource::Hex(bytes) => format!("hex {}", hex(bytes)),
        RawSource::Pcap { file, number } => {
            format!("pcap {} number {}", quoted(&file.node), number.node)
        }
        RawSource::Layers(layers) => {
            let layers: Vec<String> = layers.iter().map(|written| layer(&written.node)).collect();
            layers.join(" / ")
        }
    });
    words.join(" ")
}

/// The text of one layer.
pub fn layer(layer: &Layer) -> String {
    match layer {
        Layer::Ethernet { source, destination, ether_type } => {
            let kind = ether_type.map(|kind| format!(" type {kind:#06x}")).unwrap_or_default();
            format!("eth {source} > {destination}{kind}")
        }
        Layer::Ip(header) => ip(header),
        Layer::Tcp { source, destination, flags, sequence } => {
            let flags = flags.map(|flags| format!(" {}", flags.to_string().to_lowercase()));
            let sequence = sequence.map(|sequence| format!(" seq {sequence}"));
            let (flags, sequence) = (flags.unwrap_or_default(), sequence.unwrap_or_default());
            format!("tcp {source} > {destination}{flags}{sequence}")
        }
        Layer::Udp { source, destination } => format!("udp {source} > {destination}"),
        Layer::Sctp { source, destination } => format!("sctp {source} > {destination}"),
        Layer::Icmp { family, message, id, sequence, mtu } => {
            let id = id.map(|id| format!(" id {id}")).unwrap_or_default();
            let sequence = sequence.map(|s| format!(" seq {s}")).unwrap_or_default();
            let mtu = mtu.as_ref().map(|m| format!(" mtu {}", m.node)).unwrap_or_default();
            format!("{}{id}{sequence}{mtu}", icmp(*family, message.as_ref()))
        }
        Layer::Vxlan { vni } => format!("vxlan vni {vni}"),
        Layer::Geneve { vni } => format!("geneve vni {vni}"),
        Layer::Payload(bytes) => format!("hex {}", hex(bytes)),
    }
}

fn ip(header: &IpLayer) -> String {
    let family = if header.source.is_ipv6() { "ipv6" } else { "ipv4" };
    let mut words = vec![format!("{family} {} > {}", header.source, header.destination)];
    words.extend(header.ttl.map(|ttl| format!("ttl {ttl}")));
    words.extend(header.id.map(|id| format!("id {id}")));
    words.extend(header.flow_label.map(|label| format!("flow-label {label}")));
    words.extend(header.dont_fragment.then(|| "df".to_owned()));
    words.extend(header.fragment.map(|fragment| match (fragment.offset, fragment.more) {
        (0, _) => "fragment more".to_owned(),
        (offset, more) => format!("fragment offset {offset}{}", if more { " more" } else { "" }),
    }));
    words.extend(header.protocol.map(|protocol| format!("proto {protocol}")));
    if !header.options.is_empty() {
        words.push(format!("ip-options {}", hex(&header.options)));
    }
    if !header.extensions.is_empty() {
        let names = header.extensions.iter().map(|n| extension::name(*n).unwrap_or("?"));
        words.push(format!("extensions {}", names.collect::<Vec<_>>().join(", ")));
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use engine::source::FileId;

    use super::*;
    use crate::command::parse_raw;

    #[test]
    fn packets_are_written_in_one_way() {
        let check = |written: &str, expected: &str| {
            let read = |text: &str| match parse_raw(text, FileId::default()) {
                Ok(read) => raw(&read),
                Err(problems) => panic!("{text}: {problems:?}"),
            };
            assert_eq!(read(written), expected);
            assert_eq!(read(expected), expected, "twice");
        };
        check("n1 from-netdev hex 0A0b 0c", "at n1 from-netdev hex 0a0b0c");
        check("--at from-host hex 00", "at from-host hex 00");
        check(
            "at n1 to-netdev mark 3840 on eth0 pcap a/b-1.pcap number 3",
            "at n1 to-netdev on eth0 mark 0xf00 pcap \"a/b-1.pcap\" number 3",
        );
        check(
            "at n1 from-overlay vni 27634 from 192.168.0.2 eth 02:00:00:00:00:01>02:00:00:00:00:02 type 0x0800 / ipv4 10.1.0.10 > 10.2.0.10 ttl 3 id 7 df proto 6 / tcp 40312 > 80 ack-syn seq 9",
            "at n1 from-overlay vni 27634 from 192.168.0.2 eth 02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x0800 / ipv4 10.1.0.10 > 10.2.0.10 ttl 3 id 7 df proto 6 / tcp 40312 > 80 syn-ack seq 9",
        );
        check(
            "n1 from-netdev eth 02:00:00:00:00:01 > 02:00:00:00:00:02/ipv4 1.1.1.1 > 2.2.2.2 fragment offset 8 ip-options 01/udp 1 > 8472/vxlan vni 5/eth 02:00:00:00:00:01 > 02:00:00:00:00:02/ipv6 fd00::1 > fd00::2 extensions hop-by-hop, routing/icmpv6 echo id 1 seq 2/payload \"ab\"",
            "at n1 from-netdev eth 02:00:00:00:00:01 > 02:00:00:00:00:02 / ipv4 1.1.1.1 > 2.2.2.2 fragment offset 8 ip-options 01 / udp 1 > 8472 / vxlan vni 5 / eth 02:00:00:00:00:01 > 02:00:00:00:00:02 / ipv6 fd00::1 > fd00::2 extensions hop-by-hop, routing / icmpv6 echo id 1 seq 2 / hex 6162",
        );
        check(
            "n1 from-container on web/client ipv6 fd00::1 > fd00::2 flow-label 9 fragment more id 4 / sctp 1 > 2 / geneve vni 1 / icmp 3/4 mtu 1400",
            "at n1 from-container on web/client ipv6 fd00::1 > fd00::2 id 4 flow-label 9 fragment more / sctp 1 > 2 / geneve vni 1 / icmp 3/4 mtu 1400",
        );
    }
}
