//! What would become of a packet with another backend of its service: the oracle is asked about each one that the datapath might have
//! chosen as well. Never part of the answer's own verdict.

use std::net::IpAddr;

use crate::eval::{Asked, Choices, Judgement, Memory, judge};
use crate::reason::DropReason;
use crate::trace::{Place, Trace};
use crate::verdict::Verdict;

use super::{Context, service};

/// Backends that are asked about at most.
const MOST_ASKED: usize = 256;
/// Backends that are named for an outcome at most.
const MOST_NAMED: usize = 3;

/// What happens to a packet.
type Outcome = (Verdict, Option<DropReason>);

/// An `assumed` line where the datapath chose the backend freely and the packet would fare otherwise with others; `before` is what the
/// oracle remembered when the packet was sent, `judgement` what it said of it.
pub fn other_backends(
    context: &Context<'_>,
    trace: &Trace,
    asked: &Asked<'_>,
    judgement: &Judgement,
    before: &Memory,
) -> Option<String> {
    let serving = judgement.serving.as_ref()?;
    let chosen = asked.choices.backend.filter(|_| !asked.choices.is_forced)?;
    if serving.candidates.len() < 2 || !judgement.illegal.is_empty() {
        return None;
    }
    let told = trace.hops.iter().find_map(|hop| service::told(context, hop))?;
    let name = |place: Place| {
        let pod = context.backend_pod(&service::Told { backend: Some(place), ..told });
        pod.map_or_else(|| at(context, place.address), |id| context.pod(id))
    };
    let mut groups: Vec<(Outcome, Vec<String>)> = Vec::new();
    for place in serving.candidates.iter().take(MOST_ASKED).filter(|place| **place != chosen) {
        let Some(outcome) = with(context, asked, *place, before) else { continue };
        if outcome == (judgement.verdict, judgement.reason) {
            continue;
        }
        match groups.iter_mut().find(|(known, _)| *known == outcome) {
            Some((_, names)) => names.push(name(*place)),
            None => groups.push((outcome, vec![name(*place)])),
        }
    }
    let first = groups.first()?.1.first()?.clone();
    let others: Vec<String> =
        groups.iter().map(|(outcome, names)| told_of(*outcome, names)).collect();
    let (chosen, of) = (name(chosen), serving.candidates.len());
    let others = others.join(", ");
    Some(format!(
        "the flow gets {chosen}, one of {of} backends: {others}; `choose backend {first}` asks for that"
    ))
}

fn at(context: &Context<'_>, address: IpAddr) -> String {
    context.party(crate::topology::Party::Address(address))
}

/// The outcome with a backend; `None` where the packet cannot get it, such as one of a flow that has another.
fn with(
    context: &Context<'_>,
    asked: &Asked<'_>,
    place: Place,
    before: &Memory,
) -> Option<Outcome> {
    // Another way may need other sources, or none.
    [asked.choices.sources, Choices::default().sources].into_iter().find_map(|sources| {
        let choices = Choices { backend: Some(place), sources, ..Choices::default() };
        let asked = Asked { choices, ..*asked };
        let said = judge(context.world, context.policies, &mut before.clone(), &asked);
        let is_opinion = said.illegal.is_empty() && said.verdict != Verdict::Undecided;
        is_opinion.then_some((said.verdict, said.reason))
    })
}

/// `with shop/api-1 it would be dropped, policy-denied (133)`.
fn told_of((verdict, reason): Outcome, names: &[String]) -> String {
    let mut whom: Vec<String> = names.iter().take(MOST_NAMED).cloned().collect();
    if let Some(more) = names.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
        whom.push(format!("{more} more"));
    }
    let what = match reason {
        Some(reason) => format!("{verdict}, {reason}"),
        None => verdict.to_string(),
    };
    format!("with {} it would be {what}", whom.join(" or "))
}
