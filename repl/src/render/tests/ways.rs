//! Services, translation, ways out of a node, and what stood in the way, as a reader gets them.

use engine::explain::{
    Candidate, DropPlace, Explanation, FlowKind, FlowState, HeaderFault, KnownChange, KnownFlow,
    Obstacle, Step, Traffic, Undecided, Unfit, Verdict,
};
use engine::net::{Hook, Protocol};
use engine::reason::DropReason;
use engine::source::Location;
use engine::tables::{EntryId, FrontendKind};
use engine::trace::{Choice, Rewriting};

use super::rendered;
use crate::reply::Level;
use crate::sample::{dropped, hop, tunneled};

fn at(line: u32) -> Location {
    Location { file: "shop.hop".into(), line, column: 1 }
}

fn service(backend: bool) -> Step {
    Step::Service {
        service: "web/echo".into(),
        frontend: "10.96.0.20:80".into(),
        kind: Some(FrontendKind::ClusterIp),
        protocol: Protocol::Tcp,
        entry: Some(EntryId(1)),
        backend: backend.then(|| "web/echo-0".into()),
        backend_address: backend.then(|| "10.244.6.11:8080".into()),
        choice: if backend { Choice::Random } else { Choice::Nobody },
        of: if backend { 2 } else { 0 },
    }
}

fn rewritten(rewriting: Rewriting, before: &str, after: &str) -> Step {
    Step::Rewritten {
        rewriting,
        before: before.into(),
        after: after.into(),
        party: "web/client".into(),
        identifier: None,
        created: true,
    }
}

/// The client's packet to the service, through the tunnel.
fn served() -> Explanation {
    let mut answer = tunneled();
    answer.packet.destination = "web/echo".into();
    answer.packet.destination_address = "10.96.0.20".into();
    answer.packet.destination_port = Some(80);
    answer.hops[0].steps.insert(1, service(true));
    answer
}

#[test]
fn a_service_reads_as_the_design_shows() {
    insta::assert_snapshot!(rendered(served(), Level::Normal));
    let full = rendered(served(), Level::Full);
    assert!(full.contains("lookup    frontends 10.96.0.20:80/tcp: entry 1\n"), "{full}");
}

#[test]
fn a_packet_that_leaves_says_as_whom() {
    let mut answer = tunneled();
    answer.tunneled = false;
    answer.packet.destination = "search".into();
    answer.packet.destination_address = "142.250.74.36".into();
    answer.packet.destination_port = Some(443);
    answer.hops[0].steps.retain(|s| !matches!(s, Step::Tunnel { .. } | Step::Ipcache { .. }));
    let network =
        Step::Network { device: "eth0".into(), next_hop: None, node: None, ttl: Some(63) };
    answer.hops[0].steps.push(network);
    let steps = vec![
        rewritten(Rewriting::Masquerade, "10.244.1.154:40312", "192.168.66.226:40312"),
        Step::Left { device: "eth0".into(), node: None },
    ];
    answer.hops[1] = hop("node01", "eth0", Hook::ToNetdev, steps);
    answer.decided_by.truncate(1);
    insta::assert_snapshot!(rendered(answer, Level::Normal));
}

#[test]
fn native_routing_with_encryption_and_quiet_hops() {
    let mut answer = tunneled();
    answer.tunneled = false;
    answer.hops[0].steps.pop();
    answer.hops[0].steps.push(Step::Network {
        device: "eth0".into(),
        next_hop: Some("192.168.66.221".into()),
        node: Some("node02".into()),
        ttl: Some(63),
    });
    answer.hops[1].device = "eth0".into();
    answer.hops[1].hook = Hook::FromNetdev;
    let encrypted = Step::Encrypted { by: "wireguard".into(), key: None, mark: 0x6bf2_0f00 };
    answer.hops.insert(1, hop("node01", "eth0", Hook::ToNetdev, vec![encrypted]));
    let mut quiet = hop("node02", "eth0", Hook::Prefilter, Vec::new());
    quiet.quiet = true;
    answer.hops.insert(2, quiet);
    insta::assert_snapshot!(rendered(answer.clone(), Level::Normal));
    assert!(rendered(answer, Level::Full).contains("  node02 eth0 prefilter\n"));
}

#[test]
fn a_node_port_is_translated_both_ways() {
    let mut answer = tunneled();
    let steps = vec![
        service(true),
        rewritten(Rewriting::NodePort, "8.8.8.8:40312", "192.168.66.226:40312"),
    ];
    answer.hops[0] = hop("node01", "eth0", Hook::FromNetdev, steps);
    insta::assert_snapshot!(rendered(answer, Level::Minimal));
}

/// A packet of the client that was dropped at its node.
fn stopped(reason: DropReason, obstacle: Obstacle, step: Option<Step>) -> String {
    let mut answer = dropped();
    answer.reason = Some(reason);
    answer.dropped_at = Some(DropPlace { node: "node01".into(), direction: None, endpoint: None });
    answer.decided_by.clear();
    answer.isolated_by.clear();
    answer.nearest.clear();
    answer.obstacle = Some(obstacle);
    answer.assumed.truncate(1);
    let steps = step.into_iter().chain([Step::Drop { reason, by_stack: false }]).collect();
    answer.hops = vec![hop("node01", "eth0", Hook::FromNetdev, steps)];
    rendered(answer, Level::Normal)
}

