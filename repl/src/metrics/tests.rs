//! Tests of what is counted and how it is told.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use datapath::decode::End;
use engine::net::{Direction, FlowKey, Fragment, Hook, Protocol, TcpFlags};
use engine::reason::DropReason;
use engine::source::SourceMap;
use engine::tables::{EndpointId, EntryId, Generation, Tables};
use engine::trace::{Action, Event, PolicyOutcome, Stamped};

use super::*;

const WORLD: &str = r#"
cluster lab {
  node node01 { ip 192.168.1.1 pods 10.1.0.0/24 }
}
namespace shop {}
pod shop/client-6698bd45b-x2z4v on node01 { ip 10.1.0.10 labels { app = "client" } }
pod shop/server-0 on node01 { ip 10.1.0.11 labels { app = "server" } }
policy shop/server { select { app = "server" } allow ingress as web from pods { app = "client" } on 80/tcp }
"#;

struct Scene {
    names: Names,
    tables: Tables,
    metrics: Metrics,
}

impl Scene {
    fn open(observes: bool) -> Self {
        let text = [("world.hop".to_owned(), WORLD.to_owned())];
        let loaded = lang::load(&text, &mut lang::NoIncludes, &mut SourceMap::default());
        let tables =
            engine::compile::compile(&loaded.world, &loaded.policies, Generation(1)).unwrap();
        let about = About { installation: "shop".to_owned(), observes };
        let names = Names::of(&loaded.world, &loaded.policies, &tables);
        Self { names, tables, metrics: Metrics::new(&about) }
    }

    fn server(&self) -> EndpointId {
        let server = "10.1.0.11".parse().unwrap();
        let endpoints = &self.tables.nodes[0].endpoints;
        endpoints.iter().find(|e| e.addresses.contains(&server)).unwrap().id
    }

    fn run(&self, hook: Hook, source: &str, entry: Option<u32>, action: Action) -> Run {
        let policy = entry.map(|entry| Event::Policy {
            endpoint: self.server(),
            direction: Direction::Ingress,
            peer: engine::identity::Identity(300),
            protocol: Protocol::Tcp,
            port: 80,
            outcome: if entry == 0 { PolicyOutcome::DefaultDeny } else { PolicyOutcome::Allow },
            entry: EntryId(entry),
            other: None,
            remembered: false,
        });
        let parsed = Event::Parsed {
            flow: FlowKey {
                source: source.parse().unwrap(),
                destination: "10.1.0.11".parse().unwrap(),
                protocol: Protocol::Tcp,
                source_port: 4000,
                destination_port: 80,
            },
            flags: TcpFlags::SYN,
            icmp: None,
            fragment: Fragment::default(),
            ttl: 64,
            length: 40,
        };
        let events = [Some(parsed), policy, Some(Event::Outcome(action))];
        let said = |event| Stamped { generation: Generation(1), hook, event };
        Run {
            cpu: 0,
            hook,
            generation: Generation(1),
            events: events.into_iter().flatten().map(said).collect(),
            came: None,
            left: None,
            end: Some(End { time: 1, ifindex: 2, length: 54, mark: 0, unknown: None }),
        }
    }

    fn saw(&self, run: &Run) {
        self.metrics.saw(&self.names, NodeId(0), run);
    }

    fn deliver(&self) -> Action {
        Action::Deliver { endpoint: self.server(), ifindex: 3, peer: true }
    }
}

/// Lines of samples without what every one has.
fn samples(text: &str) -> Vec<String> {
    let own = |line: &str| line.replace("installation=\"shop\",", "");
    text.lines().filter(|line| !line.starts_with('#')).map(own).collect()
}

#[test]
fn a_local_packet_counts_as_sent_and_as_received() {
    let scene = Scene::open(false);
    let run = scene.run(Hook::FromContainer, "10.1.0.10", Some(2), scene.deliver());
    scene.saw(&run);
    scene.saw(&run);
    let text = scene.metrics.text();
    let samples = samples(&text);
    for (direction, family, count) in [
        ("egress", "packets", 2),
        ("ingress", "packets", 2),
        ("egress", "bytes", 108),
        ("ingress", "bytes", 108),
    ] {
        let wanted = format!(
            "hopwise_forwarded_{family}_total{{mode=\"enforce\",node=\"node01\",direction=\"{direction}\",source_namespace=\"shop\",\
             source_workload=\"client\",destination_namespace=\"shop\",destination_workload=\"server\"}} {count}"
        );
        assert!(samples.contains(&wanted), "{wanted}\n{text}");
    }
    let verdict = "hopwise_policy_verdicts_total{mode=\"enforce\",node=\"node01\",direction=\"ingress\",policy=\"shop/server\",rule=\"web\",verdict=\"allow\"} 2";
    assert!(samples.iter().any(|sample| sample == verdict), "{text}");
    assert!(text.contains("# TYPE hopwise_forwarded_packets_total counter\n"), "{text}");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    let open = scene.metrics.open_metrics();
    assert!(open.contains("# TYPE hopwise_forwarded_packets counter\n"), "{open}");
    assert!(open.contains("# UNIT hopwise_forwarded_bytes bytes\n"), "{open}");
    assert!(open.ends_with("# EOF\n"), "{open}");
}

