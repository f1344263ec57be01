//! Policy tables with their provenance: which entries an endpoint's policies come to. Compiles once per
//! distinct set of policies. Owns inheritance between entries; numbers of identities are `identities`'.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::identities::Identities;
use super::limits;
use super::peers::{PeerSet, Resolver};
use super::ports::{Named, Ports, Traffic};
use crate::diag::Diagnostic;
use crate::identity::Identity;
use crate::net::Direction;
use crate::policy::{Action, Policy, PolicyId, PolicySet, RuleId, SubjectKind};
use crate::tables::{EntryId, PolicyEntry, PolicyKey};
use crate::topology::{Endpoint, World};
use crate::verdict::{Implied, Origin};

/// A table and what stands behind its entries, entry 1 first.
#[derive(Clone, Debug)]
pub(super) struct Compiled {
    pub(super) entries: Arc<[PolicyEntry]>,
    pub(super) origins: Arc<[Vec<Origin>]>,
}

/// A rule with its words resolved.
struct Rule {
    id: RuleId,
    direction: Direction,
    action: Action,
    peers: PeerSet,
    ports: Ports,
}

/// What a table depends on: the policies that select the endpoint, by handle, and what its own named ports
/// come to.
type TableKey = (Direction, Vec<PolicyId>, Vec<Named>);

/// Compiles tables on demand.
pub(super) struct Policies<'w> {
    world: &'w World,
    set: &'w PolicySet,
    identities: &'w Identities,
    /// Rules of each policy, in source order.
    rules: Vec<Vec<Rule>>,
    /// Policies that select each class, by id.
    selecting: Vec<Vec<PolicyId>>,
    /// Policies that select each node, by id; none without the host firewall.
    selecting_nodes: Vec<Vec<PolicyId>>,
    known: HashMap<TableKey, Compiled>,
    diagnostics: Vec<Diagnostic>,
}

impl<'w> Policies<'w> {
    /// Resolves subjects and rules of all policies that select anyone.
    pub(super) fn new(world: &'w World, set: &'w PolicySet, identities: &'w Identities) -> Self {
        let mut resolver = Resolver::new(world, identities);
        let mut selecting = vec![Vec::new(); identities.classes.len()];
        let mut selecting_nodes = vec![Vec::new(); world.nodes.len()];
        let mut rules = Vec::with_capacity(set.len());
        for (id, policy) in set.iter() {
            let selected = match policy.subject_kind {
                SubjectKind::Pods => {
                    let spaces = &policy.subject_namespaces;
                    let classes = resolver.classes(policy, &policy.subject, spaces);
                    note(id, &classes, &mut selecting)
                }
                SubjectKind::Nodes => {
                    note(id, &selected_nodes(world, policy), &mut selecting_nodes)
                }
            };
            rules.push(if selected { resolved(&mut resolver, id, policy) } else { Vec::new() });
        }
        let (known, diagnostics) = (HashMap::new(), Vec::new());
        Self { world, set, identities, rules, selecting, selecting_nodes, known, diagnostics }
    }

    /// The policies that select an endpoint, by id.
    fn selecting(&self, endpoint: Endpoint) -> Vec<PolicyId> {
        let selecting = match endpoint {
            Endpoint::Pod(pod) => {
                self.identities.class_of(pod).and_then(|class| self.selecting.get(class as usize))
            }
            Endpoint::Host(node) => self.selecting_nodes.get(node.index()),
            Endpoint::Health(_) => None,
        };
        selecting.cloned().unwrap_or_default()
    }

    /// The table of an endpoint in a direction. No policy selects both pods and nodes, so what is only
    /// implied for pods does not need to be told apart in the key.
    pub(super) fn of(&mut self, endpoint: Endpoint, direction: Direction) -> Compiled {
        let selecting = self.selecting(endpoint);
        let own = self.own_ports(endpoint, direction, &selecting);
        let key = (direction, selecting, own);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let is_host = matches!(endpoint, Endpoint::Host(_));
        let compiled = self.compile(direction, is_host, &key.1, &key.2);
        self.known.insert(key, compiled.clone());
        compiled
    }

    /// The named ports of the pod that rules about its ingress name.
    fn own_ports(
        &self,
        endpoint: Endpoint,
        direction: Direction,
        selecting: &[PolicyId],
    ) -> Vec<Named> {
        let pod = endpoint.pod().and_then(|pod| self.world.pod(pod));
        let Some(pod) = pod.filter(|_| direction == Direction::Ingress) else {
            return Vec::new();
        };
        let mut own: Vec<Named> = Vec::new();
        for (wanted, _) in self.rules_of(selecting, direction).flat_map(|rule| &rule.ports.named) {
            let named = pod.ports.iter().filter(|port| port.name == *wanted);
            own.extend(named.map(|port| (port.name.clone(), port.protocol, port.port)));
        }
        own.sort_unstable();
        own.dedup();
        own
    }

