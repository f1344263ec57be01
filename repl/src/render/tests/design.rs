//! The answers of the design, made from its own text: the language's world and policies, hand-made
//! tables, events and judgements about them, joined by the engine and rendered. Without services and
//! HTTP, which come later; lines of the text stand where the design has them.

use std::net::IpAddr;
use std::sync::Arc;

use engine::eval::{Check, Judgement, Leg, Mismatch, Trial};
use engine::explain::{Context, Explanation, LegOutcome, Verdict, explain};
use engine::identity::Identity;
use engine::net::{Direction, FlowKey, Fragment, Hook, Mac, Protocol, TcpFlags};
use engine::policy::{PolicyId, RuleId};
use engine::reason::DropReason;
use engine::source::{SourceMap, Span};
use engine::tables::{
    EndpointEntry, EndpointId, EntryId, Generation, IdentityClass, Implied, IpcacheEntry,
    IpcacheOrigin, NodeTables, Origin, PolicyEntry, PolicyKey, PolicyTable, TableId, Tables,
    Target,
};
use engine::topology::{Endpoint, NodeId, PodId, TunnelKind};
use engine::trace::{
    Action, CtState, Event, Hop, IdentitySource, PolicyOutcome, Stamped, Trace, TunnelHeader,
};
use lang::{Loaded, NoIncludes};

use super::rendered;
use crate::reply::Level;

const SHOP: &str = r#"# shop.hop: a world, its policies
cluster shop {
  like cilium 1.18
  tunnel vxlan port 8472
  node node01 { ip 192.168.66.226 pods 10.244.1.0/24 }
  node node02 { ip 192.168.66.221 pods 10.244.6.0/24 }
}
namespace web { labels { team = "storefront" } }
namespace vault { labels { env = "prod" } }
namespace kube-system {}
identity 27634 { namespace web labels { app = "client" } }

pod web/client on node01 { ip 10.244.1.154 labels { app = "client" } }
pod web/echo-0 on node02 { ip 10.244.6.11 labels { app = "echo" } port http 8080/tcp }
pod vault/db-0 on node02 { ip 10.244.6.12 labels { tier = "db" } }
pod kube-system/dns-0 on node01 { ip 10.244.1.2 labels { k8s-app = "kube-dns" } }



policy web/echo-access {
  owner "team-storefront"
  select { app = "echo" }
  allow ingress as api-read from pods { app = "client" } on port http
  allow ingress as probes from pods { app in ("client", "probe"), !debug } in namespaces { team = "storefront" } on 9000-9010/tcp
  deny ingress as lab-net from cidr 10.9.0.0/16 except 10.9.1.0/24
}
policy web/client-egress {
  select { app = "client" }
  default-deny ingress
  allow egress as echo to pods { app = "echo" } on 8080/tcp
  allow egress as probes to pods { app = "echo" } on 9000/tcp
}
clusterwide policy fence {
  select pods in namespaces { env = "prod" }
  deny ingress as no-world from entities world
}
"#;

/// Has nothing to do with any flow of these tests; sorts before every other policy.
const UNRELATED: &str = r#"# Everything below stands five lines further down, and every policy has another number.
namespace aside {}
pod aside/other on node01 { ip 10.244.1.99 labels { app = "client" } }
policy aside/nothing { select { app = "client" } allow ingress from entities all
  allow egress as echo to entities all }
"#;

const GENERATION: Generation = Generation(1);
const ECHO_IDENTITY: Identity = Identity(1042);
const CLIENT_IDENTITY: Identity = Identity(27634);
const CLIENT: EndpointId = EndpointId(1);
const ECHO: EndpointId = EndpointId(2);

struct Stage {
    loaded: Loaded,
    sources: SourceMap,
}

impl Stage {
    fn new(text: &str) -> Self {
        let mut sources = SourceMap::default();
        let entry = ("shop.hop".to_owned(), text.to_owned());
        let loaded = lang::load(&[entry], &mut NoIncludes, &mut sources);
        assert!(loaded.diagnostics.is_empty(), "{:#?}", loaded.diagnostics);
        Self { loaded, sources }
    }

