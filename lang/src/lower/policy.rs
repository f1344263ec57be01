//! Policies: head, subject and isolation. Rules are lowered by `rule`.

use std::collections::BTreeMap;

use engine::diag::Diagnostic;
use engine::net::Direction;
use engine::policy::{Isolation, Namespaces, Policy, Rule, Selector, SubjectKind};
use engine::source::Span;

use super::{Lowering, pick};
use crate::ast::{self, Item, PolicyLine, Scope, Spanned};
use crate::codes;

impl Lowering<'_> {
    /// Lowers every policy; a second one of a handle is reported and left out.
    pub(super) fn policies(&mut self, items: &[&Item]) -> Vec<Policy> {
        let mut policies = Vec::new();
        for (policy, _) in pick!(items, Policy) {
            if self.declare("policy", &policy.handle.node.to_string(), policy.handle.span) {
                policies.extend(self.policy(policy));
            }
        }
        policies
    }

    /// One policy; `None` where its head or subject is wrong. Wrong rules are left out.
    pub(super) fn policy(&mut self, policy: &ast::Policy) -> Option<Policy> {
        let namespace = self.home(policy)?;
        let mut body = Body::default();
        for line in &policy.lines {
            self.policy_line(line, &mut body);
        }
        let Some(select) = body.select else {
            // A line that could not be read may have been the one.
            if self.may_have_failed("policy", &policy.handle.node.to_string()) {
                return None;
            }
            let diagnostic = Diagnostic::error(
                codes::NO_SUBJECT,
                format!("policy `{}` does not say whom it selects", policy.handle.node),
                policy.head,
            );
            self.report(diagnostic.help("add `select { ... }`; `select {}` selects every pod"));
            return None;
        };
        let Subject { kind, selector, scope } = select.node;
        if kind == SubjectKind::Nodes {
            self.check_clusterwide(namespace.as_deref(), select.span)?;
        }
        let subject_namespaces = self.subject_namespaces(namespace.as_deref(), scope)?;
        let rules = self.rules(policy, namespace.as_deref());
        let isolation = |direction| match &body.isolation {
            Some(given) if given.node.is_empty() => Isolation::Never,
            Some(given) if given.node.contains(&direction) => Isolation::Always,
            Some(_) | None => Isolation::ByRules,
        };
        Some(Policy {
            handle: policy.handle.node.to_string(),
            namespace,
            owner: body.owner.map(|o| o.node),
            because: body.because.map(|b| b.node),
            subject_kind: kind,
            subject: selector,
            subject_namespaces,
            egress: isolation(Direction::Egress),
            ingress: isolation(Direction::Ingress),
            rules,
            span: policy.span,
        })
    }

    /// The namespace a policy lives in; `Some(None)` for a clusterwide one.
    #[expect(clippy::option_option, reason = "wrong and clusterwide are different")]
    fn home(&mut self, policy: &ast::Policy) -> Option<Option<String>> {
        let handle = &policy.handle;
        match (&handle.node.namespace, policy.clusterwide) {
            (None, true) => Some(None),
            (Some(namespace), false) => {
                self.check_namespace(namespace, handle.span).then(|| Some(namespace.clone()))
            }
            (None, false) => {
                self.needs_namespace("policy", handle);
                None
            }
            (Some(_), true) => {
                let message = format!("clusterwide policy `{}` lives in no namespace", handle.node);
                let name = handle.node.name.clone();
                self.report(Diagnostic::error(codes::NAMESPACED, message, handle.span).fix(
                    format!("write `{name}`"),
                    handle.span,
                    name,
                ));
                None
            }
        }
    }

    fn policy_line(&mut self, line: &Spanned<PolicyLine>, body: &mut Body) {
        let at = line.span;
        match &line.node {
            PolicyLine::Owner(text) => self.once(&mut body.owner, "owner", text.node.clone(), at),
            PolicyLine::Because(text) => {
                self.once(&mut body.because, "because", text.node.clone(), at);
            }
            PolicyLine::Select { selector, scope, .. } => {
                let (selector, scope) = (selector.clone(), scope.clone());
                let subject = Subject { kind: SubjectKind::Pods, selector, scope };
                self.once(&mut body.select, "select", subject, at);
            }
            PolicyLine::SelectNodes(selector) => {
                let selector = selector.clone();
                let subject = Subject { kind: SubjectKind::Nodes, selector, scope: None };
                self.once(&mut body.select, "select", subject, at);
            }
            PolicyLine::DefaultDeny(directions) => {
                let given = directions.iter().map(|d| d.node).collect();
                self.once(&mut body.isolation, "default-deny", given, at);
            }
            PolicyLine::Rule(_) => {}
        }
    }

    /// Nodes are in no namespace.
    fn check_clusterwide(&mut self, home: Option<&str>, span: Span) -> Option<()> {
        let Some(home) = home else { return Some(()) };
        let message = format!("a policy of namespace `{home}` selects no nodes");
        self.report(
            Diagnostic::error(codes::SUBJECT_SCOPE, message, span)
                .help("make it a `clusterwide policy`, whose name has no namespace"),
        );
        None
    }

    fn subject_namespaces(
        &mut self,
        home: Option<&str>,
        scope: Option<Spanned<Scope>>,
    ) -> Option<Namespaces> {
        match (home, scope) {
            (Some(_), None) => Some(Namespaces::Own),
            (None, None) => Some(Namespaces::Any),
            (Some(home), Some(scope)) => {
                let message =
                    format!("this policy selects pods of its own namespace `{home}` only");
                self.report(
                    Diagnostic::error(codes::SUBJECT_SCOPE, message, scope.span)
                        .help("remove this part, or make it a `clusterwide policy`"),
                );
                None
            }
            (None, Some(scope)) => self.scope(&scope),
        }
    }

    /// The namespaces that `in ...` names.
    pub(super) fn scope(&mut self, scope: &Spanned<Scope>) -> Option<Namespaces> {
        match &scope.node {
            Scope::Any => Some(Namespaces::Any),
            Scope::Matching(selector) => Some(Namespaces::Matching(selector.clone())),
            Scope::Named(name) => self
                .check_namespace(&name.node, name.span)
                .then(|| Namespaces::Named(name.node.clone())),
        }
    }

    fn rules(&mut self, policy: &ast::Policy, home: Option<&str>) -> Vec<Rule> {
        let mut rules: Vec<Rule> = Vec::new();
        let mut places: BTreeMap<Direction, usize> = BTreeMap::new();
        let mut named: BTreeMap<String, Span> = BTreeMap::new();
        for line in &policy.lines {
            let PolicyLine::Rule(written) = &line.node else { continue };
            let place = places.entry(written.direction).or_default();
            let automatic = format!("{}[{place}]", written.direction);
            let name = written.name.as_ref().map_or(automatic, |n| n.node.clone());
            if let Some(first) = named.get(&name) {
                let span = written.name.as_ref().map_or(line.span, |n| n.span);
                let message = format!("two rules of this policy are named `{name}`");
                let diagnostic = Diagnostic::error(codes::DUPLICATE_RULE, message, span)
                    .also(*first, "the other rule");
                self.report(diagnostic);
                continue;
            }
            match self.rule(written, name, line.span, home) {
                Some(rule) => {
                    *place += 1;
                    named.insert(rule.name.clone(), rule.span);
                    rules.push(rule);
                }
                None => self.mark_failed(policy),
            }
        }
        rules
    }

    /// A rule is missing: expectations that name it shall not be reported too.
    fn mark_failed(&mut self, policy: &ast::Policy) {
        self.failed.push(ast::FailedItem {
            keyword: "policy".into(),
            name: Some(policy.handle.node.to_string()),
            span: policy.span,
        });
    }
}

/// What a `select` line says.
struct Subject {
    kind: SubjectKind,
    selector: Selector,
    scope: Option<Spanned<Scope>>,
}

/// The lines of a policy that are given once.
#[derive(Default)]
struct Body {
    owner: Option<Spanned<String>>,
    because: Option<Spanned<String>>,
    select: Option<Spanned<Subject>>,
    isolation: Option<Spanned<Vec<Direction>>>,
}
