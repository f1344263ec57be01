//! Tests: questions resolved against the world, expectations against policies.

use std::collections::BTreeMap;

use engine::diag::{Diagnostic, Severity};
use engine::policy::{Policy, PolicySet};
use engine::question::{FollowUp, Question};
use engine::source::Span;
use engine::topology::{Party, World};

use super::{Lowering, pick};
use crate::ast::{self, Item, ItemKind, PacketOption, PartyKind, PartyName, Spanned, TestLine};
use crate::codes;
use crate::fmt;
use crate::names::{listed, nearest};
use crate::resolve::{self, Atlas, Directory};
use crate::suite::{
    AtCase, Case, Dialogue, Expectation, Fact, FlowCase, RawQuestion, Step, StepKind, Suite,
};

impl Lowering<'_> {
    /// Lowers every test; lines that cannot be used are reported and left out.
    pub(super) fn suites(&mut self, items: &[&Item], policies: &PolicySet) -> Vec<Suite> {
        // Nothing is declared from here on.
        self.directory = Some(Directory::of(&self.world));
        let known = Known::of(policies, items);
        let mut suites = Vec::new();
        for (test, span) in pick!(items, Test) {
            if !self.declare("test", &test.name.node, test.name.span) {
                continue;
            }
            let name = &test.name.node;
            let mut cases = Vec::new();
            for line in &test.lines {
                cases.extend(match &line.node {
                    TestLine::Flow(flow) => self.flow_case(flow, line.span, &known).map(Case::Flow),
                    TestLine::At(at) => self.at_case(at, line.span, &known).map(Case::At),
                    TestLine::Dialogue(dialogue) => {
                        if !expects_something(dialogue) && !self.may_have_failed("test", name) {
                            self.report(expects_nothing("dialogue", dialogue.name.span));
                        }
                        let known = Known::of(policies, items);
                        Some(Case::Dialogue(self.dialogue(dialogue, line.span, known)))
                    }
                });
            }
            suites.push(Suite { name: test.name.node.clone(), cases, span });
        }
        suites
    }

    fn flow_case(
        &mut self,
        flow: &ast::FlowCase,
        span: Span,
        known: &Known<'_>,
    ) -> Option<FlowCase> {
        let Some(written) = &flow.expectation else {
            self.report(expects_nothing("flow", span));
            return None;
        };
        let question = self.question(&flow.question, None)?;
        let expectation = self.expectation(written, known)?;
        Some(FlowCase { text: self.words(flow.question.span), question, expectation, span })
    }

    fn at_case(&mut self, at: &ast::AtCase, span: Span, known: &Known<'_>) -> Option<AtCase> {
        let Some(written) = &at.expectation else {
            self.report(expects_nothing("packet", span));
            return None;
        };
        let question = self.packet(&at.question)?;
        let expectation = self.expectation(written, known)?;
        Some(AtCase { text: self.words(question.span), question, expectation, span })
    }

    /// A packet at a hook. The node of a device that only tables name is found where it is run.
    fn packet(&mut self, question: &RawQuestion) -> Option<RawQuestion> {
        let checked = resolve::raw(&self.world, question);
        let is_open = question.node.is_none() && question.device.is_some();
        match checked {
            Err(problem) if !(is_open && problem.code == codes::UNKNOWN_NODE) => {
                self.report(problem);
                None
            }
            _ => Some(question.clone()),
        }
    }

    /// The words of a place on one line.
    fn words(&self, span: Span) -> String {
        let words = self.sources.snippet(span).split_whitespace().filter(|w| *w != "\\");
        words.collect::<Vec<_>>().join(" ")
    }

    /// A question; in a dialogue with its latest flow, which `quoting last` is about.
    fn question(&mut self, question: &ast::Question, flow: Option<&Question>) -> Option<Question> {
        let parties = [&question.source, &question.target.party];
        let found = match parties.iter().find_map(|party| self.told_in_brief(party)) {
            Some(problem) => Err(problem),
            None => resolve::opening(self.atlas(), question, flow.map(|f| &f.packet)),
        };
        found.map_err(|problem| self.report_endpoint(problem, &parties)).ok()
    }

    fn atlas(&self) -> Atlas<'_> {
        Atlas::with(&self.world, self.directory.as_ref())
    }

    /// An unknown endpoint, where enough of them had advice.
    fn told_in_brief(&self, party: &PartyName) -> Option<Diagnostic> {
        if self.suggestions > 0 { None } else { resolve::unknown_in_brief(self.atlas(), party) }
    }

    /// Reports a problem with endpoints, unless a broken statement may have declared one of them.
    pub(super) fn report_endpoint(&mut self, problem: Diagnostic, parties: &[&PartyName]) {
        let unknown = problem.code == codes::UNKNOWN_ENDPOINT;
        if unknown {
            self.may_suggest();
        }
        if !(unknown && parties.iter().any(|p| self.party_may_have_failed(p))) {
            self.report(problem);
        }
    }

    fn party_may_have_failed(&self, party: &PartyName) -> bool {
        let (name, kinds): (String, &[&str]) = match &party.kind {
            PartyKind::Bare(q) => (q.to_string(), &["pod", "service", "node", "external", "alias"]),
            PartyKind::Pod(q) => (q.to_string(), &["pod"]),
            PartyKind::Service(q) => (q.to_string(), &["service"]),
            PartyKind::Node(name) | PartyKind::Health(name) => (name.clone(), &["node"]),
            PartyKind::External(name) => (name.clone(), &["external"]),
            PartyKind::Dns(_) => {
                let may_say = |f: &ast::FailedItem| ["external", "include"].contains(&&*f.keyword);
                return self.failed.iter().any(may_say);
            }
            PartyKind::World(_) | PartyKind::Address(_) => return false,
        };
        let short = |failed: &str| failed.rsplit('/').next().is_some_and(|last| last == name);
        let is_lost = |handle: &String| *handle == name || short(handle);
        let is_lost = self.lost.iter().any(is_lost);
        is_lost
            || kinds.iter().any(|kind| self.may_have_failed(kind, &name))
            || self.failed.iter().any(|f| {
                kinds.contains(&f.keyword.as_str()) && f.name.as_deref().is_some_and(short)
            })
    }

    fn dialogue(&mut self, dialogue: &ast::Dialogue, span: Span, mut known: Known<'_>) -> Dialogue {
        let mut flow: Option<Question> = None;
        let mut steps = Vec::new();
        let before = dialogue.steps.iter().any(changes_world).then(|| self.world.clone());
        let mut is_lost = false;
        for step in &dialogue.steps {
            // What continues a flow that was refused is not at fault.
            if is_lost && flow.is_none() && matches!(step.kind, ast::StepKind::FollowUp(_)) {
                continue;
            }
            match self.step(step, &mut flow, &mut known) {
                Some(lowered) => steps.push(lowered),
                None => is_lost |= matches!(step.kind, ast::StepKind::Flow(_)),
            }
        }
        if let Some(world) = before {
            self.enter_world(world);
        }
        Dialogue { name: dialogue.name.node.clone(), steps, span }
    }

    fn step(
        &mut self,
        step: &ast::Step,
        flow: &mut Option<Question>,
        known: &mut Known<'_>,
    ) -> Option<Step> {
        let mut expected = None;
        let kind = match &step.kind {
            ast::StepKind::Flow(case) => {
                expected = case.expectation.as_ref();
                self.flow_step(case, flow)?
            }
            ast::StepKind::At(case) => {
                expected = case.expectation.as_ref();
                StepKind::At(Box::new(self.packet(&case.question)?))
            }
            ast::StepKind::FollowUp(follow) => {
                expected = follow.expectation.as_ref();
                StepKind::FollowUp(self.follow_up(follow, flow.as_ref(), step.span)?)
            }
            ast::StepKind::Wait { amount, unit } => {
                StepKind::Wait(crate::parse::seconds(*amount, *unit))
            }
            ast::StepKind::Policy(policy) => {
                let lowered = self.policy(policy)?;
                known.changed.insert(lowered.handle.clone(), Some(lowered.clone()));
                StepKind::Policy(Box::new(lowered))
            }
            ast::StepKind::RemovePolicy(handle) => {
                let name = handle.node.to_string();
                self.known_policy(&name, None, handle.span, known)?;
                known.changed.insert(name.clone(), None);
                StepKind::RemovePolicy(name)
            }
            ast::StepKind::World(item) => {
                let (kind, name) = item.key();
                self.change_world((kind, &name, item.span), Some(item), flow, known)?
            }
            ast::StepKind::RemoveWorld { kind, name } => {
                let (word, span) = (name.node.to_string(), name.span);
                self.change_world((kind, &word, span), None, flow, known)?
            }
        };
        let expectation = match expected {
            Some(written) => Some(self.expectation(written, known)?),
            None => None,
        };
        let text = match &step.kind {
            ast::StepKind::World(_) => fmt::step(step),
            _ => self.words(written(step)),
        };
        Some(Step { kind, text, expectation, span: step.span })
    }

    /// The world with a statement in place of the one of that name, or (`None`) without that one.
    fn change_world(
        &mut self,
        (kind, name, span): (&'static str, &str, Span),
        statement: Option<&Item>,
        flow: &mut Option<Question>,
        known: &mut Known<'_>,
    ) -> Option<StepKind> {
        let at = known.items.iter().position(|item| item.key() == (kind, name.to_owned()));
        match (at, statement) {
            (Some(at), Some(item)) => known.items[at] = item.clone(),
            (Some(at), None) => drop(known.items.remove(at)),
            (None, Some(item)) => known.items.push(item.clone()),
            (None, None) => {
                let all = known.items.iter().map(Item::key).filter(|(of, _)| *of == kind);
                let all: Vec<String> = all.map(|(_, name)| name).collect();
                self.unknown(codes::UNKNOWN_ENDPOINT, kind, name, span, &all);
                return None;
            }
        }
        let items: Vec<&Item> = known.items.iter().collect();
        let mut changed = Lowering {
            sources: self.sources,
            world: World::default(),
            diagnostics: Vec::new(),
            declared: BTreeMap::new(),
            lost: Vec::new(),
            suggestions: self.suggestions,
            failed: self.failed.clone(),
            directory: None,
            partial: self.partial,
        };
        changed.world(&items);
        let fresh = changed.diagnostics.into_iter().filter(|d| !self.diagnostics.contains(d));
        let fresh: Vec<Diagnostic> = fresh.collect();
        let is_wrong = fresh.iter().any(|d| d.severity == Severity::Error);
        self.diagnostics.extend(fresh);
        if is_wrong {
            return None;
        }
        if let Some(flow) = flow {
            let (earlier, now) = (&self.world, &changed.world);
            let again =
                |party, address| now.again(party, earlier).unwrap_or(Party::Address(address));
            flow.source = again(flow.source, flow.packet.ip.source);
            flow.destination = again(flow.destination, flow.packet.ip.destination);
        }
        self.enter_world(changed.world.clone());
        Some(StepKind::World(Box::new(changed.world)))
    }

    /// Names are of this world from here on.
    fn enter_world(&mut self, world: World) {
        self.directory = Some(Directory::of(&world));
        self.world = world;
    }

    fn flow_step(&mut self, case: &ast::FlowCase, flow: &mut Option<Question>) -> Option<StepKind> {
        let question = self.question(&case.question, flow.as_ref())?;
        *flow = Some(question.clone());
        let quote_last = case.question.options.iter().any(|o| o.node == PacketOption::QuotingLast);
        Some(StepKind::Flow { question, quote_last })
    }

    fn follow_up(
        &mut self,
        follow: &ast::FollowUp,
        flow: Option<&Question>,
        span: Span,
    ) -> Option<FollowUp> {
        let Some(flow) = flow else {
            let message = "no flow was begun that this step could continue";
            self.report(
                Diagnostic::error(codes::ORPHAN_STEP, message, span)
                    .help("begin with a question, such as `web/client -> web/echo-0:80/tcp syn`"),
            );
            return None;
        };
        match resolve::follow_up(follow, flow, span) {
            Ok(lowered) => Some(lowered),
            Err(problem) => {
                self.report(problem);
                None
            }
        }
    }

    fn expectation(
        &mut self,
        written: &ast::Expectation,
        known: &Known<'_>,
    ) -> Option<Expectation> {
        let place = match &written.place {
            Some(place) => {
                let of = match &place.of {
                    Some(party) => match resolve::party_in(self.atlas(), party) {
                        Ok(resolved) => Some(resolved),
                        Err(problem) => {
                            self.report_endpoint(problem, &[party]);
                            return None;
                        }
                    },
                    None => None,
                };
                Some((place.direction, of))
            }
            None => None,
        };
        let facts = written
            .facts
            .iter()
            .map(|fact| Some((self.fact(fact, known)?, fact.span)))
            .collect::<Option<_>>()?;
        let reason = written.reason.as_ref().map(|r| r.node);
        Some(Expectation {
            verdict: written.verdict.node,
            reason,
            place,
            facts,
            span: written.span,
        })
    }

    fn fact(&mut self, fact: &Spanned<ast::Fact>, known: &Known<'_>) -> Option<Fact> {
        Some(match &fact.node {
            ast::Fact::By { policy, rule } => {
                let policy = policy.to_string();
                self.known_policy(&policy, rule.as_deref(), fact.span, known)?;
                Fact::By { policy, rule: rule.clone() }
            }
            ast::Fact::Implied(implied) => Fact::Implied(*implied),
            ast::Fact::Tunneled(Some(node)) => Fact::Tunneled(Some(self.node_named(node)?)),
            ast::Fact::Tunneled(None) => Fact::Tunneled(None),
            ast::Fact::NotTunneled => Fact::NotTunneled,
            ast::Fact::Conntrack(state) => Fact::Conntrack(*state),
            ast::Fact::Identity(number) => Fact::Identity(*number),
            ast::Fact::Leg(direction, outcome) => Fact::Leg(*direction, *outcome),
            ast::Fact::Reply(verdict) => Fact::Reply(*verdict),
            ast::Fact::Ttl(ttl) => Fact::Ttl(*ttl),
            ast::Fact::Backend { pod, port } => match resolve::party_in(self.atlas(), pod) {
                Ok(Party::Pod(id)) => Fact::Backend { pod: id, port: *port },
                Ok(_) => return None,
                Err(problem) => {
                    self.report_endpoint(problem, &[pod]);
                    return None;
                }
            },
            ast::Fact::NoBackend => Fact::NoBackend,
            ast::Fact::Snat(address) => Fact::Snat(*address),
            ast::Fact::NotSnat => Fact::NotSnat,
            ast::Fact::Arrives(arrival) => Fact::Arrives(*arrival),
            ast::Fact::Encrypted => Fact::Encrypted,
            ast::Fact::NotEncrypted => Fact::NotEncrypted,
        })
    }

    /// Whether a policy, and a rule of it, exists; reports it if not.
    fn known_policy(
        &mut self,
        policy: &str,
        rule: Option<&str>,
        span: Span,
        known: &Known<'_>,
    ) -> Option<()> {
        let found = known.find(policy);
        let (what, word) = match (found, rule) {
            (Some(found), Some(rule)) if found.rules.iter().all(|r| r.name != rule) => {
                ("rule", rule)
            }
            (Some(_), _) => return Some(()),
            (None, _) => ("policy", policy),
        };
        if self.may_have_failed("policy", policy) {
            return None;
        }
        let message = if what == "rule" {
            format!("policy {policy} has no rule `{word}`")
        } else {
            format!("no policy has the handle `{word}`")
        };
        let diagnostic = Diagnostic::error(codes::UNKNOWN_POLICY, message, span);
        if !self.may_suggest() {
            self.report(diagnostic);
            return None;
        }
        let names: Vec<&str> = match found {
            Some(found) => found.rules.iter().map(|r| r.name.as_str()).collect(),
            None => known.handles().collect(),
        };
        self.report(match nearest(word, names.iter().copied()) {
            Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
            None if names.is_empty() => diagnostic,
            None => diagnostic.help(format!("known: {}", listed(names))),
        });
        None
    }
}

