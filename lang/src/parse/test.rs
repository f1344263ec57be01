//! Test blocks: flows, dialogues, steps and expectations, line by line.

use engine::diag::Diagnostic;
use engine::net::Direction;
use engine::reason::DropReason;
use engine::source::Span;
use engine::trace::CtState;
use engine::verdict::{Implied, LegOutcome, Verdict};

use super::value::{self, Sink, number, unsupported};
use super::{Chunk, Reader, Rule, Tree, first_word, question, raw, world};
use crate::ast::{
    Arrival, AtCase, Dialogue, Expectation, Fact, FlowCase, FollowUp, Item, Name, PartyKind,
    PartyName, Place, RawQuestion, Reason, Spanned, Step, StepKind, Test, TestLine,
};
use crate::codes;
use crate::names::nearest;

impl Reader<'_> {
    /// Reads a test block. Lines that cannot be read are left out.
    pub(super) fn test(&mut self, chunk: &Chunk) -> Option<Test> {
        let (open, close) = self.block(chunk, Rule::test_head)?;
        let head = self.grammar(Rule::test_head, chunk.range.start..open)?;
        let name = value::string_in(&head)?;
        let mut lines = Vec::new();
        for line in self.outline.lines(open + 1..close) {
            if let Some(read) = self.test_line(&line) {
                lines.push(Spanned { node: read, span: self.span(&line.range) });
            }
        }
        Some(Test { name, lines })
    }

    fn test_line(&mut self, line: &Chunk) -> Option<TestLine> {
        match first_word(self.text(&line.range)) {
            "dialogue" => self.dialogue(line).map(TestLine::Dialogue),
            word @ ("never" | "always" | "verify") => {
                let span = self.span(&(line.range.start..line.range.start + word.len()));
                self.diagnostics.push(unsupported(&format!("`{word}`"), span));
                None
            }
            "at" if is_at_hook(self.text(&line.range)) => self.at_hook(line).map(TestLine::At),
            _ => {
                self.check_word(line, &["dialogue"])?;
                let tree = self.grammar(Rule::flow_line, line.range.clone())?;
                flow(&tree.child(Rule::flow)?, &mut self.diagnostics).map(TestLine::Flow)
            }
        }
    }

    /// A packet at a hook.
    fn at_hook(&mut self, line: &Chunk) -> Option<AtCase> {
        let tree = self.grammar(Rule::at_line, line.range.clone())?;
        let sink = &mut self.diagnostics;
        let read = raw::read(&tree, sink)?;
        // Without what is expected.
        let span = tree.child(Rule::raw_at)?.span().to(read.source.span);
        let question = RawQuestion { span, ..read };
        Some(AtCase { question, expectation: expectation_in(&tree, sink)? })
    }

    /// Reports a first word that is nearly one of these, where the line is not a flow.
    fn check_word(&mut self, line: &Chunk, words: &[&str]) -> Option<()> {
        let text = self.text(&line.range);
        let word = first_word(text);
        if text.contains("->") || words.contains(&word) {
            return Some(());
        }
        let Some(near) = nearest(word, words.iter().copied()) else { return Some(()) };
        let span = self.span(&(line.range.start..line.range.start + word.len()));
        let message = format!("no line of a test begins with `{word}`");
        self.diagnostics.push(Diagnostic::error(codes::SYNTAX, message, span).fix(
            format!("did you mean `{near}`?"),
            span,
            near,
        ));
        None
    }

    fn dialogue(&mut self, chunk: &Chunk) -> Option<Dialogue> {
        let (open, close) = self.block(chunk, Rule::dialogue_head)?;
        let head = self.grammar(Rule::dialogue_head, chunk.range.start..open)?;
        let name = value::string_in(&head)?;
        let mut steps = Vec::new();
        for line in self.outline.lines(open + 1..close) {
            match self.step(&line) {
                Some(kind) => steps.push(Step { kind, span: self.span(&line.range) }),
                None => self.partly = true,
            }
        }
        Some(Dialogue { name, steps })
    }

    fn step(&mut self, line: &Chunk) -> Option<StepKind> {
        if matches!(first_word(self.text(&line.range)), "policy" | "clusterwide") {
            return self.policy(line).map(StepKind::Policy);
        }
        let (text, word) = (self.text(&line.range), first_word(self.text(&line.range)));
        if word == "at" && is_at_hook(text) {
            return self.at_hook(line).map(StepKind::At);
        }
        if matches!(word, "pod" | "service") && !text.contains("->") {
            let kind = self.world(word, line)?;
            let span = self.span(&line.range);
            return Some(StepKind::World(Box::new(Item { kind, span })));
        }
        self.check_word(line, &["reply", "send", "wait", "remove", "policy", "clusterwide"])?;
        let tree = self.grammar(Rule::step_line, line.range.clone())?;
        let step = tree.only()?;
        let sink = &mut self.diagnostics;
        match step.rule() {
            Rule::wait => wait(&step, sink),
            Rule::remove_policy => {
                Some(StepKind::RemovePolicy(value::qualified(&step.child(Rule::qualified)?)))
            }
            Rule::remove_world => {
                let kind = if step.has(Rule::k_pod) { "pod" } else { "service" };
                let name = value::qualified(&step.child(Rule::qualified)?);
                Some(StepKind::RemoveWorld { kind, name })
            }
            Rule::follow_up => follow_up(&step, sink).map(StepKind::FollowUp),
            _ => flow(&step, sink).map(StepKind::Flow),
        }
    }
}