    fn rules_of(&self, policies: &[PolicyId], direction: Direction) -> impl Iterator<Item = &Rule> {
        let rules = policies.iter().filter_map(|id| self.rules.get(id.0 as usize)).flatten();
        rules.filter(move |rule| rule.direction == direction)
    }

    fn compile(
        &mut self,
        direction: Direction,
        is_host: bool,
        selecting: &[PolicyId],
        own: &[Named],
    ) -> Compiled {
        let isolated = selecting
            .iter()
            .filter_map(|id| self.set.get(*id))
            .any(|policy| policy.isolates(direction));
        let mut draft = Draft::new(self.identities);
        for rule in self.rules_of(selecting, direction) {
            draft.add(rule, own);
        }
        match (isolated, direction) {
            (false, _) => draft.imply(Implied::NotIsolated, Identity::ANY),
            (true, Direction::Ingress) if !is_host => {
                draft.imply(Implied::LocalHost, Identity::HOST);
            }
            (true, _) => {}
        }
        let settled = draft.settle();
        let size: usize = settled.iter().map(|(_, lines)| lines.len()).sum();
        if size > limits::POLICY_ENTRIES_PER_TABLE {
            let culprit = draft.goes_over(limits::POLICY_ENTRIES_PER_TABLE);
            let diagnostic = limits::table_too_large(self.set, culprit, direction, size);
            if !self.diagnostics.contains(&diagnostic) {
                self.diagnostics.push(diagnostic);
            }
            return Compiled { entries: Arc::new([]), origins: Arc::new([]) };
        }
        draft.write(&settled)
    }

    /// What went wrong with any table.
    pub(super) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }
}

/// Writes down that a policy selects these; whether there are any.
fn note(policy: PolicyId, chosen: &[u32], selecting: &mut [Vec<PolicyId>]) -> bool {
    for at in chosen {
        if let Some(list) = selecting.get_mut(*at as usize) {
            list.push(policy);
        }
    }
    !chosen.is_empty()
}

/// The nodes that a policy selects by their labels.
fn selected_nodes(world: &World, policy: &Policy) -> Vec<u32> {
    let nodes = world.nodes().filter(|_| world.cluster.host_firewall);
    nodes.filter(|(_, n)| policy.subject.matches(&n.labels)).map(|(id, _)| id.0).collect()
}

/// A policy's rules with their words resolved.
fn resolved(resolver: &mut Resolver<'_>, id: PolicyId, policy: &Policy) -> Vec<Rule> {
    let rules = (0..).zip(&policy.rules).map(|(index, rule)| Rule {
        id: RuleId { policy: id, index },
        direction: rule.direction,
        action: rule.action,
        peers: resolver.peers(policy, rule.peers.as_deref()),
        ports: Ports::of(rule.ports.as_deref()),
    });
    rules.collect()
}

/// A rule's or an implied decision, as far as it concerns one table.
struct Statement {
    origin: Origin,
    deny: bool,
}

/// A prefix of traffic and the statement (by position) that is about it. Sorted, what covers comes first.
type Claim = (Traffic, usize);

/// A line of a table without its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    traffic: Traffic,
    deny: bool,
    /// Positions of the statements behind it, in deciding order.
    statements: Vec<usize>,
}

/// Lines per identity, by identity; identities that the same claims are about share theirs.
type Settled = Vec<(Identity, Arc<[Line]>)>;

/// A table in the making.
struct Draft<'w> {
    identities: &'w Identities,
    /// In deciding order.
    statements: Vec<Statement>,
    /// Claims about anyone and claims about one identity.
    claims: BTreeMap<Identity, Vec<Claim>>,
}

impl<'w> Draft<'w> {
    fn new(identities: &'w Identities) -> Self {
        Self { identities, statements: Vec::new(), claims: BTreeMap::new() }
    }

    /// Adds a rule; rules come in deciding order.
    fn add(&mut self, rule: &Rule, own: &[Named]) {
        let position = self.statements.len();
        let deny = rule.action == Action::Deny;
        self.statements.push(Statement { origin: Origin::Rule(rule.id), deny });
        let mut traffic = rule.ports.fixed.clone();
        match rule.direction {
            Direction::Ingress => traffic.extend(rule.ports.resolved(own)),
            Direction::Egress if rule.ports.named.is_empty() => {}
            Direction::Egress => self.claim_named(position, rule),
        }
        match &rule.peers {
            PeerSet::Anyone => self.claim(Identity::ANY, position, &traffic),
            PeerSet::Some(peers) => {
                for peer in peers {
                    self.claim(*peer, position, &traffic);
                }
            }
        }
    }

    /// A named port is the destination's: each identity of pods has its own answer, others have none.
    fn claim_named(&mut self, position: usize, rule: &Rule) {
        for class in &self.identities.classes {
            let is_peer = match &rule.peers {
                PeerSet::Anyone => true,
                PeerSet::Some(peers) => peers.binary_search(&class.identity).is_ok(),
            };
            if is_peer {
                self.claim(class.identity, position, &rule.ports.resolved(&class.ports));
            }
        }
    }