/// The policies that a line of a test may name: those of the world, and what a dialogue changed of them.
struct Known<'p> {
    policies: &'p PolicySet,
    /// `None` is one that was removed.
    changed: BTreeMap<String, Option<Policy>>,
    /// What the world is made of, and what a dialogue changed of that.
    items: Vec<Item>,
}

impl<'p> Known<'p> {
    fn of(policies: &'p PolicySet, items: &[&Item]) -> Self {
        let is_world =
            |item: &&&Item| !matches!(item.kind, ItemKind::Policy(_) | ItemKind::Test(_));
        let items = items.iter().filter(is_world).map(|item| (*item).clone()).collect();
        Self { policies, changed: BTreeMap::new(), items }
    }

    fn find(&self, handle: &str) -> Option<&Policy> {
        match self.changed.get(handle) {
            Some(changed) => changed.as_ref(),
            None => self.policies.find(handle),
        }
    }

    fn handles(&self) -> impl Iterator<Item = &str> {
        let unchanged = self.policies.iter().map(|(_, policy)| policy.handle.as_str());
        let unchanged = unchanged.filter(|handle| !self.changed.contains_key(*handle));
        let changed = self.changed.iter().filter(|(_, policy)| policy.is_some());
        unchanged.chain(changed.map(|(handle, _)| handle.as_str()))
    }
}