/// Whether a line that begins with `at` is about a packet at a hook; a party may have that name too.
pub(super) fn is_at_hook(line: &str) -> bool {
    !line.split("=>").next().unwrap_or_default().contains("->")
}

fn wait(tree: &Tree<'_>, sink: Sink<'_>) -> Option<StepKind> {
    let (amount, unit) = value::duration(&tree.child(Rule::duration)?, sink)?;
    Some(StepKind::Wait { amount, unit })
}

fn flow(tree: &Tree<'_>, sink: Sink<'_>) -> Option<FlowCase> {
    let question = question::read(&tree.child(Rule::question)?, sink)?;
    Some(FlowCase { question, expectation: expectation_in(tree, sink)? })
}

fn follow_up(tree: &Tree<'_>, sink: Sink<'_>) -> Option<FollowUp> {
    Some(FollowUp {
        reply: tree.has(Rule::k_reply),
        options: question::options(tree, sink)?,
        expectation: expectation_in(tree, sink)?,
    })
}

/// `Some(None)` where none is written.
#[expect(clippy::option_option, reason = "absent and wrong are different")]
fn expectation_in(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Option<Expectation>> {
    match tree.child(Rule::expectation) {
        Some(written) => Some(Some(expectation(&written, sink)?)),
        None => Some(None),
    }
}

fn expectation(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Expectation> {
    let verdict = tree.child(Rule::verdict)?;
    let verdict = verdict.at(read_verdict(&verdict, sink)?);
    let reason = match tree.child(Rule::reason) {
        Some(written) => Some(written.at(reason(&written, verdict.node, sink)?)),
        None => None,
    };
    let place = match tree.child(Rule::place) {
        Some(written) => Some(place(&written, sink)?),
        None => None,
    };
    let mut facts = Vec::new();
    for written in tree.all(Rule::decided_by) {
        facts.push(written.at(decided_by(&written)?));
    }
    for written in tree.all(Rule::fact) {
        let kind = written.only()?;
        facts.push(kind.at(fact(&kind, sink)?));
    }
    Some(Expectation { verdict, reason, place, facts, span: tree.span() })
}

fn read_verdict(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Verdict> {
    Some(match tree.only()?.rule() {
        Rule::k_allowed => Verdict::Allowed,
        Rule::k_dropped => Verdict::Dropped,
        Rule::k_undecided => Verdict::Undecided,
        _ => {
            sink.push(unsupported("`rejected`", tree.span()));
            return None;
        }
    })
}

/// The words for what a direction came to, that may follow `dropped`.
pub(crate) const OUTCOMES: [(&str, LegOutcome); 2] =
    [("default-deny", LegOutcome::DefaultDeny), ("denied", LegOutcome::Deny)];

fn reason(tree: &Tree<'_>, verdict: Verdict, sink: Sink<'_>) -> Option<Reason> {
    let word = tree.text();
    if verdict != Verdict::Dropped {
        let message = format!("`{word}` cannot follow `{verdict}`");
        sink.push(
            Diagnostic::error(codes::UNKNOWN_REASON, message, tree.span())
                .help("only `dropped` has a reason; other facts follow a comma"),
        );
        return None;
    }
    let outcome = OUTCOMES.iter().find(|(name, _)| *name == word).map(|(_, o)| Reason::Outcome(*o));
    let drop = || {
        let mut all = DropReason::ALL.iter();
        all.find(|r| r.name() == word || r.code().to_string() == word).map(|r| Reason::Drop(*r))
    };
    let found = outcome.or_else(drop);
    if found.is_none() {
        let names =
            DropReason::ALL.iter().map(|r| r.name()).chain(OUTCOMES.iter().map(|(n, _)| *n));
        let diagnostic = unknown(word, "a drop reason", tree.span());
        sink.push(suggest(diagnostic, word, tree.span(), names));
    }
    found
}

fn unknown(word: &str, what: &str, span: Span) -> Diagnostic {
    Diagnostic::error(codes::UNKNOWN_REASON, format!("`{word}` is not {what}"), span)
}

/// Adds the nearest of some words, or all of them where none is near.
fn suggest<'n>(
    diagnostic: Diagnostic,
    word: &str,
    span: Span,
    words: impl Iterator<Item = &'n str> + Clone,
) -> Diagnostic {
    match nearest(word, words.clone()) {
        Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), span, near),
        None => diagnostic.help(format!("known: {}", words.collect::<Vec<_>>().join(", "))),
    }
}