    fn claim(&mut self, identity: Identity, position: usize, traffic: &[Traffic]) {
        if !traffic.is_empty() {
            let claims = self.claims.entry(identity).or_default();
            claims.extend(traffic.iter().map(|traffic| (*traffic, position)));
        }
    }

    /// Allows everything to or from an identity although no rule says so.
    fn imply(&mut self, implied: Implied, identity: Identity) {
        let position = self.statements.len();
        self.statements.push(Statement { origin: Origin::Implied(implied), deny: false });
        self.claim(identity, position, &[Traffic::EVERYTHING]);
    }

    /// Resolves inheritance for every identity.
    fn settle(&mut self) -> Settled {
        for claims in self.claims.values_mut() {
            claims.sort_unstable();
            claims.dedup();
        }
        let anyone = self.claims.get(&Identity::ANY).map_or(&[][..], Vec::as_slice);
        let mut known: HashMap<&[Claim], Arc<[Line]>> = HashMap::new();
        let mut settled = Vec::with_capacity(self.claims.len());
        for (identity, own) in &self.claims {
            let inherited = if *identity == Identity::ANY { &[][..] } else { anyone };
            let lines = known.entry(own).or_insert_with(|| self.lines(own, inherited).into());
            settled.push((*identity, Arc::clone(lines)));
        }
        settled
    }

    /// One line for each prefix that is claimed. Only the longest prefix of an identity is found by a
    /// look-up, so a line inherits everything that covers it, said of the identity or of anyone: a deny
    /// at any length wins, and whatever allows the whole of the prefix is named.
    fn lines(&self, own: &[Claim], anyone: &[Claim]) -> Vec<Line> {
        let mut all: Vec<(Traffic, bool, usize)> = Vec::with_capacity(own.len() + anyone.len());
        all.extend(anyone.iter().map(|(traffic, position)| (*traffic, false, *position)));
        all.extend(own.iter().map(|(traffic, position)| (*traffic, true, *position)));
        all.sort_unstable();
        let mut lines = Vec::new();
        // What covers the prefix at hand: prefixes come in order, so the ones that do are a stack.
        let mut covering: Vec<(Traffic, usize)> = Vec::new();
        for claims in all.chunk_by(|one, next| one.0 == next.0) {
            let Some((traffic, _, _)) = claims.first().copied() else { continue };
            while covering.last().is_some_and(|(outer, _)| !outer.covers(traffic)) {
                covering.pop();
            }
            covering.extend(claims.iter().map(|(traffic, _, position)| (*traffic, *position)));
            if claims.iter().any(|(_, is_own, _)| *is_own) {
                lines.push(self.line(traffic, &covering));
            }
        }
        lines
    }

    fn line(&self, traffic: Traffic, covering: &[(Traffic, usize)]) -> Line {
        let denies = |position: &usize| self.statements.get(*position).is_some_and(|s| s.deny);
        let deny = covering.iter().any(|(_, position)| denies(position));
        let mut statements: Vec<usize> =
            covering.iter().map(|(_, position)| *position).filter(|p| denies(p) == deny).collect();
        statements.sort_unstable();
        statements.dedup();
        Line { traffic, deny, statements }
    }

    /// The rule, in deciding order, with which the table has more lines than that, and how many it has
    /// before it. Claims are settled: sorted and each there once, so the first about a prefix is that of
    /// the rule that brought its line.
    fn goes_over(&self, most: usize) -> Option<(RuleId, usize)> {
        let mut brought = vec![0_usize; self.statements.len()];
        for claims in self.claims.values() {
            for same in claims.chunk_by(|one, next| one.0 == next.0) {
                if let Some(count) = same.first().and_then(|(_, at)| brought.get_mut(*at)) {
                    *count += 1;
                }
            }
        }
        let (mut total, mut last) = (0, None);
        for (statement, lines) in self.statements.iter().zip(brought) {
            // What is implied is no rule and comes last, with one line: then the rule before it is named.
            if let Origin::Rule(rule) = statement.origin {
                last = Some((rule, total));
            }
            total += lines;
            if total > most {
                break;
            }
        }
        last
    }

    /// Numbers the lines and names what stands behind them.
    fn write(&self, settled: &Settled) -> Compiled {
        let size = settled.iter().map(|(_, lines)| lines.len()).sum();
        let (mut entries, mut origins) = (Vec::with_capacity(size), Vec::with_capacity(size));
        let lines = settled.iter().flat_map(|(id, lines)| lines.iter().map(move |l| (*id, l)));
        for ((identity, line), entry) in lines.zip(1..) {
            let Traffic { protocol, port, bits: port_bits } = line.traffic;
            let key = PolicyKey { identity, protocol, port, port_bits };
            entries.push(PolicyEntry { key, deny: line.deny, entry: EntryId(entry) });
            let behind = line.statements.iter().filter_map(|at| self.statements.get(*at));
            origins.push(behind.map(|statement| statement.origin).collect());
        }
        Compiled { entries: entries.into(), origins: origins.into() }
    }
}
