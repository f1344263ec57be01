//! Journeys past one program: the underlay, nodes as senders, encryption, firewalls.

use std::net::IpAddr;

use datapath_abi::mark;
use engine::backend::TunnelKey;
use engine::identity::Identity;
use engine::net::{Hook, Mac};
use engine::reason::DropReason;
use engine::tables::Tables;
use engine::topology::{Encryption, NodeId, Party, Routing, TunnelKind};
use engine::trace::{Action, Ethernet};

use super::scene::{
    AGENT, Answer, DROP, ETH0, HOST, HOST_IFINDEX, NETWORK, NODE01, NODE02, OVERLAY, STACK,
    Scripted, address, deliver, hooks, over_each_family, path, ping, prefix, rewriting, tables,
    tunnel_to, world,
};
use super::{CA, CB, at, ethernet, refusal};
use crate::frame;

over_each_family! {
    a_pod_leaves_the_cluster
    the_nodes_stack_routes_too
    the_nodes_stack_forwards_no_dying_packet
    what_the_node_keeps_ends_at_its_stack
    a_drop_at_the_device_ends_it
    the_answer_to_a_masqueraded_pod
    a_pod_to_another_node
    by_native_routing
    given_addresses_of_the_wire_are_used
    a_next_hop_without_the_destination_is_refused
    a_node_sends_to_pods_by_its_own_device
    a_node_to_a_pod_elsewhere_is_tunneled_as_remote_node
    a_node_sends_the_rest_by_the_underlay
    an_address_of_another_node_beside_its_own_is_that_nodes
    health_endpoints_send_and_receive
    the_prefilter_comes_first
    the_prefilter_sees_outer_frames
    the_host_firewall_sees_outer_frames
    what_is_encrypted_is_told_at_the_device
    a_device_that_routes_must_redirect
}

pub(super) const NODE01_MAC: Mac = Mac([10, 88, 192, 168, 66, 226]);
const NODE02_MAC: Mac = Mac([10, 88, 192, 168, 66, 221]);
pub(super) const ROUTER_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
const IDENTITY_MARK: u32 = (27634 << 16) | mark::IDENTITY;

pub(super) fn native() -> Tables {
    let mut tables = tables();
    tables.nodes.iter_mut().for_each(|node| node.routing = Routing::Native);
    tables
}

pub(super) fn to_node02() -> Action {
    Action::Network { ifindex: ETH0, next_hop: Some(address("192.168.66.221")) }
}

fn marked(action: Action, mark: u32) -> Answer {
    Answer { mark, ..action.into() }
}

pub(super) fn destination(frame: &[u8]) -> IpAddr {
    frame::read(frame).unwrap().flow.destination
}

fn a_pod_leaves_the_cluster() {
    let masqueraded =
        Answer { mark: mark::TRANSLATED, ..rewriting(Action::Pass, Some("192.168.66.226"), None) };
    let mut script = Scripted::new([marked(NETWORK, IDENTITY_MARK), masqueraded]);
    let trace = script.follow(&ping(CA, at("8.8.8.8"))).unwrap();
    assert_eq!(
        path(&trace),
        [(NODE01, Hook::FromContainer, "lxc1", 10), (NODE01, Hook::ToNetdev, "eth0", ETH0)]
    );
    assert!(trace.has_left());
    assert_eq!(script.seen[1].mark, IDENTITY_MARK, "as the program before left it");
    let [first, second] = trace.hops.as_slice() else { panic!("two hops") };
    // The program leaves the pod's Ethernet addresses; the kernel writes those of the underlay.
    assert_eq!(ethernet(&first.frame_out), ethernet(&first.frame_in));
    let underlay = Ethernet { source: NODE01_MAC, destination: ROUTER_MAC };
    assert_eq!(ethernet(&second.frame_in), underlay);
    assert_eq!(second.undetermined, ["echo payload", "Ethernet source", "Ethernet destination"]);
    assert_eq!(frame::read(&second.frame_out).unwrap().ttl, 63);
    let source = frame::read(&second.frame_out).unwrap().flow.source;
    assert_eq!(source, address("192.168.66.226"));
    assert!(trace.hops.iter().all(|hop| !hop.is_outer()));
}

