//! Policy blocks: the head, then line by line.

use engine::net::Protocol;
use engine::policy::{Operator, Requirement, Selector};

use super::value::{self, Sink, prefix, unsupported};
use super::world::label_value;
use super::{Chunk, Reader, Rule, Tree, errors};
use crate::ast::{
    Name, Peer, PeerClause, Policy, PolicyLine, Rule as AstRule, RulePort, Scope, Spanned,
};

impl Reader<'_> {
    /// Reads a policy block. Lines that cannot be read are left out and mark the policy as partly read.
    pub(super) fn policy(&mut self, chunk: &Chunk) -> Option<Policy> {
        let (open, close) = self.block(chunk, Rule::policy_head)?;
        let head = self.grammar(Rule::policy_head, chunk.range.start..open)?;
        if let Some(tier) = head.child(Rule::tier_clause) {
            self.diagnostics.push(unsupported("a tier or priority", tier.span()));
        }
        let mut lines = Vec::new();
        for line in self.outline.lines(open + 1..close) {
            match self.policy_line(&line) {
                Some(read) => lines.extend(read),
                None => self.partly = true,
            }
        }
        Some(Policy {
            clusterwide: head.has(Rule::k_clusterwide),
            handle: value::qualified(&head.child(Rule::qualified)?),
            head: head.span(),
            lines,
            span: self.span(&chunk.range),
        })
    }

    /// The outermost braces of a block. Without any, the head's own error says what is missing; with text
    /// behind them, that text is the error.
    pub(super) fn block(&mut self, chunk: &Chunk, head: Rule) -> Option<(usize, usize)> {
        let Some((open, close)) = chunk.braces else {
            if self.grammar(head, chunk.range.clone()).is_some() {
                let span = self.span(&(chunk.range.end - 1..chunk.range.end));
                let message = "this block has no body, expected `{`";
                self.diagnostics.push(engine::diag::Diagnostic::error(
                    crate::codes::SYNTAX,
                    message,
                    span,
                ));
            }
            return None;
        };
        if close + 1 < chunk.range.end {
            let behind = self.text(&(close + 1..chunk.range.end)).trim_start();
            let start = chunk.range.end - behind.len();
            let diagnostic = errors::behind_block(behind, head, |r| {
                self.span(&(start + r.start..start + r.end))
            });
            self.diagnostics.push(diagnostic);
            return None;
        }
        Some((open, close))
    }

    fn policy_line(&mut self, line: &Chunk) -> Option<Vec<Spanned<PolicyLine>>> {
        let tree = self.grammar(Rule::policy_line, line.range.clone())?;
        let sink = &mut self.diagnostics;
        let mut read = Vec::new();
        for part in tree.children() {
            match part.rule() {
                Rule::policy_field => read.extend(policy_field(&part.only()?, sink)?),
                Rule::policy_rule => read.push(part.at(PolicyLine::Rule(rule(&part, sink)?))),
                _ => {}
            }
        }
        Some(read)
    }
}

/// `None`: wrong. `Some(None)`: reported as not supported and left out without spoiling the policy.
#[expect(clippy::option_option, reason = "wrong and left out are different")]
fn policy_field(field: &Tree<'_>, sink: Sink<'_>) -> Option<Option<Spanned<PolicyLine>>> {
    let line = match field.rule() {
        Rule::owner => PolicyLine::Owner(value::string_in(field)?),
        Rule::because => PolicyLine::Because(value::string_in(field)?),
        Rule::select if field.has(Rule::k_nodes) => PolicyLine::SelectNodes(selector_in(field)?),
        Rule::select => PolicyLine::Select {
            selector: selector_in(field)?,
            scope: scope_in(field)?,
            pods: field.has(Rule::k_pods),
        },
        Rule::default_deny => {
            let written = field.all(Rule::direction);
            PolicyLine::DefaultDeny(written.map(|d| d.at(value::direction(&d))).collect())
        }
        _ => {
            let word = super::first_word(field.text());
            sink.push(unsupported(&format!("`{word}`"), field.span()));
            return Some(None);
        }
    };
    Some(Some(field.at(line)))
}

