//! Where packets go and who sent them, hook by hook.

use super::*;
use engine::trace::IdentitySource;

/// Who a side of the packet is and how it is known.
fn identity(said: &Said, source: bool) -> Option<(Identity, IdentitySource)> {
    said.0.events.iter().find_map(|stamped| match stamped.event {
        Event::Identity { source_side, identity, from, .. } if source_side == source => {
            Some((identity, from))
        }
        _ => None,
    })
}

#[test]
fn what_a_pod_sends_goes_where_the_ipcache_says() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    let far = Action::Tunnel { vni: 1000, remote: ip("192.168.0.2"), ifindex: TUNNEL, ttl: 64 };
    let near = Action::Deliver { endpoint: EndpointId(2), ifindex: PORT_B, peer: true };
    for (source, destination, action, code) in [
        ("10.0.0.1", "10.0.0.2", near, 7),
        ("fd00::1", "fd00::2", near, 7),
        ("10.0.0.1", "10.1.0.1", far, 7),
        ("fd00::1", "fd01::1", far, 7),
        ("10.0.0.1", "192.168.0.1", Action::Stack { host: true }, 0),
        ("10.0.0.1", "192.168.0.2", Action::Stack { host: false }, 0),
        ("10.0.0.1", "8.8.8.8", Action::Stack { host: false }, 0),
        ("fd00::1", "2001:db8::1", Action::Stack { host: false }, 0),
    ] {
        let said = backend.say(&from_a(&packet(source, destination, syn(80))));
        assert_eq!((said.outcome(), said.0.code), (action, code), "{destination}");
        assert_eq!(identity(&said, true), Some((A, IdentitySource::Endpoint)), "{destination}");
    }
    let said = backend.say(&from_a(&packet("10.0.0.1", "203.0.113.9", syn(80))));
    let cidr = (Identity(Identity::FIRST_CIDR), IdentitySource::Ipcache(EntryId(9)));
    assert_eq!(identity(&said, false), Some(cidr));
}

#[test]
fn delivery_writes_ethernet_addresses_and_one_hop_less() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    for (source, destination) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let mut sent = packet(source, destination, udp(1, 2));
        let said = backend.say(&from_a(&sent));
        sent.ip.ttl = 63;
        let ethernet =
            Ethernet { source: Mac([2, 0, 0, 0, 2, 2]), destination: Mac([2, 0, 0, 0, 1, 2]) };
        // The builder computes the whole checksum; the program only changed it.
        assert_eq!(said.0.frame, crate::frame::build(&sent, ethernet).unwrap(), "{source}");
    }
    let sent = from_a(&packet("10.0.0.1", "10.1.0.1", udp(1, 2)));
    assert_eq!(backend.say(&sent).0.frame, sent.frame, "the tunnel's packet stays as it is");
}

#[test]
fn a_pod_may_send_from_its_own_addresses_only() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    for (source, destination) in
        [("10.0.0.2", "10.0.0.1"), ("10.0.0.3", "10.0.0.2"), ("fd00::2", "fd00::1")]
    {
        let said = backend.say(&from_a(&packet(source, destination, syn(80))));
        assert_eq!(said.reason(), Some(DropReason::InvalidSourceIp), "{source}");
        assert_eq!(said.0.code, 2);
    }
    let stranger =
        injection(Hook::FromContainer, 99, frame(&packet("10.0.0.1", "10.0.0.2", syn(1))));
    assert_eq!(backend.say(&stranger).reason(), Some(DropReason::EndpointNotReady));
}

#[test]
fn a_pod_may_not_forge_tunnel_packets() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    let said = backend.say(&from_a(&packet("10.0.0.1", "192.168.0.2", udp(1, 8472))));
    assert_eq!(said.reason(), Some(DropReason::EncapProhibited));
    let said = backend.say(&from_a(&packet("10.0.0.1", "192.168.0.2", udp(1, 8473))));
    assert_eq!(said.reason(), None);
}