    fn policy(&self, handle: &str) -> PolicyId {
        let mut all = self.loaded.policies.iter();
        all.find(|(_, p)| p.handle == handle).map(|(id, _)| id).expect("the policy exists")
    }

    fn rule(&self, handle: &str, name: &str) -> RuleId {
        let policy = self.policy(handle);
        let rules = &self.loaded.policies.get(policy).expect("the policy exists").rules;
        let index = rules.iter().position(|r| r.name == name).expect("the rule exists");
        RuleId { policy, index: u32::try_from(index).expect("few rules") }
    }

    fn pod(&self, name: &str) -> PodId {
        let mut all = self.loaded.world.pods();
        all.find(|(_, p)| p.qualified() == name).map(|(id, _)| id).expect("the pod exists")
    }

    fn explain(&mut self, question: &str, trace: &Trace, judgement: &Judgement) -> Explanation {
        let file = self.sources.add("question", question);
        let parsed = lang::command::parse_question(question, file).expect("a question");
        let question = lang::resolve::question(&self.loaded.world, &parsed).expect("known names");
        let tables = self.tables();
        let Loaded { world, policies, .. } = &self.loaded;
        let context = Context { world, policies, tables: &tables, sources: &self.sources };
        explain(&context, &question, trace, Some(judgement)).expect("the trace has hops")
    }

    fn tables(&self) -> Tables {
        let class = |app: &str| IdentityClass::Pods {
            namespace: "web".into(),
            labels: [("app".to_owned(), app.to_owned())].into(),
            variant: String::new(),
        };
        let client = (CLIENT, "web/client", CLIENT_IDENTITY, "lxc_client");
        let echo = (ECHO, "web/echo-0", ECHO_IDENTITY, "lxc_echo-0");
        let mut tables = Tables {
            generation: GENERATION,
            nodes: vec![self.node(0, client), self.node(1, echo)],
            identities: [
                (Identity::WORLD, IdentityClass::Reserved),
                (ECHO_IDENTITY, class("echo")),
                (CLIENT_IDENTITY, class("client")),
            ]
            .into(),
            ..Tables::default()
        };
        let mut record = |node, endpoint, direction, handle, name| {
            let origins = vec![vec![Origin::Rule(self.rule(handle, name))]];
            tables.provenance.record(NodeId(node), endpoint, direction, Arc::from(origins));
        };
        record(0, CLIENT, Direction::Egress, "web/client-egress", "echo");
        record(1, ECHO, Direction::Ingress, "web/echo-access", "api-read");
        tables
    }

    fn node(&self, id: u32, of: (EndpointId, &str, Identity, &str)) -> NodeTables {
        let (endpoint, pod, identity, interface) = of;
        let world = &self.loaded.world;
        let address = world.node(NodeId(id)).expect("the node exists").addresses[0];
        NodeTables {
            node: NodeId(id),
            dual_stack: false,
            routing: engine::topology::Routing::Tunnel,
            host_routing: engine::topology::HostRouting::Bpf,
            host_ifindex: 3,
            host_firewall: false,
            frontends: Vec::new(),
            backend_sets: Vec::new(),
            nat: engine::tables::NatTables {
                masquerade: true,
                addresses: [None, None],
                ports: (32_768, 65_535),
                except: Vec::new(),
            },
            prefilter: Vec::new(),
            encryption: None,
            tunnel: world.cluster.tunnel.clone(),
            tunnel_ifindex: 2,
            device_ifindex: 1,
            tunnel_address: address,
            locals: vec![address],
            tunnels: Vec::new(),
            ipcache: ipcache(id),
            endpoints: vec![EndpointEntry {
                id: endpoint,
                endpoint: Endpoint::Pod(self.pod(pod)),
                identity,
                addresses: Vec::new(),
                ifindex: 10,
                interface: interface.into(),
                mac: Mac::default(),
                host_mac: Mac::default(),
                egress: TableId(1),
                ingress: TableId(1),
            }],
            policies: vec![policy_table()],
        }
    }