fn the_nodes_stack_routes_too() {
    let mut script = Scripted::new([marked(STACK, IDENTITY_MARK), Action::Pass.into()]);
    let trace = script.follow(&ping(CA, at("8.8.8.8"))).unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::FromContainer), (NODE01, Hook::ToNetdev)]);
    assert_eq!(trace.hops[0].frame_out, trace.hops[0].frame_in);
    let routed = frame::read(&trace.hops[1].frame_in).unwrap();
    assert_eq!(routed.ttl, 63);
    assert_eq!(script.seen[1].mark, IDENTITY_MARK);
    assert!(trace.has_left());
}

fn the_nodes_stack_forwards_no_dying_packet() {
    for ttl in [0, 1] {
        let mut question = ping(CA, at("8.8.8.8"));
        question.packet.ip.ttl = ttl;
        let trace = Scripted::new([STACK]).follow(&question).unwrap();
        assert_eq!(hooks(&trace), [(NODE01, Hook::FromContainer)]);
        assert!(!trace.has_left());
    }
}

fn what_the_node_keeps_ends_at_its_stack() {
    for to in ["10.244.1.99", "192.168.66.226", "10.244.6.11"] {
        let trace = Scripted::new([STACK]).follow(&ping(CA, at(to))).unwrap();
        assert_eq!(trace.hops.len(), 1, "{to}");
    }
    let trace = Scripted::new([HOST]).follow(&ping(CA, at("192.168.66.226"))).unwrap();
    assert_eq!(trace.hops.len(), 1);
}

fn a_drop_at_the_device_ends_it() {
    let trace = Scripted::new([NETWORK, DROP]).follow(&ping(CA, at("8.8.8.8"))).unwrap();
    assert_eq!(trace.hops.len(), 2);
    assert!(!trace.has_left());
    assert!(trace.hops[1].frame_out.is_empty());
}

fn the_answer_to_a_masqueraded_pod() {
    let untranslated = rewriting(deliver(1), None, Some("10.244.1.154"));
    let mut script = Scripted::new([untranslated]);
    let trace = script.follow(&ping(at("8.8.8.8"), at("192.168.66.226"))).unwrap();
    assert_eq!(path(&trace), [(NODE01, Hook::FromNetdev, "eth0", ETH0)]);
    assert_eq!(destination(&trace.hops[0].frame_out), address("10.244.1.154"));
}

fn a_pod_to_another_node() {
    let mut script = Scripted::new([NETWORK, Action::Pass, HOST]);
    let trace = script.follow(&ping(CA, at("192.168.66.221"))).unwrap();
    assert_eq!(
        path(&trace),
        [
            (NODE01, Hook::FromContainer, "lxc1", 10),
            (NODE01, Hook::ToNetdev, "eth0", ETH0),
            (NODE02, Hook::FromNetdev, "eth0", ETH0),
        ]
    );
    assert!(!trace.has_left());
    let wire = Ethernet { source: NODE01_MAC, destination: NODE02_MAC };
    assert_eq!(ethernet(&trace.hops[1].frame_in), wire);
    assert_eq!(trace.hops[2].frame_in, trace.hops[1].frame_out);
    assert_eq!(script.seen[2].mark, 0, "marks do not travel");
}

fn by_native_routing() {
    let mut script = Scripted::new([to_node02(), Action::Pass, deliver(1)]);
    let trace = script.follow_in(&world(), &native(), &ping(CA, CB)).unwrap();
    let expected =
        [(NODE01, Hook::FromContainer), (NODE01, Hook::ToNetdev), (NODE02, Hook::FromNetdev)];
    assert_eq!(hooks(&trace), expected);
    assert_eq!(frame::read(&trace.hops[2].frame_out).unwrap().ttl, 62);
    assert!(trace.hops.iter().all(|hop| hop.tunnel.is_none()));
    assert_eq!(script.seen[2].tunnel, None);

    // By the nodes' stacks, to an address that nobody has.
    let mut script = Scripted::new([STACK, Action::Pass, STACK]);
    let trace = script.follow_in(&world(), &native(), &ping(CA, at("10.244.6.99"))).unwrap();
    assert_eq!(hooks(&trace), expected);
    assert!(!trace.has_left());
}