#[test]
fn a_packet_at_the_end_of_its_life_is_not_forwarded() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    for ttl in [0, 1, 2] {
        let mut dying = packet("10.0.0.1", "10.0.0.2", syn(80));
        dying.ip.ttl = ttl;
        let mut coming = packet("10.1.0.1", "10.0.0.2", syn(80));
        coming.ip.ttl = ttl;
        let expected = (ttl < 2).then_some(DropReason::TtlExceeded);
        assert_eq!(backend.say(&from_a(&dying)).reason(), expected, "{ttl}");
        assert_eq!(backend.say(&from_overlay(3000, &coming)).reason(), expected, "{ttl}");
        assert_eq!(backend.say(&from_netdev(&coming)).reason(), expected, "{ttl}");
    }
}

#[test]
fn the_tunnel_key_says_who_sent() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    let inner = packet("10.1.0.1", "10.0.0.2", syn(80));
    let said = backend.say(&from_overlay(3000, &inner));
    assert_eq!(identity(&said, true), Some((FAR, IdentitySource::Vni)));
    assert!(said.is_delivered_to(2));
    let said = backend.say(&from_overlay(2, &inner));
    assert_eq!(identity(&said, true).map(|known| known.0), Some(Identity::WORLD_IPV4));
    let said = backend.say(&from_overlay(1, &inner));
    assert_eq!(said.reason(), Some(DropReason::InvalidIdentity));
    // A node sends for its own address: there the ipcache tells.
    let said = backend.say(&from_overlay(6, &packet("192.168.0.2", "10.0.0.2", syn(80))));
    assert_eq!(identity(&said, true).map(|known| known.0), Some(Identity::REMOTE_NODE));
    let keyless = Injection { tunnel: None, ..from_overlay(0, &inner) };
    assert_eq!(backend.say(&keyless).reason(), Some(DropReason::NoTunnelKey));
    let over_ipv6 = Injection {
        tunnel: Some(TunnelKey { vni: 3000, source: ip("fd02::2") }),
        ..from_overlay(0, &packet("fd01::1", "fd00::2", syn(80)))
    };
    let said = backend.say(&over_ipv6);
    assert_eq!(identity(&said, true), Some((FAR, IdentitySource::Vni)));
    assert!(said.is_delivered_to(2));
}

#[test]
fn the_wire_delivers_to_pods_and_leaves_the_rest_to_the_stack() {
    let mut backend = backend();
    backend.load(&tables(1, everything(), everything())).unwrap();
    let said = backend.say(&from_netdev(&packet("8.8.8.8", "10.0.0.1", syn(80))));
    assert_eq!(identity(&said, true).map(|known| known.0), Some(Identity::WORLD_IPV4));
    assert!(said.is_delivered_to(1));
    let said = backend.say(&from_netdev(&packet("192.168.0.1", "10.0.0.1", syn(80))));
    let spoofed = identity(&said, true).map(|known| known.0);
    assert_eq!(spoofed, Some(Identity::WORLD_IPV4), "the wire cannot speak for the node");
    for (destination, host) in [("192.168.0.1", true), ("10.9.9.9", false)] {
        let said = backend.say(&from_netdev(&packet("8.8.8.8", destination, syn(80))));
        assert_eq!(said.outcome(), Action::Stack { host }, "{destination}");
    }
}

#[test]
fn what_the_host_sends_to_a_pod_is_judged_once() {
    let mut backend = backend();
    let ingress = vec![allow(Identity::HOST, None, 0, 0)];
    backend.load(&tables(1, everything(), ingress)).unwrap();
    let to_b = |source: &str, mark| Injection {
        mark,
        ..injection(Hook::ToContainer, PORT_B, frame(&packet(source, "10.0.0.2", syn(80))))
    };
    for mark in [abi::mark::HOST, 0] {
        let said = backend.say(&to_b("192.168.0.1", mark));
        assert_eq!(identity(&said, true).map(|known| known.0), Some(Identity::HOST));
        assert_eq!((said.outcome(), said.0.code, said.0.mark), (Action::Pass, 0, 0));
        // What carries another's address is that other's, whatever the host's mark says of it.
        let said = backend.say(&to_b("8.8.8.8", mark));
        assert_eq!(identity(&said, true).map(|known| known.0), Some(Identity::WORLD_IPV4));
        assert_eq!(said.reason(), Some(DropReason::PolicyDenied));
    }
    let said = backend.say(&to_b("8.8.8.8", abi::mark::DELIVERED));
    assert_eq!(said.outcome(), Action::Pass, "judged already");
    assert_eq!(said.0.events.len(), 1);
}