/// Whether the world is another one behind a step.
fn changes_world(step: &ast::Step) -> bool {
    matches!(step.kind, ast::StepKind::World(_) | ast::StepKind::RemoveWorld { .. })
}

/// Whether a packet of the dialogue has something to come out.
fn expects_something(dialogue: &ast::Dialogue) -> bool {
    dialogue.steps.iter().any(|step| match &step.kind {
        ast::StepKind::Flow(case) => case.expectation.is_some(),
        ast::StepKind::At(case) => case.expectation.is_some(),
        ast::StepKind::FollowUp(follow) => follow.expectation.is_some(),
        _ => false,
    })
}

fn expects_nothing(what: &str, span: Span) -> Diagnostic {
    Diagnostic::error(codes::NO_EXPECTATION, format!("this {what} expects nothing"), span)
        .help("add `=> allowed` or `=> dropped`")
}

/// What a step says before its expectation.
fn written(step: &ast::Step) -> Span {
    match &step.kind {
        ast::StepKind::Flow(case) => case.question.span,
        ast::StepKind::At(case) => case.question.span,
        ast::StepKind::FollowUp(follow) => {
            let end = follow.options.last().map_or_else(
                || step.span.start + if follow.reply { 5 } else { 4 },
                |option| option.span.end,
            );
            Span { end, ..step.span }
        }
        ast::StepKind::Policy(policy) => policy.head,
        ast::StepKind::Wait { .. }
        | ast::StepKind::RemovePolicy(_)
        | ast::StepKind::World(_)
        | ast::StepKind::RemoveWorld { .. } => step.span,
    }
}
