//! Frames that are given as bytes, at any hook.

use engine::backend::{BackendError, TunnelKey};
use engine::net::{Hook, Mac};
use engine::question::Question;
use engine::topology::{NodeId, Routing, TunnelKind};
use engine::trace::{Action, Ethernet, Trace};

use super::scene::{
    Answer, CLIENT_HOST_MAC, CLIENT_MAC, DROP, ETH0, HOST, HOST_IFINDEX, NETWORK, NODE01, NODE02,
    OVERLAY, STACK, Scripted, address, deliver, hooks, path, ping, tables, tunnel_to, world,
};
use super::{CA, CB, at};
use crate::follow::{Device, Raw, ethernet, follow_from};
use crate::frame;

const MACS: Ethernet = Ethernet { source: CLIENT_MAC, destination: CLIENT_HOST_MAC };

fn bytes(question: &Question) -> Vec<u8> {
    frame::build(&question.packet, MACS).unwrap()
}

fn raw(node: NodeId, hook: Hook, frame: Vec<u8>) -> Raw {
    Raw { node, hook, device: Device::Own, mark: 0, tunnel: None, frame }
}

fn run(raw: &Raw, answers: Vec<Answer>) -> (Result<Trace, BackendError>, Scripted) {
    let mut script = Scripted::new(answers);
    let trace = follow_from(&mut script, &world(), &tables(), raw, 3);
    (trace, script)
}

#[test]
fn at_every_hook_of_any_node() {
    for hook in Hook::ALL {
        let frame = bytes(&ping(CA, CB));
        let device = match hook {
            Hook::FromContainer | Hook::ToContainer => Device::Named("lxc1".into()),
            _ => Device::Own,
        };
        let key = TunnelKey { vni: 77, source: address("192.168.66.226") };
        let raw = Raw { device, mark: 0xABC, tunnel: Some(key), ..raw(NODE02, hook, frame) };
        let (trace, script) = run(&raw, vec![DROP.into()]);
        let (name, ifindex) = match hook {
            Hook::FromContainer | Hook::ToContainer => ("lxc1", 10),
            Hook::FromOverlay | Hook::ToOverlay => ("cilium_vxlan", OVERLAY),
            Hook::FromHost | Hook::ToHost => ("cilium_host", HOST_IFINDEX),
            Hook::FromNetdev | Hook::ToNetdev | Hook::Prefilter => ("eth0", ETH0),
        };
        assert_eq!(path(&trace.unwrap()), [(NODE02, hook, name, ifindex)]);
        let seen = &script.seen[0];
        assert_eq!((seen.mark, seen.tunnel, seen.now), (0xABC, Some(key), 3));
        assert_eq!(seen.frame, raw.frame);
    }
}

#[test]
fn it_goes_on_as_any_packet() {
    let device = Device::Named("lxc1".into());
    let start = Raw { device, ..raw(NODE01, Hook::FromContainer, bytes(&ping(CA, CB))) };
    let (trace, _) = run(&start, vec![tunnel_to("192.168.66.221").into(), deliver(1).into()]);
    let trace = trace.unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::FromContainer), (NODE02, Hook::FromOverlay)]);
    assert!(trace.hops[0].undetermined.is_empty(), "every byte was given");

    let start = raw(NODE01, Hook::FromNetdev, bytes(&ping(CA, at("8.8.8.8"))));
    let (trace, _) = run(&start, vec![NETWORK.into(), Action::Pass.into()]);
    assert_eq!(hooks(&trace.unwrap()), [(NODE01, Hook::FromNetdev), (NODE01, Hook::ToNetdev)]);

    let start = raw(NODE01, Hook::Prefilter, bytes(&ping(at("8.8.8.8"), CA)));
    let (trace, _) = run(&start, vec![Action::Pass.into(), deliver(1).into()]);
    assert_eq!(hooks(&trace.unwrap()), [(NODE01, Hook::Prefilter), (NODE01, Hook::FromNetdev)]);
}

#[test]
fn what_passes_where_nothing_follows_ends() {
    for hook in [Hook::ToOverlay, Hook::ToHost, Hook::ToNetdev] {
        let (trace, _) =
            run(&raw(NODE01, hook, bytes(&ping(CA, at("8.8.8.8")))), vec![Action::Pass.into()]);
        let trace = trace.unwrap();
        assert_eq!(trace.hops.len(), 1, "{hook}");
        assert_eq!(trace.has_left(), hook == Hook::ToNetdev);
    }
}

#[test]
fn what_passes_into_the_tunnel_goes_on_to_the_node_behind_it() {
    let key = TunnelKey { vni: 27634, source: address("192.168.66.226") };
    let start = Raw { tunnel: Some(key), ..raw(NODE01, Hook::ToOverlay, bytes(&ping(CA, CB))) };
    let (trace, _) = run(&start, vec![Action::Pass.into(), deliver(1).into()]);
    let trace = trace.unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::ToOverlay), (NODE02, Hook::FromOverlay)]);
    let header = trace.hops[0].tunnel.as_ref().unwrap();
    assert_eq!((header.destination, header.vni), (address("192.168.66.221"), 27634));
    assert!(trace.hops[0].is_encapsulated() && !trace.hops[0].is_outer());
}

fn encapsulated(kind: TunnelKind, port: u16) -> Vec<u8> {
    let outer = frame::Outer {
        ethernet: MACS,
        kind,
        options: &[],
        source: address("192.168.66.226"),
        destination: address("192.168.66.221"),
        ttl: 64,
        source_port: 40000,
        port,
        vni: 27634,
    };
    frame::encapsulate(&bytes(&ping(CA, CB)), &outer).unwrap()
}