#[test]
fn a_service_that_drops_says_what_it_has() {
    let no_port = Obstacle::NoPort {
        service: "web/echo".into(),
        asked: "81/tcp".into(),
        ports: vec!["http 80/tcp -> http".into(), "443/tcp -> 8443".into()],
        location: Some(at(17)),
    };
    let candidate =
        |pod: &str, unfit, also| Candidate { pod: pod.into(), node: "node02".into(), unfit, also };
    let no_backend = |pods| Obstacle::NoBackend {
        service: "web/echo".into(),
        port: "http 80/tcp -> http".into(),
        selector: "pods {app=echo} in web".into(),
        pods,
        node: "node01".into(),
        traffic: Traffic::External,
        location: Some(at(17)),
    };
    let unfit = vec![
        candidate("web/echo-0", Unfit::NotReady, Vec::new()),
        candidate("web/echo-1", Unfit::NoNamedPort, Vec::new()),
        candidate("web/echo-2", Unfit::OtherNode, Vec::new()),
        candidate("web/echo-3", Unfit::NotReady, vec![Unfit::OtherNode]),
    ];
    let reason = DropReason::NoService;
    let told = [
        stopped(reason, no_port, None),
        stopped(reason, no_backend(unfit), Some(service(false))),
        stopped(reason, no_backend(Vec::new()), Some(service(false))),
    ];
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn other_obstacles_say_what_to_do_next() {
    let (service, source) = (|| "web/echo".to_owned(), || "8.8.8.8".to_owned());
    let cluster_only = |outside: &[&str]| Obstacle::ClusterOnly {
        service: service(),
        source: source(),
        outside: outside.iter().map(|s| (*s).to_owned()).collect(),
        nobody: false,
        location: Some(at(17)),
    };
    let ranges = Obstacle::NotInRange {
        service: service(),
        source: source(),
        ranges: vec!["203.0.113.0/24".into(), "198.51.100.0/24".into()],
        location: Some(at(17)),
    };
    let no_port_but = |address: Option<&str>, fixed| Obstacle::NoFreePort {
        address: address.map(Into::into),
        destination: "8.8.8.8:53".into(),
        fixed,
        first: 32_768,
        last: 65_535,
    };
    let no_port = |address| no_port_but(address, None);
    let changes = Obstacle::PortChanges {
        service: service(),
        port: "90/sctp -> 91".into(),
        location: Some(at(17)),
    };
    let fragment = Obstacle::NoFirstFragment { source: source(), destination: "web/echo-0".into() };
    let listed = Obstacle::Prefiltered {
        source: source(),
        cidr: Some("8.8.0.0/16".into()),
        location: Some(at(2)),
    };
    let bad = |fault| stopped(DropReason::InvalidPacket, Obstacle::BadHeader { fault }, None);
    let told = [
        stopped(DropReason::IsClusterIp, cluster_only(&["port 30080 of every node"]), None),
        stopped(DropReason::IsClusterIp, cluster_only(&[]), None),
        stopped(DropReason::UnsupportedServiceProtocol, changes, None),
        stopped(DropReason::NatNoMapping, no_port_but(Some("192.168.66.226"), Some(40_312)), None),
        stopped(DropReason::NotInSourceRange, ranges, None),
        stopped(DropReason::NatNoMapping, no_port(Some("192.168.66.226")), None),
        stopped(DropReason::NatNoMapping, no_port(None), None),
        stopped(DropReason::FragmentNotFound, fragment, None),
        stopped(DropReason::Prefiltered, listed, None),
        bad(HeaderFault::Version { ethertype: 0x0800, version: 6 }),
        bad(HeaderFault::HeaderLength { bytes: 16 }),
        bad(HeaderFault::TotalLength { total: 8, header: 20 }),
    ];
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn a_flow_that_cannot_be_opened_leaves_it_undecided() {
    let mut answer = dropped();
    answer.verdict = Verdict::Undecided;
    answer.undecided = Some(Undecided::NotOpened);
    (answer.reason, answer.dropped_at) = (None, None);
    insta::assert_snapshot!(rendered(answer, Level::Normal));
}

#[test]
fn changes_of_conntrack_stand_before_what_was_checked() {
    let mut answer = served();
    let change = |kind, to: Option<&str>, before| KnownChange {
        node: "node01".into(),
        kind,
        protocol: Protocol::Tcp,
        source: "10.244.1.154:40312".into(),
        destination: "10.244.6.11:8080".into(),
        translated: to.map(Into::into),
        before,
        after: Some(KnownFlow { state: Some(FlowState::New), expires_in: 60 }),
    };
    answer.known = vec![
        change(FlowKind::Flow, Some("10.96.0.20:80"), None),
        KnownChange {
            destination: "10.96.0.20:80".into(),
            ..change(FlowKind::Service, Some("10.244.6.11:8080"), None)
        },
    ];
    let text = rendered(answer, Level::Normal);
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("  conntrack")).collect();
    let expected = [
        "  conntrack node01 added tcp 10.244.1.154:40312 -> 10.244.6.11:8080, answered from 10.96.0.20:80, new, for 60 s",
        "  conntrack node01 added tcp 10.244.1.154:40312 -> 10.96.0.20:80, a service's: to 10.244.6.11:8080, new, for 60 s",
    ];
    assert_eq!(lines, expected);
}
