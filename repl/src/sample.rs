//! Explanations made by hand after the examples of the design, for the tests of renderers and of
//! expectations.

use engine::explain::{
    Agreement, Condition, Decided, DropPlace, Explanation, HopReport, Isolating, LegOutcome,
    Nearest, PacketReport, SCHEMA_VERSION, Step, Verdict,
};
use engine::identity::Identity;
use engine::net::{Direction, Hook, Protocol};
use engine::reason::DropReason;
use engine::source::Location;
use engine::tables::{EntryId, Generation};
use engine::topology::TunnelKind;
use engine::trace::CtState;

fn at(line: u32, column: u32) -> Location {
    Location { file: "shop.hop".into(), line, column }
}

pub(crate) fn decided(direction: Direction, endpoint: &str, outcome: LegOutcome) -> Decided {
    Decided {
        direction,
        endpoint: endpoint.into(),
        outcome,
        policy: None,
        rule: None,
        implied: Some(outcome.to_string()),
        file: None,
        line: None,
        column: None,
        owner: None,
        because: None,
        entry: None,
        also: Vec::new(),
    }
}

pub(crate) fn policy_step(decided: Decided, peer: u32, peer_meaning: &str) -> Step {
    Step::Policy {
        decided,
        peer: Identity(peer),
        peer_meaning: peer_meaning.into(),
        protocol: Protocol::Tcp,
        port: 8080,
        key: Some("identity 1042, tcp 8080".into()),
        other: Some((EntryId(7), "identity any, any".into())),
        remembered: false,
    }
}

fn new_flow() -> Step {
    Step::Conntrack { state: CtState::New, created: true, expires_in: 60, closing: false }
}

pub(crate) fn hop(node: &str, device: &str, hook: Hook, steps: Vec<Step>) -> HopReport {
    HopReport {
        node: node.into(),
        hook,
        device: device.into(),
        steps,
        tunnel: None,
        undetermined: vec!["outer IP id".into()],
        quiet: false,
        after: None,
        frame_in: vec![0xab, 0x01],
        frame: vec![0xcd, 0x02],
    }
}

fn explanation(hops: Vec<HopReport>) -> Explanation {
    Explanation {
        schema_version: SCHEMA_VERSION,
        verdict: Verdict::Allowed,
        reason: None,
        undecided: None,
        dropped_at: None,
        tunneled: false,
        agreement: Agreement::Agree,
        divergence: None,
        backend: "kernel 6.18".into(),
        profile: "cilium 1.18".into(),
        policies: 3,
        unmodelled: 0,
        packet: PacketReport {
            source: "web/client".into(),
            source_address: "10.244.1.154".into(),
            source_port: Some(40312),
            destination: "web/echo-0".into(),
            destination_address: "10.244.6.11".into(),
            destination_port: Some(8080),
            protocol: Some(Protocol::Tcp),
            detail: "SYN".into(),
        },
        decided_by: Vec::new(),
        isolated_by: Vec::new(),
        nearest: Vec::new(),
        obstacle: None,
        known: Vec::new(),
        unobserved: None,
        assumed: vec!["no earlier conntrack".into()],
        lost: 0,
        generation: Generation(1),
        hops,
        reply: None,
        no_reply: None,
    }
}

fn by_rule(mut decided: Decided, policy: &str, rule: &str, line: u32) -> Decided {
    decided.policy = Some(policy.into());
    decided.rule = Some(rule.into());
    decided.implied = None;
    decided.file = Some("shop.hop".into());
    decided.line = Some(line);
    decided.column = Some(3);
    decided.entry = Some(EntryId(3));
    decided
}

