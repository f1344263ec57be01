//! Words and small pieces of text that several renderers share: counted nouns, addresses with ports,
//! what a drop reason means, colours.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use engine::identity::Identity;
use engine::net::Protocol;
use engine::reason::DropReason;

/// Something got through, or passed.
pub(super) const GOOD: Style = AnsiColor::Green.on_default().bold();
/// Something was dropped, failed or is wrong.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Something is doubtful.
pub(super) const DOUBTFUL: Style = AnsiColor::Yellow.on_default().bold();

/// The word, in a colour where colours are wanted.
pub(super) fn painted(word: &str, style: Style, color: bool) -> String {
    if color { format!("{style}{word}{style:#}") } else { word.to_owned() }
}

/// `1 policy`, `3 policies`: the number with the right form of its noun.
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// `web/client 10.244.1.154:40312`, `8.8.8.8:40312`, `fe80::1`: a party with its address. The name is
/// left out where it is the address itself.
pub(super) fn party(name: &str, address: &str, port: Option<u16>) -> String {
    let place = match (port, address.parse::<IpAddr>()) {
        (Some(port), Ok(ip)) => SocketAddr::new(ip, port).to_string(),
        (Some(port), Err(_)) => format!("{address}:{port}"),
        (None, _) => address.to_owned(),
    };
    if name == address || name.is_empty() { place } else { format!("{name} {place}") }
}

/// `world`, `1042 {app=echo} in web`: an identity by what it stands for, with its number unless the
/// number is a reserved one and says nothing more than the name.
pub(super) fn identity(identity: Identity, meaning: &str) -> String {
    if identity.reserved_name().is_some() && !meaning.is_empty() {
        meaning.to_owned()
    } else if meaning.is_empty() {
        identity.to_string()
    } else {
        format!("{identity} {meaning}")
    }
}

/// `TCP`, `ICMPv6`, `protocol 89`: a protocol as its standard writes it.
pub(super) fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::Icmpv6 => "ICMPv6".to_owned(),
        Protocol::Other(number) => format!("protocol {number}"),
        other => other.to_string().to_uppercase(),
    }
}

/// `850 us`, `12.3 ms`, `1.50 s`.
pub(super) fn duration(elapsed: Duration) -> String {
    let micros = elapsed.as_micros();
    if micros < 1_000 {
        format!("{micros} us")
    } else if micros < 1_000_000 {
        format!("{:.1} ms", elapsed.as_secs_f64() * 1e3)
    } else {
        format!("{:.2} s", elapsed.as_secs_f64())
    }
}

/// What a reason means, for the verdict's line. Empty for the two that a policy gives: who decided says
/// more there.
pub(super) fn meaning(reason: DropReason) -> &'static str {
    match reason {
        DropReason::PolicyDenied | DropReason::PolicyDeny => "",
        DropReason::InvalidSourceIp => "the pod sent from an address that is not its own",
        DropReason::InvalidPacket => "the packet is too short for its network header",
        DropReason::CtInvalidHeader => "the transport header is truncated or malformed",
        DropReason::CtUnknownProtocol => "conntrack does not know the transport protocol",
        DropReason::UnknownL3 => "neither IPv4 nor IPv6 nor ARP",
        DropReason::MissedTailCall => "a program of the datapath is missing",
        DropReason::WriteError => "the packet could not be written",
        DropReason::NoTunnelKey => "there is no tunnel key with the packet",
        DropReason::CtCreateFailed => "conntrack has no room for the flow",
        DropReason::InvalidExtensionHeader => "an IPv6 extension header cannot be skipped",
        DropReason::FragmentNotSupported => "pieces of an ICMP message are never let through",
        DropReason::NoService => "the service has no backend, or not this port",
        DropReason::UnsupportedServiceProtocol => {
            "the service changes the port, and that cannot be done in this protocol"
        }
        DropReason::UnsupportedL2 => "the Ethernet type is not supported",
        DropReason::NatNoMapping => "no port is free to translate the source to",
        DropReason::NoFib => "no route leads to the destination",
        DropReason::EncapProhibited => "a pod may not send to the tunnel port",
        DropReason::InvalidIdentity => {
            "the overlay claimed an identity that the wire may not carry"
        }
        DropReason::IsClusterIp => "a cluster IP is for clients in the cluster",
        DropReason::FragmentNotFound => {
            "the ports of this fragment are not known, as the first one was not seen"
        }
        DropReason::NotInSourceRange => "the service does not admit this source",
        DropReason::Prefiltered => "the source is on the list of those that nodes drop",
        DropReason::TtlExceeded => "the TTL or hop limit ran out",
        DropReason::EndpointNotReady => "no endpoint is loaded for the attachment",
    }
}