#[test]
fn drops_have_a_reason_and_the_side_that_denied() {
    let scene = Scene::open(true);
    let drop = Action::Drop(DropReason::PolicyDenied);
    let run = scene.run(Hook::FromContainer, "203.0.113.9", Some(0), drop);
    scene.saw(&run);
    let text = scene.metrics.text();
    assert!(text.contains("hopwise_dropped_packets_total{installation=\"shop\",mode=\"observe\",node=\"node01\",direction=\"ingress\",reason=\"policy-denied\",source_namespace=\"\",source_workload=\"unknown\""), "{text}");
    assert!(text.contains("policy=\"\",rule=\"\",verdict=\"default-deny\"} 1"), "{text}");
}

#[test]
fn what_may_be_older_is_no_drop_and_no_verdict() {
    let scene = Scene::open(true);
    let mut run = scene.run(Hook::ToContainer, "203.0.113.9", Some(0), Action::Pass);
    let end = run.end.as_mut().unwrap();
    end.unknown = Some(DropReason::PolicyDenied);
    scene.saw(&run);
    let samples = samples(&scene.metrics.text());
    let counted: Vec<_> = samples.iter().filter(|s| !s.starts_with("hopwise_build")).collect();
    assert_eq!(counted.len(), 1, "{samples:#?}");
    assert!(counted[0].starts_with("hopwise_unknown_state_packets_total{"), "{samples:#?}");
}

#[test]
fn an_observed_local_packet_is_counted_at_its_sender_only() {
    let scene = Scene::open(true);
    let again = scene.run(Hook::ToContainer, "10.1.0.10", Some(2), Action::Pass);
    scene.saw(&again);
    assert!(!scene.metrics.text().contains("hopwise_forwarded_packets_total{"));
    let outside = scene.run(Hook::ToContainer, "203.0.113.9", Some(2), Action::Pass);
    scene.saw(&outside);
    assert!(scene.metrics.text().contains("direction=\"ingress\""));
    assert!(!scene.metrics.text().contains("direction=\"egress\""));
}

#[test]
fn a_run_that_lost_its_end_counts_as_lost_only() {
    let scene = Scene::open(false);
    let mut run = scene.run(Hook::FromContainer, "10.1.0.10", Some(2), scene.deliver());
    run.end = None;
    scene.saw(&run);
    scene.metrics.lost("node01", 3);
    let samples = samples(&scene.metrics.text());
    assert_eq!(samples[0], "hopwise_lost_events_total{mode=\"enforce\",node=\"node01\"} 3");
    assert_eq!(samples.len(), 2, "{samples:#?}");
}

#[test]
fn the_number_of_series_is_bounded() {
    let scene = Scene::open(false);
    let most = u32::try_from(seen::MOST).unwrap();
    let mut counts = Seen::default();
    for number in 0..most + 500 {
        let packet = packet::Packet {
            fate: packet::Fate::Forwarded,
            sides: vec![Direction::Egress],
            source: names::Who { namespace: "n".into(), workload: number.to_string() },
            destination: names::Who::reserved("world"),
            bytes: 1,
            judged: Vec::new(),
        };
        counts.packet(scene.names.node(NodeId(0)), &packet);
    }
    *scene.metrics.seen.lock() = counts;
    let samples = samples(&scene.metrics.text());
    let packets = |s: &&String| s.starts_with("hopwise_forwarded_packets_total");
    assert_eq!(samples.iter().filter(packets).count(), seen::MOST + 1);
    let other = samples.iter().find(|s| s.contains("source_workload=\"other\"")).unwrap();
    assert!(other.ends_with(" 500"), "{other}");
}

#[test]
fn what_a_node_says_of_itself_takes_the_place_of_what_it_said() {
    let scene = Scene::open(false);
    for packets in [3, 5] {
        let counter = Counter {
            hook: Hook::FromContainer,
            reason: Some(DropReason::PolicyDeny),
            direction: Direction::Egress,
            packets,
            bytes: 100,
        };
        scene.metrics.measured(
            "node01",
            Measured {
                counters: vec![counter],
                maps: vec![("CT4".into(), 7, 8192)],
                programs: vec![("from_container".into(), Duration::from_millis(1500), 9)],
            },
        );
    }
    let text = scene.metrics.text();
    for wanted in [
        "hopwise_datapath_packets_total{installation=\"shop\",mode=\"enforce\",node=\"node01\",hook=\"from-container\",direction=\"egress\",reason=\"policy-deny\"} 5",
        "map=\"CT4\"} 7",
        "map=\"CT4\"} 8192",
        "hopwise_bpf_program_run_seconds_total{installation=\"shop\",mode=\"enforce\",node=\"node01\",program=\"from_container\"} 1.5",
        "program=\"from_container\"} 9",
    ] {
        assert!(text.contains(wanted), "{wanted}\n{text}");
    }
}

