//! Services, translation and what else the tables of version 4 lead to, as far as tables and maps are concerned: that
//! what is encoded arrives where programs look, and that what they leave behind is read.

use engine::tables::{BackendEntry, BackendSet, Frontend, FrontendKind};
use engine::topology::{Balancing, ServiceId};
use engine::trace::{Choice, ConntrackKind, Hit, Place};

use super::*;

const CLUSTER_IP: &str = "10.96.0.1";

fn place(address: &str, port: u16) -> Place {
    Place { address: ip(address), port }
}

fn set(backends: &[(&str, u16)]) -> BackendSet {
    let entry = |(address, port): &(&str, u16)| BackendEntry {
        pod: PodId(0),
        place: place(address, *port),
    };
    BackendSet { backends: backends.iter().map(entry).collect(), maglev: Vec::new() }
}

fn frontend(entry: u32, port: u16, internal: u32) -> Frontend {
    Frontend {
        entry: EntryId(entry),
        service: ServiceId(0),
        port_index: 0,
        kind: FrontendKind::ClusterIp,
        place: place(CLUSTER_IP, port),
        protocol: Protocol::Tcp,
        internal,
        external: internal,
        affinity: None,
        balancing: Balancing::Random,
        source_ranges: Vec::new(),
    }
}

/// A cluster IP: port 80 of pod B at two ports, port 81 of nobody, port 82 with affinity.
fn served(generation: u32, backends: &[(&str, u16)]) -> Tables {
    let mut tables = tables(generation, everything(), everything());
    let node = &mut tables.nodes[0];
    node.ipcache.push(IpcacheEntry {
        prefix: format!("{CLUSTER_IP}/32").parse().unwrap(),
        identity: Identity::WORLD_IPV4,
        target: Target::Service(ServiceId(0)),
        entry: EntryId(12),
        origin: IpcacheOrigin::Service(ServiceId(0)),
    });
    node.backend_sets = vec![set(backends), set(&[])];
    let sticky = Frontend { affinity: Some(30), ..frontend(3, 82, 0) };
    node.frontends = vec![frontend(1, 80, 0), frontend(2, 81, 1), sticky];
    tables
}

const BOTH_PORTS: [(&str, u16); 2] = [("10.0.0.2", 8080), ("10.0.0.2", 8081)];

fn to_service(source_port: u16, port: u16) -> Injection {
    from_a(&packet("10.0.0.1", CLUSTER_IP, tcp(source_port, port, TcpFlags::SYN)))
}