    fn leg(
        &self,
        pod: &str,
        direction: Direction,
        outcome: LegOutcome,
        matching: Vec<Origin>,
    ) -> Leg {
        let endpoint = self.pod(pod);
        Leg {
            node: self.loaded.world.pod(endpoint).expect("the pod exists").node,
            endpoint: Endpoint::Pod(endpoint),
            direction,
            state: CtState::New,
            outcome,
            matching,
            isolated_by: Vec::new(),
            trials: Vec::new(),
        }
    }

    /// A rule of web/echo-access held against the world's packet.
    fn trial(&self, name: &str, checks: Vec<Check>) -> Trial {
        let rule = self.rule("web/echo-access", name);
        let (_, found) = self.loaded.policies.rule(rule).expect("the rule exists");
        Trial { rule, action: found.action, checks }
    }

    fn failed(&self, name: &'static str, wants: &str, is: &str, rule: &str) -> Check {
        let rule = self.rule("web/echo-access", rule);
        let span = self.loaded.policies.rule(rule).map_or(Span::default(), |(_, r)| r.span);
        Check { name, mismatch: Some(Mismatch { span, wants: wants.into(), is: is.into() }) }
    }

    /// What the oracle says about a packet of the world to echo-0.
    fn refusal(&self) -> Judgement {
        let denied = vec![Origin::Implied(Implied::DefaultDeny)];
        let mut leg = self.leg("web/echo-0", Direction::Ingress, LegOutcome::DefaultDeny, denied);
        leg.isolated_by = vec![self.policy("web/echo-access")];
        let port_ok = Check { name: "port", mismatch: None };
        let clients = "pods {app=client} in web";
        let probes = "pods {app in (client,probe), !debug} in namespaces {team=storefront}";
        leg.trials = vec![
            self.trial("lab-net", vec![self.failed("from", "cidr", "8.8.8.8", "lab-net")]),
            self.trial(
                "api-read",
                vec![port_ok, self.failed("from", clients, "world", "api-read")],
            ),
            self.trial(
                "probes",
                vec![
                    self.failed("from", probes, "world", "probes"),
                    self.failed("port", "9000-9010/tcp", "8080/tcp", "probes"),
                ],
            ),
        ];
        let reason = Some(DropReason::PolicyDenied);
        judged(Verdict::Dropped, reason, vec![leg])
    }

    /// What the oracle says about a packet of the client to echo-0.
    fn admission(&self) -> Judgement {
        let by = |handle, name| vec![Origin::Rule(self.rule(handle, name))];
        let legs = vec![
            self.leg(
                "web/client",
                Direction::Egress,
                LegOutcome::Allow,
                by("web/client-egress", "echo"),
            ),
            self.leg(
                "web/echo-0",
                Direction::Ingress,
                LegOutcome::Allow,
                by("web/echo-access", "api-read"),
            ),
        ];
        judged(Verdict::Allowed, None, legs)
    }