/// `pods` without labels is every pod.
fn selector_in(tree: &Tree<'_>) -> Option<Selector> {
    match tree.child(Rule::selector) {
        Some(labels) => selector(&labels),
        None => Some(Selector::default()),
    }
}

pub(super) fn selector(tree: &Tree<'_>) -> Option<Selector> {
    let requirements =
        tree.all(Rule::requirement).map(|r| requirement(&r)).collect::<Option<_>>()?;
    Some(Selector { requirements })
}

fn requirement(tree: &Tree<'_>) -> Option<Requirement> {
    let key = tree.child(Rule::label_key)?.text().to_owned();
    let operator = match tree.child(Rule::condition) {
        _ if tree.has(Rule::bang) => Operator::NotExists,
        None => Operator::Exists,
        Some(condition) => operator(&condition)?,
    };
    Some(Requirement { key, operator, span: tree.span() })
}

fn operator(condition: &Tree<'_>) -> Option<Operator> {
    if let Some(list) = condition.child(Rule::value_list) {
        let values: Option<Vec<String>> =
            list.all(Rule::label_value).map(|v| Some(label_value(&v)?.node)).collect();
        let negated = condition.has(Rule::k_not) || condition.has(Rule::k_notin);
        return Some(if negated { Operator::NotIn(values?) } else { Operator::In(values?) });
    }
    let value = label_value(&condition.child(Rule::label_value)?)?.node;
    let negated = condition.has(Rule::inequality);
    Some(if negated { Operator::NotEquals(value) } else { Operator::Equals(value) })
}

/// `Some(None)` where no scope is written.
#[expect(clippy::option_option, reason = "absent and wrong are different")]
fn scope_in(tree: &Tree<'_>) -> Option<Option<Spanned<Scope>>> {
    match tree.child(Rule::scope) {
        Some(scope) => Some(Some(read_scope(&scope)?)),
        None => Some(None),
    }
}

fn read_scope(tree: &Tree<'_>) -> Option<Spanned<Scope>> {
    let scope = if tree.has(Rule::k_any) {
        Scope::Any
    } else if let Some(labels) = tree.child(Rule::selector) {
        Scope::Matching(selector(&labels)?)
    } else {
        Scope::Named(tree.child(Rule::name)?.name())
    };
    Some(tree.at(scope))
}

fn rule(tree: &Tree<'_>, sink: Sink<'_>) -> Option<AstRule> {
    let action = tree.child(Rule::action)?;
    if action.has(Rule::k_pass) {
        sink.push(unsupported("`pass`", action.span()));
        return None;
    }
    let mut notes = Notes::default();
    for note in tree.all(Rule::rule_note) {
        notes.read(&note.only()?, sink)?;
    }
    Some(AstRule {
        deny: action.has(Rule::k_deny),
        direction: value::direction(&tree.child(Rule::direction)?),
        name: tree.child(Rule::rule_name).and_then(|n| Some(n.child(Rule::name)?.name())),
        peers: match tree.child(Rule::peers) {
            Some(clause) => Some(peers(&clause, sink)?),
            None => None,
        },
        ports: match tree.child(Rule::ports) {
            Some(clause) => Some(ports(&clause, sink)?),
            None => None,
        },
        owner: notes.owner,
        because: notes.because,
    })
}

/// What is said about a rule beside its conditions.
#[derive(Default)]
struct Notes {
    owner: Option<Name>,
    because: Option<Name>,
}

impl Notes {
    fn read(&mut self, note: &Tree<'_>, sink: Sink<'_>) -> Option<()> {
        let slot = match note.rule() {
            Rule::owner => &mut self.owner,
            Rule::because => &mut self.because,
            _ => {
                let word = super::first_word(note.text());
                sink.push(unsupported(&format!("`{word}`"), note.span()));
                return None;
            }
        };
        let text = value::string_in(note)?;
        if let Some(first) = slot {
            let word = super::first_word(note.text());
            sink.push(crate::codes::twice(&format!("`{word}`"), note.span(), first.span));
            return None;
        }
        *slot = Some(text);
        Some(())
    }
}