#[test]
fn an_encapsulated_frame_leaves_the_tunnel_at_its_node() {
    let start = raw(NODE01, Hook::ToNetdev, encapsulated(TunnelKind::Vxlan, 8472));
    let (trace, script) = run(&start, vec![Action::Pass.into(), HOST.into(), deliver(1).into()]);
    assert_eq!(
        hooks(&trace.unwrap()),
        [(NODE01, Hook::ToNetdev), (NODE02, Hook::FromNetdev), (NODE02, Hook::FromOverlay)]
    );
    let key = TunnelKey { vni: 27634, source: address("192.168.66.226") };
    assert_eq!(script.seen[2].tunnel, Some(key));
    assert_eq!(script.seen[2].frame, bytes(&ping(CA, CB)));

    for (kind, port) in [(TunnelKind::Geneve, 8472), (TunnelKind::Vxlan, 8473)] {
        let start = raw(NODE02, Hook::FromNetdev, encapsulated(kind, port));
        let (trace, _) = run(&start, vec![HOST.into()]);
        assert_eq!(trace.unwrap().hops.len(), 1, "not this cluster's tunnel");
    }
    let start = raw(NODE01, Hook::FromNetdev, encapsulated(TunnelKind::Vxlan, 8472));
    let (trace, _) = run(&start, vec![HOST.into()]);
    assert_eq!(trace.unwrap().hops.len(), 1, "not this node's");
}

#[test]
fn frames_that_are_not_ip_end_where_nothing_reads_them() {
    let mut arp = vec![0; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    for (hook, action) in [
        (Hook::FromNetdev, STACK),
        (Hook::FromNetdev, HOST),
        (Hook::ToNetdev, Action::Pass),
        (Hook::FromHost, STACK),
    ] {
        let (trace, _) = run(&raw(NODE01, hook, arp.clone()), vec![action.into()]);
        assert_eq!(trace.unwrap().hops.len(), 1, "{hook}");
    }
}

#[test]
fn devices_that_are_not_there() {
    let refused = |device, hook| {
        let raw = Raw { device, ..raw(NODE01, hook, vec![0; 14]) };
        run(&raw, Vec::new()).0.unwrap_err().to_string()
    };
    assert_eq!(
        refused(Device::Own, Hook::FromContainer),
        "the packet cannot enter: from-container hangs on the veths of pods: name one of lxc1, lxc2, lxc3"
    );
    assert_eq!(
        refused(Device::Named("eth1".into()), Hook::ToNetdev),
        "the packet cannot enter: to-netdev hangs on no device `eth1`, but on eth0"
    );
    assert!(refused(Device::Named("eth0".into()), Hook::ToHost).ends_with("but on cilium_host"));
    let elsewhere = raw(NodeId(7), Hook::ToHost, vec![0; 14]);
    assert!(matches!(run(&elsewhere, Vec::new()).0, Err(BackendError::BadInjection(_))));

    // An index that nothing has is the datapath's business.
    let raw = Raw { device: Device::Index(99), ..raw(NODE01, Hook::FromContainer, vec![0; 14]) };
    let (trace, _) = run(&raw, vec![DROP.into()]);
    assert_eq!(path(&trace.unwrap()), [(NODE01, Hook::FromContainer, "#99", 99)]);
    let raw = Raw { device: Device::Index(20), ..raw };
    let (trace, _) = run(&raw, vec![DROP.into()]);
    assert_eq!(path(&trace.unwrap()), [(NODE01, Hook::FromContainer, "lxc2", 20)]);
}

#[test]
fn natively_routed_frames_reach_their_node() {
    let mut tables = tables();
    tables.nodes.iter_mut().for_each(|node| node.routing = Routing::Native);
    let mut script = Scripted::new([Action::Pass, deliver(1)]);
    let start = raw(NODE01, Hook::ToNetdev, bytes(&ping(CA, CB)));
    let trace = follow_from(&mut script, &world(), &tables, &start, 0).unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::ToNetdev), (NODE02, Hook::FromNetdev)]);
    assert_eq!(trace.hops[0].frame_out, start.frame, "bytes that were given stay");
}

#[test]
fn a_frame_written_without_ethernet_gets_what_it_would_have() {
    let at = |hook, device| {
        let raw = Raw { device, ..raw(NODE01, hook, Vec::new()) };
        ethernet(&world(), &tables(), &raw).unwrap()
    };
    let turned = |way: Ethernet| Ethernet { source: way.destination, destination: way.source };
    assert_eq!(at(Hook::FromContainer, Device::Named("lxc1".into())), MACS);
    assert_eq!(at(Hook::ToContainer, Device::Index(10)), turned(MACS));
    let out = at(Hook::ToNetdev, Device::Own);
    let (router, node) = (Mac([2, 0, 0, 0, 0, 1]), Mac([10, 88, 192, 168, 66, 226]));
    assert_eq!(out, Ethernet { source: node, destination: router });
    for hook in [Hook::FromNetdev, Hook::Prefilter] {
        assert_eq!(at(hook, Device::Own), turned(out));
    }
    assert_eq!(at(Hook::FromHost, Device::Own), Ethernet { source: node, destination: node });
    let nowhere = raw(NODE01, Hook::FromContainer, Vec::new());
    assert!(ethernet(&world(), &tables(), &nowhere).is_err());
}