    /// Both flows at one level.
    fn answers(&mut self, level: Level) -> (String, String) {
        let (refusal, admission) = (self.refusal(), self.admission());
        let mut dropped = self.explain("world 8.8.8.8 -> pod echo-0:8080", &from_world(), &refusal);
        let mut allowed = self.explain("client -> echo-0:8080", &by_tunnel(), &admission);
        for answer in [&mut dropped, &mut allowed] {
            // What the session adds where each question has conntrack for itself.
            answer.assumed.insert(0, "no earlier conntrack".into());
        }
        (rendered(dropped, level), rendered(allowed, level))
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn ipcache(node: u32) -> Vec<IpcacheEntry> {
    let entry = |number, prefix: &str, identity, target, origin| IpcacheEntry {
        prefix: prefix.parse().expect("a prefix"),
        identity,
        target,
        entry: EntryId(number),
        origin,
    };
    let echo = if node == 1 {
        Target::Endpoint(ECHO)
    } else {
        Target::Tunnel { remote: ip("192.168.66.221"), node: NodeId(1) }
    };
    vec![
        entry(1, "0.0.0.0/0", Identity::WORLD, Target::Stack, IpcacheOrigin::World),
        entry(2, "10.244.6.11/32", ECHO_IDENTITY, echo, IpcacheOrigin::Pod(PodId(1))),
    ]
}

fn policy_table() -> PolicyTable {
    let key = PolicyKey {
        identity: CLIENT_IDENTITY,
        protocol: Some(Protocol::Tcp),
        port: 8080,
        port_bits: 16,
    };
    PolicyTable {
        id: TableId(1),
        entries: vec![PolicyEntry { key, deny: false, entry: EntryId(1) }],
    }
}

/// The events that every run starts with: headers, conntrack, who sends, to whom.
fn opening(from: &str, identity: Identity, source: IdentitySource) -> Vec<Event> {
    let (source_address, destination) = (ip(from), ip("10.244.6.11"));
    let flow = FlowKey {
        source: source_address,
        destination,
        protocol: Protocol::Tcp,
        source_port: 40312,
        destination_port: 8080,
    };
    vec![
        Event::Parsed {
            flow,
            flags: TcpFlags::SYN,
            icmp: None,
            fragment: Fragment::default(),
            ttl: 64,
            length: 40,
        },
        Event::Conntrack { state: CtState::New, created: true, expires_in: 60, closing: false },
        Event::Identity { source_side: true, address: source_address, identity, from: source },
        Event::Identity {
            source_side: false,
            address: destination,
            identity: ECHO_IDENTITY,
            from: IdentitySource::Ipcache(EntryId(2)),
        },
    ]
}

/// What policy says of a peer; an allow is by entry 1.
fn asked(
    endpoint: EndpointId,
    direction: Direction,
    peer: Identity,
    outcome: PolicyOutcome,
) -> Event {
    Event::Policy {
        endpoint,
        direction,
        peer,
        protocol: Protocol::Tcp,
        port: 8080,
        outcome,
        entry: EntryId(u32::from(outcome == PolicyOutcome::Allow)),
        other: None,
        remembered: false,
    }
}

fn hop(node: u32, hook: Hook, device: &str, ifindex: u32, events: Vec<Event>) -> Hop {
    let mut frame_out = vec![0; 34];
    (frame_out[14], frame_out[22]) = (0x45, 63);
    Hop {
        node: NodeId(node),
        hook,
        device: device.into(),
        ifindex,
        events: events
            .into_iter()
            .map(|event| Stamped { generation: GENERATION, hook, event })
            .collect(),
        frame_in: Vec::new(),
        frame_out,
        tunnel: None,
        undetermined: Vec::new(),
        time: None,
    }
}

fn trace(hops: Vec<Hop>) -> Trace {
    Trace { backend: "kernel 6.18".into(), generation: GENERATION, hops, ..Trace::default() }
}

fn from_world() -> Trace {
    let mut events = opening("8.8.8.8", Identity::WORLD, IdentitySource::Ipcache(EntryId(1)));
    // A packet that is dropped opens nothing.
    events[1] =
        Event::Conntrack { state: CtState::New, created: false, expires_in: 0, closing: false };
    events.push(asked(ECHO, Direction::Ingress, Identity::WORLD, PolicyOutcome::DefaultDeny));
    events.push(Event::Outcome(Action::Drop(DropReason::PolicyDenied)));
    let hop = hop(1, Hook::FromNetdev, "eth0", 1, events);
    // Nothing leaves.
    trace(vec![Hop { frame_in: hop.frame_out, frame_out: Vec::new(), ..hop }])
}

fn by_tunnel() -> Trace {
    let from = "10.244.1.154";
    let mut sent = opening(from, CLIENT_IDENTITY, IdentitySource::Endpoint);
    sent.push(asked(CLIENT, Direction::Egress, ECHO_IDENTITY, PolicyOutcome::Allow));
    let remote = ip("192.168.66.221");
    sent.push(Event::Outcome(Action::Tunnel { vni: 27634, remote, ifindex: 2, ttl: 64 }));
    let mut first = hop(0, Hook::FromContainer, "lxc_client", 10, sent);
    first.tunnel = Some(TunnelHeader {
        kind: TunnelKind::Vxlan,
        source: ip("192.168.66.226"),
        destination: remote,
        port: 8472,
        source_port: 50000,
        vni: 27634,
        undetermined: Vec::new(),
    });
    let mut received = opening(from, CLIENT_IDENTITY, IdentitySource::Vni);
    received.push(asked(ECHO, Direction::Ingress, CLIENT_IDENTITY, PolicyOutcome::Allow));
    received.push(Event::Outcome(Action::Deliver { endpoint: ECHO, ifindex: 10, peer: true }));
    trace(vec![first, hop(1, Hook::FromOverlay, "vxlan0", 2, received)])
}

#[test]
fn the_answers_read_as_the_design_shows() {
    let (dropped, allowed) = Stage::new(SHOP).answers(Level::Normal);
    let expected = "\
DROPPED  policy-denied (133): default deny, ingress of web/echo-0 on node02
  packet    8.8.8.8:40312 -> web/echo-0 10.244.6.11:8080 TCP SYN
  isolated  web/echo-0 ingress, by web/echo-access shop.hop:20:1 (owner team-storefront)
  nearest   web/echo-access#api-read shop.hop:23:3: port ok; from differs: wants pods {app=client} in web, is world
  nearest   web/echo-access#probes shop.hop:24:3: from and port differ
  node02 eth0 from-netdev
    identity  8.8.8.8 -> world
    conntrack new
    ingress   default-deny
  checked   kernel 6.18; oracle agrees; profile cilium 1.18; 3 policies, 0 unmodelled objects
  assumed   no earlier conntrack; the packet reaches node02 eth0
";
    assert_eq!(dropped, expected);
    let expected = "\
ALLOWED  tunneled node01 -> node02
  packet    web/client 10.244.1.154:40312 -> web/echo-0 10.244.6.11:8080 TCP SYN
  node01 lxc_client from-container
    conntrack new
    ipcache   10.244.6.11 -> identity 1042 {app=echo} in web, on node02 192.168.66.221
    egress    allow by web/client-egress#echo shop.hop:30:3
    tunnel    vxlan 192.168.66.226 -> 192.168.66.221:8472, vni 27634 = identity of web/client
  node02 vxlan0 from-overlay
    identity  27634 {app=client} in web, from the vni
    conntrack new
    ingress   allow by web/echo-access#api-read shop.hop:23:3 (owner team-storefront)
    deliver   lxc_echo-0 to web/echo-0, TTL 63
  checked   kernel 6.18; oracle agrees; profile cilium 1.18; 3 policies, 0 unmodelled objects
  assumed   no earlier conntrack
";
    assert_eq!(allowed, expected);
}

#[test]
fn the_minimal_level_holds_what_tests_pin() {
    let (dropped, allowed) = Stage::new(SHOP).answers(Level::Minimal);
    let expected = "\
dropped policy-denied
node02 from-netdev ingress default-deny ct=new
";
    assert_eq!(dropped, expected);
    let expected = "\
allowed tunneled
node01 from-container egress allow web/client-egress#echo ct=new tunnel=vxlan:node02
node02 from-overlay ingress allow web/echo-access#api-read ct=new
";
    assert_eq!(allowed, expected);
}

#[test]
fn what_is_unrelated_leaves_the_minimal_level_as_it_is() {
    let before = Stage::new(SHOP);
    let after = Stage::new(&format!("{UNRELATED}{SHOP}"));
    let number = |stage: &Stage| stage.policy("web/echo-access");
    assert_ne!(number(&before), number(&after), "the policies are numbered anew");
    let (mut before, mut after) = (before, after);
    assert_eq!(before.answers(Level::Minimal), after.answers(Level::Minimal));
    let moved = after.answers(Level::Normal).0;
    assert!(moved.contains("web/echo-access shop.hop:25:1"), "{moved}");
}

#[test]
fn the_full_level_shows_every_look_up() {
    let (dropped, allowed) = Stage::new(SHOP).answers(Level::Full);
    insta::assert_snapshot!(format!("{dropped}\n{allowed}"));
}

fn judged(verdict: Verdict, reason: Option<DropReason>, legs: Vec<Leg>) -> Judgement {
    Judgement { verdict, reason, legs, serving: None, arrives: None, illegal: Vec::new() }
}