/// What to do about a drop that nothing else says more about.
pub(super) fn remedy(reason: DropReason) -> &'static str {
    match reason {
        DropReason::InvalidSourceIp => {
            "send from an address of the pod, or give the pod this one: a pod's device takes no other source"
        }
        DropReason::InvalidPacket | DropReason::CtInvalidHeader => {
            "give the whole headers: what is cut off cannot be judged"
        }
        DropReason::CtUnknownProtocol => {
            "use TCP, UDP, SCTP, ICMP or ICMPv6: no policy can allow another protocol"
        }
        // A tunnel device gives its key with each packet; one that enters at a hook as it is may lack it.
        DropReason::NoTunnelKey => {
            "write `vni N from ADDRESS` behind the hook: the identity, and the node at the other end"
        }
        DropReason::UnknownL3 | DropReason::UnsupportedL2 => "send IPv4 or IPv6 over Ethernet",
        DropReason::InvalidExtensionHeader => {
            "leave the extension header out: hop-by-hop, routing, destination options and authentication headers are skipped, up to three of them"
        }
        DropReason::FragmentNotSupported => {
            "send a message that fits one packet: conntrack cannot tell whose the later pieces are"
        }
        DropReason::EncapProhibited => {
            "use another port: what pods send to the tunnel's could be taken for packets between nodes"
        }
        DropReason::InvalidIdentity => {
            "look who sent the outer packet: no node sends VNI 1, its own identity; close the tunnel's port to the outside"
        }
        DropReason::TtlExceeded => {
            "send it with a larger TTL: every node that routes it counts one down"
        }
        DropReason::EndpointNotReady => {
            "look at `show endpoints`: the device that it came by is none of them"
        }
        DropReason::CtCreateFailed => "wait until flows have expired, or make conntrack larger",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties() {
        let check = |name, address, port, expected: &str| {
            assert_eq!(party(name, address, port), expected);
        };
        check("web/a", "10.0.0.1", Some(80), "web/a 10.0.0.1:80");
        check("8.8.8.8", "8.8.8.8", Some(80), "8.8.8.8:80");
        check("8.8.8.8", "8.8.8.8", None, "8.8.8.8");
        check("web/a", "fd00::1", Some(80), "web/a [fd00::1]:80");
        check("fd00::1", "fd00::1", None, "fd00::1");
    }

    #[test]
    fn identities() {
        assert_eq!(identity(Identity::WORLD, "world"), "world");
        assert_eq!(identity(Identity(1042), "{app=echo} in web"), "1042 {app=echo} in web");
        assert_eq!(identity(Identity(1042), ""), "1042");
    }

    #[test]
    fn protocols() {
        let words = [Protocol::Tcp, Protocol::Icmpv6, Protocol::Other(89)].map(protocol);
        assert_eq!(words, ["TCP", "ICMPv6", "protocol 89"]);
    }

    #[test]
    fn durations() {
        assert_eq!(duration(Duration::from_micros(850)), "850 us");
        assert_eq!(duration(Duration::from_micros(12_340)), "12.3 ms");
        assert_eq!(duration(Duration::from_millis(1_500)), "1.50 s");
    }

    #[test]
    fn every_reason_but_the_policy_ones_has_a_meaning() {
        for reason in DropReason::ALL {
            let by_policy = matches!(reason, DropReason::PolicyDenied | DropReason::PolicyDeny);
            assert_eq!(meaning(*reason).is_empty(), by_policy, "{reason}");
        }
    }
}