/// What was chosen, how, of how many.
fn chosen(said: &Said) -> (Option<Place>, Choice, u16) {
    let found = said.0.events.iter().find_map(|stamped| match stamped.event {
        Event::Service { backend, choice, of, .. } => Some((backend, choice, of)),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no service in {:?}", said.0.events))
}

#[test]
fn a_service_leads_to_its_backends() {
    let mut backend = backend();
    backend.load(&served(1, &BOTH_PORTS)).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for source in 0..32 {
        let said = backend.say(&to_service(40_000 + source, 80));
        let (place, choice, of) = chosen(&said);
        assert_eq!((choice, of), (Choice::Random, 2));
        assert!(said.is_delivered_to(2), "{:?}", said.0);
        seen.insert(place.unwrap().port);
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [8080, 8081]);
    for (port, entry) in [(81, 2), (83, 0)] {
        let said = backend.say(&to_service(50_000, port));
        assert_eq!(said.reason(), Some(DropReason::NoService));
        assert_eq!(chosen(&said).1, Choice::Nobody);
        let named = said
            .0
            .events
            .iter()
            .any(|s| matches!(s.event, Event::Service { entry: EntryId(e), .. } if e == entry));
        assert!(named, "{:?}", said.0);
    }
}

#[test]
fn the_question_may_choose() {
    let mut backend = backend();
    backend.load(&served(1, &BOTH_PORTS)).unwrap();
    for (port, source) in [(8080, 40_001), (8081, 40_002), (8080, 40_003), (8081, 40_004)] {
        let wanted = place("10.0.0.2", port);
        let said = backend.say(&Injection { choose: Some(wanted), ..to_service(source, 80) });
        assert_eq!(chosen(&said).0, Some(wanted));
        assert_eq!(chosen(&said).1, Choice::Forced);
    }
}

#[test]
fn entries_of_services_are_listed_with_their_flow() {
    let mut backend = backend();
    backend.load(&served(1, &BOTH_PORTS)).unwrap();
    let place = chosen(&backend.say(&to_service(40_000, 80))).0.unwrap();
    let entries = backend.conntrack(NODE, 10).unwrap();
    let kinds: Vec<_> = entries.iter().map(|entry| (entry.kind, entry.expires_in)).collect();
    let frontend = Some(super::services::place(CLUSTER_IP, 80));
    let plain = ConntrackKind::Translated { frontend, nat_port: 0, loopback: false };
    assert_eq!(kinds, [(plain, 50), (ConntrackKind::Service { backend: place }, 50)]);
    assert_eq!(entries[0].flow.destination_port, place.port);
    let gone: Vec<_> = backend.conntrack(NODE, 100).unwrap();
    assert_eq!(gone.iter().map(|entry| entry.kind).collect::<Vec<_>>(), [plain]);
    // The flow keeps its backend, and takes it along to another backend of the same programs.
    let again =
        backend.say(&from_a(&packet("10.0.0.1", CLUSTER_IP, tcp(40_000, 80, TcpFlags::ACK))));
    assert_eq!((chosen(&again).0, chosen(&again).1), (Some(place), Choice::Conntrack));
    let flows = backend.remembered(NODE).unwrap();
    let mut other = crate::vm::Vm::find().unwrap();
    other.load(&served(1, &BOTH_PORTS)).unwrap();
    other.remember(NODE, &flows).unwrap();
    assert_eq!(other.conntrack(NODE, 10).unwrap(), backend.conntrack(NODE, 10).unwrap());
}

#[test]
fn answers_restore_what_leads_the_client_to_its_backend() {
    let mut vm = interpreter(LIMITS);
    vm.load(&served(1, &BOTH_PORTS)).unwrap();
    let backend = chosen(&vm.say(&to_service(40_000, 80))).0.unwrap();
    let answer = from_b(&packet("10.0.0.2", "10.0.0.1", tcp(backend.port, 40_000, TcpFlags::ACK)));
    let is_known = |vm: &mut Tested| {
        let entries = vm.conntrack(NODE, 10).unwrap();
        entries.iter().any(|entry| matches!(entry.kind, ConntrackKind::Service { .. }))
    };
    // More flows than there is room for, and seven answers meanwhile.
    for source in 1_000..1_000 + u16::try_from(FLOWS).unwrap() {
        if source % 1_200 == 0 {
            assert_eq!(vm.say(&answer).state(), Some(CtState::Reply));
        }
        vm.say(&from_a(&packet("10.0.0.1", "10.0.0.2", udp(source, 9))));
    }
    assert!(!is_known(&mut vm));
    vm.say(&answer);
    assert!(is_known(&mut vm));
    let again = from_a(&packet("10.0.0.1", CLUSTER_IP, tcp(40_000, 80, TcpFlags::ACK)));
    let again = vm.say(&again);
    assert_eq!((chosen(&again).0, chosen(&again).1), (Some(backend), Choice::Conntrack));
}

#[test]
fn clients_that_are_kept_are_remembered_and_forgotten() {
    let mut backend = backend();
    backend.load(&served(1, &BOTH_PORTS)).unwrap();
    let first = chosen(&backend.say(&to_service(40_000, 82))).0;
    for source in 40_001..40_008 {
        let said = backend.say(&to_service(source, 82));
        assert_eq!((chosen(&said).0, chosen(&said).1), (first, Choice::Affinity));
    }
    let rows = backend.remembered(NODE).unwrap();
    assert_eq!(rows.iter().filter(|row| row.value.len() == 32).count(), 1);
    backend.forget().unwrap();
    assert!(backend.remembered(NODE).unwrap().is_empty());
    assert_eq!(chosen(&backend.say(&to_service(40_000, 82))).1, Choice::Random);
}

#[test]
fn a_set_that_changes_is_the_new_one_at_once() {
    let mut backend = backend();
    for (generation, port) in (1..).zip([8080_u16, 8081, 8082, 8083]) {
        backend.load(&served(generation, &[("10.0.0.2", port)])).unwrap();
        let said = backend.say(&to_service(40_000 + port, 80));
        assert_eq!(chosen(&said), (Some(place("10.0.0.2", port)), Choice::Random, 1));
    }
    // More than there was room for: larger maps are made, and what was remembered moves along.
    let many: Vec<(&str, u16)> = (0..600).map(|at| ("10.0.0.2", 9000 + at)).collect();
    backend.load(&served(9, &many)).unwrap();
    assert_eq!(backend.conntrack(NODE, 0).unwrap().len(), 8);
    assert_eq!(chosen(&backend.say(&to_service(50_000, 80))).2, 600);
}

#[test]
fn hits_are_counted_by_entry_since_the_tables_were_loaded() {
    let mut backend = backend();
    let ingress =
        || vec![allow(A, Some(Protocol::Tcp), 80, 16), deny(A, Some(Protocol::Tcp), 81, 16)];
    backend.load(&tables(1, everything(), ingress())).unwrap();
    assert_eq!(backend.hits(NODE), Ok(Vec::new()));
    for port in [80, 81, 82, 80] {
        backend.say(&from_a(&packet("10.0.0.1", "10.0.0.2", syn(port))));
    }
    let hit = |endpoint, direction, entry, packets| Hit {
        endpoint: EndpointId(endpoint),
        direction,
        entry: EntryId(entry),
        packets,
        bytes: 54 * packets,
    };
    let expected = [
        hit(1, Direction::Egress, 1, 4),
        hit(2, Direction::Ingress, 0, 1),
        hit(2, Direction::Ingress, 1, 2),
        hit(2, Direction::Ingress, 2, 1),
    ];
    assert_eq!(backend.hits(NODE).unwrap(), expected);
    // Both slots begin anew.
    for generation in 2..5 {
        backend.load(&tables(generation, everything(), ingress())).unwrap();
        assert_eq!(backend.hits(NODE), Ok(Vec::new()), "generation {generation}");
        backend.forget().unwrap();
        backend.say(&from_a(&packet("10.0.0.1", "10.0.0.2", syn(81))));
        let expected = [hit(1, Direction::Egress, 1, 1), hit(2, Direction::Ingress, 2, 1)];
        assert_eq!(backend.hits(NODE).unwrap(), expected);
    }
}

#[test]
fn the_prefilter_drops_what_is_listed_before_anything_else() {
    let mut backend = backend();
    let mut tables = tables(1, everything(), everything());
    tables.nodes[0].prefilter =
        vec!["203.0.113.0/24".parse().unwrap(), "fd0f::/16".parse().unwrap()];
    backend.load(&tables).unwrap();
    for (source, destination, dropped) in [
        ("203.0.113.9", "10.0.0.1", true),
        ("203.0.114.9", "10.0.0.1", false),
        ("fd0f::1", "fd00::1", true),
        ("fd0e::1", "fd00::1", false),
    ] {
        let frame = frame(&packet(source, destination, syn(80)));
        let injection = Injection { mark: 7, ..injection(Hook::Prefilter, DEVICE, frame.clone()) };
        let said = backend.say(&injection);
        let expected = if dropped { Action::Drop(DropReason::Prefiltered) } else { Action::Pass };
        assert_eq!(
            (said.outcome(), said.0.code),
            (expected, if dropped { 2 } else { 0 }),
            "{source}"
        );
        assert_eq!((&said.0.frame, said.0.mark), (&frame, 7));
    }
    let counters = backend.counters(NODE).unwrap();
    let dropped = counters.iter().find(|counter| counter.reason.is_some()).unwrap();
    assert_eq!((dropped.hook, dropped.packets), (Hook::Prefilter, 2));
}

#[test]
fn the_prefilter_is_stepped_through_and_counted_like_any_other_program() {
    let mut tables = tables(1, everything(), everything());
    tables.nodes[0].prefilter = vec!["203.0.113.0/24".parse().unwrap()];
    let frame = frame(&packet("203.0.113.9", "10.0.0.1", syn(80)));
    let injection = injection(Hook::Prefilter, DEVICE, frame);
    let mut vm = crate::vm::Vm::find().unwrap();
    vm.load(&tables).unwrap();
    let image = Rc::clone(vm.image());
    let prefilter = image.program(abi::programs::PREFILTER).unwrap();
    let machine = vm.begin(&injection).unwrap();
    assert_eq!((machine.program(), machine.pc()), (prefilter, 0));
    let code = loop {
        match machine.step(&mut ()).unwrap() {
            crate::vm::machine::Step::Next => {}
            crate::vm::machine::Step::Done(code) => break code,
        }
    };
    let stepped = vm.finish(NODE, code).unwrap();
    assert_eq!(stepped.code, 2);
    let recorder = crate::vm::coverage::Recorder::find().unwrap();
    let mut counting = recorder.backend();
    counting.load(&tables).unwrap();
    assert_eq!(counting.inject(&injection).unwrap(), stepped);
    assert_eq!(recorder.counts().ran(prefilter, 0), 1);
}

#[test]
fn what_leaves_the_node_past_its_stack_goes_to_the_device() {
    let mut backend = backend();
    let mut tables = tables(1, everything(), everything());
    tables.nodes[0].host_routing = HostRouting::Bpf;
    backend.load(&tables).unwrap();
    let said = backend.say(&from_a(&packet("10.0.0.1", "8.8.8.8", syn(80))));
    assert_eq!(said.outcome(), Action::Network { ifindex: DEVICE, next_hop: None });
    assert_eq!(said.0.code, 7);
}

#[test]
fn a_source_is_translated_at_the_device_and_back() {
    let mut backend = backend();
    let mut tables = tables(1, everything(), everything());
    tables.nodes[0].nat.masquerade = true;
    tables.nodes[0].nat.except = vec!["203.0.113.0/24".parse().unwrap()];
    backend.load(&tables).unwrap();
    let out = |destination| packet("10.0.0.1", destination, udp(40_000, 53));
    let leaving = |destination| injection(Hook::ToNetdev, DEVICE, frame(&out(destination)));
    let rewritten = |said: &Said| {
        said.0.events.iter().find_map(|stamped| match stamped.event {
            Event::Rewritten { rewriting, before, after, .. } => Some((rewriting, before, after)),
            _ => None,
        })
    };
    backend.say(&from_a(&out("8.8.8.8")));
    let said = backend.say(&leaving("8.8.8.8"));
    let expected = (
        engine::trace::Rewriting::Masquerade,
        place("10.0.0.1", 40_000),
        place("192.168.0.1", 40_000),
    );
    assert_eq!(rewritten(&said), Some(expected), "{:?}", said.0);
    let kinds = backend.conntrack(NODE, 0).unwrap();
    let nat = ConntrackKind::Nat { source: place("10.0.0.1", 40_000) };
    assert!(kinds.iter().any(|entry| entry.kind == nat), "{kinds:?}");
    backend.say(&from_a(&out("203.0.113.7")));
    assert_eq!(rewritten(&backend.say(&leaving("203.0.113.7"))), None, "it is excepted");
}