fn given_addresses_of_the_wire_are_used() {
    let mut world = world();
    world.nodes[0].mac = Some(Mac([2, 0, 0, 0, 9, 1]));
    world.nodes[1].mac = Some(Mac([2, 0, 0, 0, 9, 2]));
    let mut script = Scripted::new([to_node02(), Action::Pass, DROP]);
    let trace = script.follow_in(&world, &native(), &ping(CA, CB)).unwrap();
    assert_eq!(trace.hops[1].frame_in[..12], [2, 0, 0, 0, 9, 2, 2, 0, 0, 0, 9, 1]);
    assert_eq!(trace.hops[1].undetermined, ["echo payload"]);
}

fn a_next_hop_without_the_destination_is_refused() {
    for (next_hop, to) in [("192.168.66.221", "8.8.8.8"), ("192.168.66.226", "10.244.6.11")] {
        let action = Action::Network { ifindex: ETH0, next_hop: Some(address(next_hop)) };
        let mut script = Scripted::new([action]);
        let refused = script.follow_in(&world(), &native(), &ping(CA, at(to)));
        let text = refused.unwrap_err().to_string();
        let (next_hop, to) = (address(next_hop), address(to));
        let expected = format!("node01 sends to {next_hop}, which is not the node that has {to}");
        assert!(text.ends_with(&expected), "{text}");
    }
}

pub(super) const NODE01_SELF: (Party, &str) = (Party::Node(NODE01), "192.168.66.226");

fn a_node_sends_to_pods_by_its_own_device() {
    for source in [Party::Node(NODE01), Party::Pod(AGENT), at("192.168.66.226").0] {
        let delivered = Answer {
            mark: mark::DELIVERED,
            ..Action::Deliver { endpoint: engine::tables::EndpointId(1), ifindex: 10, peer: false }
                .into()
        };
        let mut script = Scripted::new([delivered]);
        let trace = script.follow(&ping((source, "192.168.66.226"), CA)).unwrap();
        assert_eq!(
            path(&trace),
            [(NODE01, Hook::FromHost, "cilium_host", HOST_IFINDEX)],
            "{source:?}"
        );
        assert_eq!((script.seen[0].mark, script.seen[0].tunnel), (mark::HOST, None));
        let own = Ethernet { source: NODE01_MAC, destination: NODE01_MAC };
        assert_eq!(ethernet(&trace.hops[0].frame_in), own);
        assert_eq!(trace.hops[0].undetermined, ["echo payload"]);
    }
}

fn a_node_to_a_pod_elsewhere_is_tunneled_as_remote_node() {
    let as_node = Action::Tunnel {
        vni: Identity::REMOTE_NODE.0,
        remote: address("192.168.66.221"),
        ifindex: OVERLAY,
        ttl: 64,
    };
    let mut script = Scripted::new([as_node, deliver(1)]);
    let trace = script.follow(&ping(NODE01_SELF, CB)).unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::FromHost), (NODE02, Hook::FromOverlay)]);
    let key = TunnelKey { vni: 6, source: address("192.168.66.226") };
    assert_eq!((script.seen[1].tunnel, script.seen[1].mark), (Some(key), 0));

    let mut script = Scripted::new([to_node02(), Action::Pass, deliver(1)]);
    let trace = script.follow_in(&world(), &native(), &ping(NODE01_SELF, CB)).unwrap();
    let hops = [(NODE01, Hook::FromHost), (NODE01, Hook::ToNetdev), (NODE02, Hook::FromNetdev)];
    assert_eq!(hooks(&trace), hops);
}