fn peers(clause: &Tree<'_>, sink: Sink<'_>) -> Option<Spanned<PeerClause>> {
    let peers = clause.all(Rule::peer).map(|p| peer(&p.only()?, sink)).collect::<Option<_>>()?;
    Some(clause.at(PeerClause { from: clause.has(Rule::k_from), peers }))
}

fn peer(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Spanned<Peer>> {
    let peer = match tree.rule() {
        Rule::pods_peer => Peer::Pods { selector: selector_in(tree)?, scope: scope_in(tree)? },
        Rule::cidr_peer => Peer::Cidr {
            net: prefix(&tree.child(Rule::cidr)?, sink)?,
            except: match tree.child(Rule::excepts) {
                Some(list) => {
                    list.all(Rule::cidr).map(|c| prefix(&c, sink)).collect::<Option<_>>()?
                }
                None => Vec::new(),
            },
        },
        Rule::service_peer => Peer::Service(value::qualified(&tree.child(Rule::qualified)?)),
        Rule::dns_peer => Peer::Dns(tree.all(Rule::string).map(|s| value::string(&s)).collect()),
        Rule::entities_peer => Peer::Entities(tree.all(Rule::name).map(|n| n.name()).collect()),
        _ => {
            let word = super::first_word(tree.text());
            sink.push(unsupported(&format!("a `{word}` peer"), tree.span()));
            return None;
        }
    };
    Some(tree.at(peer))
}

fn ports(clause: &Tree<'_>, sink: Sink<'_>) -> Option<Vec<Spanned<RulePort>>> {
    clause.all(Rule::rule_port).map(|p| rule_port(&p, sink)).collect()
}

fn rule_port(tree: &Tree<'_>, sink: Sink<'_>) -> Option<Spanned<RulePort>> {
    if let Some(block) = tree.child(Rule::block) {
        let word = super::first_word(block.text().get(1..).unwrap_or(""));
        let what = if word.is_empty() {
            "an L7 block".to_owned()
        } else {
            format!("an L7 `{word}` block")
        };
        let refused = unsupported(&what, block.span());
        sink.push(match word {
            "dns" => refused.help(
                "`to dns` needs no such block here: an `external` says which names were asked for",
            ),
            _ => refused,
        });
        return None;
    }
    let port = tree.only()?;
    let read = match port.rule() {
        Rule::icmp_port => RulePort::Icmp {
            family: icmp_family(&port),
            message: port.child(Rule::icmp_type).map(|t| t.name()),
        },
        Rule::whole_port => {
            let word = port.child(Rule::transport)?;
            RulePort::Whole(value::protocol(word.text(), word.span(), sink)??)
        }
        Rule::numbered_port => numbered(&port, sink)?,
        _ => {
            let (name, protocol) = with_protocol(&port, sink)?;
            RulePort::Named { name: name.to_owned(), protocol }
        }
    };
    Some(port.at(read))
}

pub(super) fn icmp_family(tree: &Tree<'_>) -> Protocol {
    if tree.has(Rule::k_icmpv6) { Protocol::Icmpv6 } else { Protocol::Icmp }
}

/// The part before `/`, and the protocol behind it.
fn with_protocol<'i>(tree: &Tree<'i>, sink: Sink<'_>) -> Option<(&'i str, Option<Protocol>)> {
    let text = tree.text();
    let Some((before, word)) = text.split_once('/') else { return Some((text, None)) };
    let span = value::tail(tree.span(), before.len() + 1);
    Some((before, value::protocol(word, span, sink)?))
}

fn numbered(tree: &Tree<'_>, sink: Sink<'_>) -> Option<RulePort> {
    let (range, protocol) = with_protocol(tree, sink)?;
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (Ok(low), Ok(high)) = (first.parse::<u16>(), last.parse::<u16>()) else {
        let is_first = first.parse::<u16>().is_err();
        let (wrong, from) = if is_first { (first, 0) } else { (last, first.len() + 1) };
        let span = value::part(tree.span(), from, wrong.len());
        sink.push(value::out_of_range(wrong, "a port", 65_535, span));
        return None;
    };
    Some(RulePort::Numbers { first: low, last: high, protocol })
}