#[test]
fn names_and_labels_follow_the_conventions() {
    for family in FAMILIES {
        let is_plain = |c: char| c.is_ascii_lowercase() || c == '_';
        assert!(family.name.starts_with("hopwise_") && family.name.chars().all(is_plain));
        assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{family:?}");
        assert!(family.labels.iter().all(|label| label.chars().all(is_plain)));
        assert!(!family.help.ends_with('.'));
    }
}

#[test]
fn a_workload_is_what_its_pods_names_have_in_common() {
    for (pod, expected) in [
        ("echo-6698bd45b-x2z4v", "echo"),
        ("echo-other-node-5d67f9786b-4wq7k", "echo-other-node"),
        ("cilium-x2z4v", "cilium"),
        ("echo-0", "echo"),
        ("db-12", "db"),
        ("client", "client"),
        ("my-client", "my-client"),
        ("a-b-c", "a-b-c"),
        ("-0", "-0"),
    ] {
        assert_eq!(workload(pod), expected, "{pod}");
    }
}

fn ask(server: &Server, request: &str) -> String {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn metrics_are_served_and_nothing_else_is() {
    let metrics = Scene::open(false).metrics;
    let server = serve("127.0.0.1:0", metrics).unwrap();
    let plain = ask(&server, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(plain.starts_with("HTTP/1.1 200 OK\r\n") && plain.contains("version=0.0.4"), "{plain}");
    let open = ask(
        &server,
        "GET /metrics?x=1 HTTP/1.1\r\nAccept: application/openmetrics-text;version=1.0.0,*/*\r\n\r\n",
    );
    assert!(open.contains("openmetrics-text; version=1.0.0") && open.ends_with("# EOF\n"));
    assert!(ask(&server, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    let other = ask(&server, "POST /metrics HTTP/1.1\r\n\r\n");
    assert!(other.starts_with("HTTP/1.1 405 ") && other.contains("\r\nAllow: GET\r\n"), "{other}");
    assert!(ask(&server, "\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let address = server.address();
    drop(server);
    assert!(TcpStream::connect(address).is_err(), "it is gone");
}

/// Clients that say nothing hold up nobody, and every address is one of both families.
#[test]
fn silent_clients_keep_nobody_waiting() {
    let about = About { installation: "shop".to_owned(), observes: false };
    let server = serve(":0", Metrics::new(&about)).unwrap();
    let port = server.address().port();
    let local = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let silent: Vec<TcpStream> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect(local).unwrap();
            stream.write_all(b"GET /met").unwrap();
            stream
        })
        .collect();
    let begun = std::time::Instant::now();
    let mut addresses = vec![local];
    if server.address().is_ipv6() {
        addresses.push((std::net::Ipv6Addr::LOCALHOST, port).into());
    }
    for address in addresses {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{address}: {answer}");
    }
    assert!(begun.elapsed() < std::time::Duration::from_millis(1900), "{:?}", begun.elapsed());
    assert_eq!(silent.len(), 200);
}

#[test]
fn an_address_is_looked_at_before_it_is_served_at() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert!(check(&port.to_string()).unwrap_err().to_string().contains("cannot be served at"));
    for wrong in ["127.0.0.1:999999", ":x", ":70000", "host:1", ""] {
        let problem = check(wrong).unwrap_err().to_string();
        assert!(problem.ends_with("is no address to serve metrics at"), "{problem}");
    }
    drop(taken);
    assert!(check(&port.to_string()).is_ok());
}

/// Whoever dribbles holds up others for so long and no longer.
#[test]
fn a_slow_client_does_not_keep_others_from_being_answered() {
    let about = About { installation: "shop".to_owned(), observes: false };
    let server = serve("127.0.0.1:0", Metrics::new(&about)).unwrap();
    let mut slow = TcpStream::connect(server.address()).unwrap();
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // Until the server hangs up.
            while slow.write_all(b"x").is_ok() && begun.elapsed() < 10 * server::PATIENCE {
                std::thread::sleep(server::PATIENCE / 10);
            }
        });
        std::thread::sleep(server::PATIENCE / 10);
        assert!(ask(&server, "GET /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 200 OK"));
        assert!(begun.elapsed() < 5 * server::PATIENCE, "{:?}", begun.elapsed());
    });
}

#[test]
fn an_address_that_cannot_be_had_is_told_with_a_remedy() {
    let metrics = Scene::open(false).metrics;
    let server = serve("127.0.0.1:0", metrics.clone()).unwrap();
    let error = serve(&server.address().to_string(), metrics.clone()).unwrap_err();
    assert!(error.to_string().contains(&server.address().to_string()), "{error}");
    assert!(error.remedy().contains("another process has that port"), "{error}");
    for wrong in ["here", "localhost:9", ":", "127.0.0.1", "1.2.3.4:99999", ""] {
        let error = serve(wrong, metrics.clone()).unwrap_err();
        assert!(matches!(error, ServeError::Address(_)), "{wrong}: {error}");
    }
}