fn place(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Place> {
    let of = match tree.child(Rule::place_of) {
        Some(written) => Some(question::party(&written.child(Rule::party)?, sink)?),
        None => None,
    };
    Some(Place {
        direction: value::direction(&tree.child(Rule::direction)?),
        of,
        span: tree.span(),
    })
}

fn decided_by(tree: &Tree<'_>) -> Option<Fact> {
    let handle = tree.child(Rule::handle)?;
    let (policy, rule) = match handle.text().split_once('#') {
        Some((policy, rule)) => (policy, Some(rule.to_owned())),
        None => (handle.text(), None),
    };
    Some(Fact::By { policy: value::qualify(policy), rule })
}

/// The words of conntrack's states.
pub(super) const STATES: [CtState; 4] =
    [CtState::New, CtState::Established, CtState::Reply, CtState::Related];
pub(super) const IMPLIED: [Implied; 3] =
    [Implied::DefaultDeny, Implied::NotIsolated, Implied::LocalHost];
pub(super) const LEGS: [LegOutcome; 7] = [
    LegOutcome::Allow,
    LegOutcome::NotIsolated,
    LegOutcome::Deny,
    LegOutcome::DefaultDeny,
    LegOutcome::Reply,
    LegOutcome::Related,
    LegOutcome::NotReached,
];

fn fact(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Fact> {
    let name = || tree.child(Rule::name).map(|n| n.name());
    Some(match tree.rule() {
        Rule::k_tunneled => Fact::Tunneled(None),
        Rule::tunneled_to => Fact::Tunneled(Some(name()?)),
        Rule::not_fact => match tree.children().last()?.rule() {
            Rule::k_snat => Fact::NotSnat,
            Rule::k_encrypted => Fact::NotEncrypted,
            _ => Fact::NotTunneled,
        },
        Rule::k_encrypted => Fact::Encrypted,
        Rule::backend_fact => backend(tree, sink)?,
        Rule::snat_fact => Fact::Snat(world::address_in(tree, sink)?.node),
        Rule::arrives_fact => arrives(tree, sink)?,
        Rule::conntrack_fact => Fact::Conntrack(state(&name()?, sink)?),
        Rule::implied => Fact::Implied(implied(&name()?, sink)?),
        Rule::identity_fact => {
            let most = u64::from(u32::MAX);
            Fact::Identity(number(&tree.child(Rule::number)?, "an identity", most, sink)?)
        }
        Rule::leg => {
            let direction: Direction = value::direction(&tree.child(Rule::direction)?);
            Fact::Leg(direction, one_of(&name()?, "the outcome of a direction", &LEGS, sink)?)
        }
        Rule::reply_fact => Fact::Reply(read_verdict(&tree.child(Rule::verdict)?, sink)?),
        Rule::ttl => Fact::Ttl(number(&tree.child(Rule::number)?, "a TTL", 255, sink)?),
        Rule::decided_by => decided_by(tree)?,
        _ => {
            let word = first_word(tree.text());
            sink.push(unsupported(&format!("`{word}` in an expectation"), tree.span()));
            return None;
        }
    })
}

/// A state that an answer may show.
fn state(word: &Name, sink: Sink<'_>) -> Option<CtState> {
    if word.node != CtState::Untracked.to_string() {
        return one_of(word, "a conntrack state", &STATES, sink);
    }
    let message = "no packet is judged as `untracked`";
    sink.push(
        Diagnostic::error(codes::UNKNOWN_REASON, message, word.span)
            .note("conntrack is not asked about a later fragment whose first one was not seen: it is dropped before")
            .help("`=> dropped fragment-not-found` expects that"),
    );
    None
}

fn backend(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Fact> {
    let Some(written) = tree.child(Rule::qualified) else { return Some(Fact::NoBackend) };
    let pod =
        PartyName { kind: PartyKind::Pod(value::qualified(&written).node), span: written.span() };
    let port = match tree.child(Rule::backend_port) {
        Some(port) => Some(port_behind(&port, sink)?),
        None => None,
    };
    Some(Fact::Backend { pod, port })
}

fn arrives(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Fact> {
    let address = world::address_in(tree, sink)?.node;
    let port = match tree.child(Rule::backend_port) {
        Some(port) => Some(port_behind(&port, sink)?),
        None => None,
    };
    let of_source = tree.child(Rule::k_from).is_some();
    Some(Fact::Arrives(Arrival { of_source, address, port }))
}

/// `:80` behind a name or an address.
fn port_behind(tree: &Tree<'_>, sink: Sink<'_>) -> Option<u16> {
    let digits = tree.text().trim_start_matches(':');
    let parsed = digits.parse().ok();
    if parsed.is_none() {
        let span = value::tail(tree.span(), 1);
        sink.push(value::out_of_range(digits, "a port", 65_535, span));
    }
    parsed
}

/// The value whose word this is.
fn one_of<T: Copy + std::fmt::Display>(
    word: &Name,
    what: &str,
    values: &[T],
    sink: Sink<'_>,
) -> Option<T> {
    let found = values.iter().find(|v| v.to_string() == word.node).copied();
    if found.is_none() {
        let words: Vec<String> = values.iter().map(ToString::to_string).collect();
        let words = words.iter().map(String::as_str);
        sink.push(suggest(unknown(&word.node, what, word.span), &word.node, word.span, words));
    }
    found
}

fn implied(word: &Name, sink: Sink<'_>) -> Option<Implied> {
    let found = IMPLIED.iter().find(|i| i.name() == word.node).copied();
    if found.is_none() {
        let words = IMPLIED.iter().map(|i| i.name());
        let diagnostic = unknown(&word.node, "an implied decision", word.span);
        sink.push(suggest(diagnostic, &word.node, word.span, words));
    }
    found
}
