//! How conntrack changed with a packet, as lines: `node01 added tcp A -> B, new, for 60 s`.

use engine::explain::{FlowKind, KnownChange, KnownFlow};

use super::hop::fact;

/// One change.
pub(super) fn line(change: &KnownChange) -> String {
    let what = match (&change.before, &change.after) {
        (None, Some(after)) => ("added", state(*after)),
        (Some(before), Some(after)) if before.state == after.state => ("changed", state(*after)),
        (Some(before), Some(after)) => {
            let earlier = before.state.map_or_else(String::new, |state| format!("{state} -> "));
            ("changed", format!("{earlier}{}", state(*after)))
        }
        (Some(KnownFlow { state: Some(state), .. }), None) => ("gone", format!("was {state}")),
        (_, None) => ("gone", String::new()),
    };
    let (verb, state) = what;
    let state = if state.is_empty() { state } else { format!(", {state}") };
    let text = format!("{} {verb} {}{state}", change.node, flow(change));
    fact(1, "conntrack", &text)
}

fn state(flow: KnownFlow) -> String {
    let state = flow.state.map_or_else(String::new, |state| format!("{state}, "));
    format!("{state}for {} s", flow.expires_in)
}

/// `tcp A -> B`, with where the entry leads.
fn flow(change: &KnownChange) -> String {
    let KnownChange { protocol, source, destination, translated, .. } = change;
    let flow = format!("{protocol} {source} -> {destination}");
    match (change.kind, translated) {
        (FlowKind::Flow, Some(frontend)) => format!("{flow}, answered from {frontend}"),
        (FlowKind::Service, Some(backend)) => format!("{flow}, a service's: to {backend}"),
        (FlowKind::Nat, Some(original)) => format!("{flow}, translated: stands for {original}"),
        (_, None) => flow,
    }
}

/// The same without addresses that the datapath chooses and without times, for what tests pin.
pub(super) fn minimal(change: &KnownChange) -> String {
    let kind = match change.kind {
        FlowKind::Flow => "flow",
        FlowKind::Service => "service",
        FlowKind::Nat => "nat",
    };
    let at = |flow: &Option<KnownFlow>| match flow {
        None => "none".to_owned(),
        Some(flow) => flow.state.map_or_else(|| "there".to_owned(), |state| state.to_string()),
    };
    format!("conntrack {} {kind} {}->{}", change.node, at(&change.before), at(&change.after))
}

#[cfg(test)]
mod tests {
    use engine::explain::FlowState;
    use engine::net::Protocol;

    use super::*;

    fn change(before: Option<FlowState>, after: Option<FlowState>) -> KnownChange {
        let at = |state| KnownFlow { state: Some(state), expires_in: 60 };
        KnownChange {
            node: "node01".into(),
            kind: FlowKind::Flow,
            protocol: Protocol::Tcp,
            source: "10.244.1.154:40312".into(),
            destination: "10.244.6.11:8080".into(),
            translated: None,
            before: before.map(at),
            after: after.map(at),
        }
    }

    #[test]
    fn changes_in_words() {
        let flow = "tcp 10.244.1.154:40312 -> 10.244.6.11:8080";
        let check = |change: &KnownChange, expected: &str| {
            assert_eq!(line(change), format!("  conntrack node01 {expected}"));
        };
        let (new, known) = (Some(FlowState::New), Some(FlowState::Established));
        check(&change(None, new), &format!("added {flow}, new, for 60 s"));
        check(&change(new, known), &format!("changed {flow}, new -> established, for 60 s"));
        check(&change(new, new), &format!("changed {flow}, new, for 60 s"));
        check(&change(known, None), &format!("gone {flow}, was established"));
        assert_eq!(minimal(&change(new, known)), "conntrack node01 flow new->established");
    }

    #[test]
    fn other_kinds_say_where_they_lead() {
        let leads = |kind| {
            let to = Some("10.244.6.11:8080".into());
            let change = KnownChange { kind, translated: to, ..change(None, Some(FlowState::New)) };
            line(&change)
        };
        let flow = "  conntrack node01 added tcp 10.244.1.154:40312 -> 10.244.6.11:8080";
        let rest = "10.244.6.11:8080, new, for 60 s";
        assert_eq!(leads(FlowKind::Flow), format!("{flow}, answered from {rest}"));
        assert_eq!(leads(FlowKind::Service), format!("{flow}, a service's: to {rest}"));
        assert_eq!(leads(FlowKind::Nat), format!("{flow}, translated: stands for {rest}"));
    }
}