/// The first example of the design, without what later features add.
pub(crate) fn tunneled() -> Explanation {
    let egress = decided(Direction::Egress, "web/client", LegOutcome::Allow);
    let egress = by_rule(egress, "web/client-egress", "echo", 30);
    let ingress = decided(Direction::Ingress, "web/echo-0", LegOutcome::Allow);
    let mut ingress = by_rule(ingress, "web/echo-access", "api-read", 23);
    ingress.owner = Some("team-storefront".into());
    ingress.also = vec!["web/wide#all".into()];
    let from_container = vec![
        Step::Identity {
            address: "10.244.1.154".into(),
            identity: Identity(27634),
            meaning: "{app=client} in web".into(),
            from: "endpoint".into(),
            prefix: None,
            entry: None,
        },
        new_flow(),
        Step::Ipcache {
            address: "10.244.6.11".into(),
            identity: Identity(1042),
            meaning: "{app=echo} in web".into(),
            prefix: Some("10.244.6.11/32".into()),
            entry: Some(EntryId(5)),
            node: Some("node02".into()),
            via: Some("192.168.66.221".into()),
            remembered: false,
        },
        policy_step(egress.clone(), 1042, "{app=echo} in web"),
        Step::Tunnel {
            kind: TunnelKind::Vxlan,
            source: "192.168.66.226".into(),
            destination: "192.168.66.221".into(),
            port: 8472,
            vni: 27634,
            meaning: "web/client".into(),
            node: Some("node02".into()),
        },
    ];
    let from_overlay = vec![
        Step::Identity {
            address: "10.244.1.154".into(),
            identity: Identity(27634),
            meaning: "{app=client} in web".into(),
            from: "vni".into(),
            prefix: None,
            entry: None,
        },
        new_flow(),
        policy_step(ingress.clone(), 27634, "{app=client} in web"),
        Step::Deliver { interface: "lxc_echo-0".into(), pod: "web/echo-0".into(), ttl: Some(63) },
    ];
    let mut explanation = explanation(vec![
        hop("node01", "lxc_client", Hook::FromContainer, from_container),
        hop("node02", "vxlan0", Hook::FromOverlay, from_overlay),
    ]);
    explanation.tunneled = true;
    explanation.decided_by = vec![egress, ingress];
    explanation
}

/// The second example of the design.
pub(crate) fn dropped() -> Explanation {
    let ingress = decided(Direction::Ingress, "web/echo-0", LegOutcome::DefaultDeny);
    let steps = vec![
        Step::Identity {
            address: "8.8.8.8".into(),
            identity: Identity::WORLD,
            meaning: "world".into(),
            from: "ipcache".into(),
            prefix: Some("0.0.0.0/0".into()),
            entry: Some(EntryId(1)),
        },
        new_flow(),
        policy_step(ingress.clone(), 2, "world"),
        Step::Drop { reason: DropReason::PolicyDenied, by_stack: false },
    ];
    let mut explanation = explanation(vec![hop("node02", "eth0", Hook::FromNetdev, steps)]);
    explanation.verdict = Verdict::Dropped;
    explanation.reason = Some(DropReason::PolicyDenied);
    explanation.dropped_at = Some(DropPlace {
        node: "node02".into(),
        direction: Some(Direction::Ingress),
        endpoint: Some("web/echo-0".into()),
    });
    explanation.decided_by = vec![ingress];
    explanation.packet.source = "8.8.8.8".into();
    explanation.packet.source_address = "8.8.8.8".into();
    explanation.isolated_by = vec![Isolating {
        endpoint: "web/echo-0".into(),
        direction: Direction::Ingress,
        policy: "web/echo-access".into(),
        owner: Some("team-storefront".into()),
        because: None,
        location: at(20, 1),
    }];
    explanation.nearest = vec![
        Nearest {
            rule: "web/echo-access#api-read".into(),
            conditions: vec![
                condition("port", None),
                condition("from", Some("pods {app=client} in web")),
            ],
            location: at(23, 3),
        },
        Nearest {
            rule: "web/echo-access#probes".into(),
            conditions: vec![condition("from", Some("x")), condition("port", Some("y"))],
            location: at(24, 3),
        },
    ];
    explanation.assumed.push("the packet reaches node02 eth0".into());
    explanation
}

fn condition(name: &str, wants: Option<&str>) -> Condition {
    Condition {
        name: name.into(),
        ok: wants.is_none(),
        wants: wants.map(Into::into),
        is: wants.map(|_| "world".into()),
        location: wants.map(|_| at(23, 40)),
    }
}