fn a_node_sends_the_rest_by_the_underlay() {
    let mut script = Scripted::new([Action::Pass, HOST]);
    let trace = script.follow(&ping(NODE01_SELF, (Party::Node(NODE02), "192.168.66.221"))).unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::ToNetdev), (NODE02, Hook::FromNetdev)]);
    assert_eq!((script.seen[0].mark, script.seen[1].mark), (mark::HOST, 0));
    let wire = Ethernet { source: NODE01_MAC, destination: NODE02_MAC };
    assert_eq!(ethernet(&trace.hops[0].frame_in), wire);
    assert_eq!(frame::read(&trace.hops[1].frame_in).unwrap().ttl, 64, "nobody routed it");

    let trace = Scripted::new([Action::Pass]).follow(&ping(NODE01_SELF, at("8.8.8.8"))).unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::ToNetdev)]);
    assert!(trace.has_left());
}

fn an_address_of_another_node_beside_its_own_is_that_nodes() {
    let mut world = world();
    world.nodes[1].locals.push(address("10.244.6.1"));
    let question = ping(NODE01_SELF, at("10.244.6.1"));
    let trace = Scripted::new([Action::Pass, HOST]).follow_in(&world, &tables(), &question);
    let expected = [(NODE01, Hook::ToNetdev), (NODE02, Hook::FromNetdev)];
    assert_eq!(hooks(&trace.unwrap()), expected);
}

fn health_endpoints_send_and_receive() {
    let health = (Party::Health(NODE01), "10.244.1.200");
    let mut script = Scripted::new([tunnel_to("192.168.66.221"), deliver(1)]);
    let trace = script.follow(&ping(health, CB)).unwrap();
    assert_eq!(path(&trace)[0], (NODE01, Hook::FromContainer, "lxc3", 30));
    let open = ["echo payload", "Ethernet source", "Ethernet destination"];
    assert_eq!(trace.hops[0].undetermined, open);
    let trace = Scripted::new([DROP]).follow(&ping(at("10.244.1.200"), CB)).unwrap();
    assert_eq!(path(&trace)[0], (NODE01, Hook::FromContainer, "lxc3", 30));

    let trace = Scripted::new([DROP]).follow(&ping(NODE01_SELF, health)).unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::FromHost)]);
    let trace = Scripted::new([DROP]).follow(&ping(at("8.8.8.8"), health)).unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::FromNetdev)]);
}

fn prefiltered(on: NodeId) -> Tables {
    let mut tables = tables();
    tables.nodes[on.index()].prefilter.push(prefix("198.51.100.0/24"));
    tables
}

fn the_prefilter_comes_first() {
    let tables = prefiltered(NODE02);
    let dropped = Action::Drop(DropReason::Prefiltered);
    let question = ping(at("198.51.100.9"), CB);
    let trace = Scripted::new([dropped]).follow_in(&world(), &tables, &question).unwrap();
    assert_eq!(path(&trace), [(NODE02, Hook::Prefilter, "eth0", ETH0)]);

    let mut script = Scripted::new([Action::Pass, deliver(1)]);
    let trace = script.follow_in(&world(), &tables, &question).unwrap();
    assert_eq!(hooks(&trace), [(NODE02, Hook::Prefilter), (NODE02, Hook::FromNetdev)]);
    assert_eq!(trace.hops[1].frame_in, trace.hops[0].frame_out);

    let elsewhere = Scripted::new([HOST]).follow_in(
        &world(),
        &tables,
        &ping(at("198.51.100.9"), at("192.168.66.226")),
    );
    assert_eq!(hooks(&elsewhere.unwrap()), [(NODE01, Hook::FromNetdev)]);
}

fn the_prefilter_sees_outer_frames() {
    let tables = prefiltered(NODE02);
    let question = ping(CA, CB);
    let mut script = Scripted::new([tunnel_to("192.168.66.221"), Action::Pass, deliver(1)]);
    let trace = script.follow_in(&world(), &tables, &question).unwrap();
    let expected =
        [(NODE01, Hook::FromContainer), (NODE02, Hook::Prefilter), (NODE02, Hook::FromOverlay)];
    assert_eq!(hooks(&trace), expected);
    let outer: Vec<bool> = trace.hops.iter().map(engine::trace::Hop::is_outer).collect();
    assert_eq!(outer, [false, true, false]);
    assert_eq!(trace.hops[1].frame_in, trace.hops[0].frame_out);
    assert_eq!(trace.hops[2].frame_in, trace.hops[0].frame_in);
    assert_eq!(trace.hops[1].tunnel, trace.hops[0].tunnel);

    let dropped = Action::Drop(DropReason::Prefiltered);
    let mut script = Scripted::new([tunnel_to("192.168.66.221"), dropped]);
    let trace = script.follow_in(&world(), &tables, &question).unwrap();
    assert_eq!(trace.hops.len(), 2);
    assert!(trace.hops[1].is_outer());
}

fn the_host_firewall_sees_outer_frames() {
    let mut tables = prefiltered(NODE02);
    tables.nodes[1].host_firewall = true;
    let answers = [tunnel_to("192.168.66.221"), Action::Pass, HOST, deliver(1)];
    let mut script = Scripted::new(answers);
    let trace = script.follow_in(&world(), &tables, &ping(CA, CB)).unwrap();
    assert_eq!(
        hooks(&trace),
        [
            (NODE01, Hook::FromContainer),
            (NODE02, Hook::Prefilter),
            (NODE02, Hook::FromNetdev),
            (NODE02, Hook::FromOverlay),
        ]
    );
    assert_eq!(script.seen[3].tunnel.map(|key| key.vni), Some(27634));

    tables.nodes[1].prefilter.clear();
    let mut script = Scripted::new([tunnel_to("192.168.66.221"), DROP]);
    let trace = script.follow_in(&world(), &tables, &ping(CA, CB)).unwrap();
    assert_eq!(hooks(&trace), [(NODE01, Hook::FromContainer), (NODE02, Hook::FromNetdev)]);
}

fn what_is_encrypted_is_told_at_the_device() {
    let mut tables = tables();
    tables.nodes[0].encryption = Some(Encryption::Wireguard { nodes: false });
    let mut script = Scripted::new([tunnel_to("192.168.66.221"), Action::Pass, deliver(1)]);
    let trace = script.follow_in(&world(), &tables, &ping(CA, CB)).unwrap();
    assert_eq!(
        path(&trace),
        [
            (NODE01, Hook::FromContainer, "lxc1", 10),
            (NODE01, Hook::ToNetdev, "eth0", ETH0),
            (NODE02, Hook::FromOverlay, "cilium_vxlan", OVERLAY),
        ]
    );
    assert_eq!(script.seen[1].mark, (27634 << 16) | mark::OVERLAY);
    assert!(trace.hops[1].is_outer());
    assert_eq!(frame::read(&script.seen[1].frame).unwrap().flow.destination_port, 8472);
    assert_eq!(script.seen[1].tunnel, None);
}

#[test]
fn by_geneve() {
    let mut tables = tables();
    for node in &mut tables.nodes {
        node.tunnel.kind = TunnelKind::Geneve;
        node.tunnel.port = 6081;
        node.tunnel.device = "cilium_geneve".into();
    }
    let mut script = Scripted::new([tunnel_to("192.168.66.221"), deliver(1)]);
    let trace = script.follow_in(&world(), &tables, &ping(CA, CB)).unwrap();
    assert_eq!(trace.hops[1].device, "cilium_geneve");
    let hop = &trace.hops[0];
    let header = hop.tunnel.as_ref().unwrap();
    assert_eq!((header.kind, header.port, header.vni), (TunnelKind::Geneve, 6081, 27634));
    // Port 6081, length 114, no checksum; no options, an Ethernet frame, VNI 27634.
    let geneve = [0x17, 0xC1, 0, 114, 0, 0, 0, 0, 0x65, 0x58, 0, 0x6B, 0xF2, 0];
    assert_eq!(hop.frame_out[36..50], geneve);
    assert_eq!(hop.frame_out[50..], hop.frame_in);
}

fn a_device_that_routes_must_redirect() {
    let code = Answer { code: Some(0), ..NETWORK.into() };
    let text = refusal(&ping(CA, at("8.8.8.8")), vec![code]);
    assert!(text.contains("from-container returned 0"), "{text}");
}
