//! `show`: resolves the argument and picks the listing.

use engine::backend::{Backend, BackendError};
use engine::policy::PolicyId;
use engine::topology::{Endpoint, NodeId, Party};
use lang::ast::{Name, PartyKind, PartyName, Qualified};
use lang::command::{Command, Noun};

use super::Session;
use crate::reply::{Content, Listing, Reply, Status};
use crate::show::{Of, View};

impl Session {
    /// `show NOUN [ARGUMENT]` by words.
    pub fn show(&mut self, noun: &str, argument: Option<&str>, hits: bool) -> Reply {
        let hits = if hits { "--hits" } else { "" };
        let text = format!("show {noun} {} {hits}", argument.unwrap_or(""));
        let file = self.sources.add(super::INPUT, text.trim());
        let reply = match lang::command::parse(text.trim(), file) {
            Ok(Command::Show { noun, argument, hits }) => self.list(noun, argument.as_ref(), hits),
            Ok(_) => Reply::failure(Status::Usage, format!("`{noun}` is nothing to show"), ""),
            Err(problems) => self.complain(problems),
        };
        self.forget_texts();
        reply
    }

    pub(super) fn list(&mut self, noun: Noun, argument: Option<&Name>, hits: bool) -> Reply {
        // The table of a policy is that of its rules, wherever they are asked.
        let is_policy = noun == Noun::Policy
            && argument
                .is_some_and(|n| self.policy_named(n).is_some() && self.endpoint(n).is_err());
        let listing =
            if hits || is_policy { self.hits(argument) } else { self.listing(noun, argument) };
        match listing {
            Ok(listing) => Reply::ok(Content::Listing(listing)),
            Err(reply) => *reply,
        }
    }

    fn listing(&mut self, noun: Noun, argument: Option<&Name>) -> Result<Listing, Box<Reply>> {
        if let Noun::Conntrack | Noun::Metrics = noun {
            let node = self.node(argument)?;
            return if noun == Noun::Metrics { self.metrics(node) } else { self.conntrack(node) };
        }
        let view = self.view();
        Ok(match noun {
            Noun::Pods => view.pods(),
            Noun::Nodes => view.nodes(),
            Noun::Selectors => view.selectors(),
            Noun::Identities => view.identities(),
            Noun::Policies => view.policies(self.chosen_policy(argument)?),
            Noun::Endpoints => view.endpoints(self.node(argument)?),
            Noun::Tunnel => view.tunnel(self.node(argument)?),
            Noun::Ipcache => view.ipcache(self.node(argument)?),
            Noun::Policy => return self.policy_tables(argument),
            Noun::Services => view.services(),
            Noun::Conntrack | Noun::Metrics => Listing::new("nothing", &[]),
        })
    }

    fn view(&self) -> View<'_> {
        View {
            world: &self.state.world,
            policies: &self.state.policies,
            tables: &self.state.tables,
            sources: &self.sources,
        }
    }

    /// The node of a name, or all of them.
    fn node(&self, name: Option<&Name>) -> Result<Option<NodeId>, Box<Reply>> {
        let Some(name) = name else { return Ok(None) };
        let found = self.state.world.nodes().find(|(_, n)| n.name == name.node);
        let names = || self.state.world.nodes.iter().map(|n| n.name.clone()).collect::<Vec<_>>();
        found.map(|(id, _)| Some(id)).ok_or_else(|| unknown("node", &name.node, &names()))
    }

    /// The endpoint of a name: a pod, or a node.
    fn endpoint(&self, name: &Name) -> Result<Endpoint, Box<Reply>> {
        let (namespace, pod) = match name.node.split_once('/') {
            Some((namespace, pod)) => (Some(namespace.to_owned()), pod),
            None => (None, name.node.as_str()),
        };
        let qualified = Qualified { namespace, name: pod.to_owned() };
        let party = PartyName { kind: PartyKind::Bare(qualified), span: name.span };
        match lang::resolve::party(&self.state.world, &party) {
            Ok(Party::Pod(id)) => Ok(Endpoint::Pod(id)),
            Ok(Party::Node(id)) => Ok(Endpoint::Host(id)),
            Ok(_) => Err(Box::new(Reply::failure(
                Status::Input,
                format!("`{}` is neither a pod, nor a node, nor a policy", name.node),
                "only pods and nodes have policy tables; `show pods`, `show nodes` and `show policies` list them",
            ))),
            Err(problem) => Err(Box::new(self.complain(vec![problem]))),
        }
    }

    fn policy_tables(&self, name: Option<&Name>) -> Result<Listing, Box<Reply>> {
        let Some(name) = name else {
            let message = "`show policy` needs a pod, a node or a policy";
            let remedy = "`show policy NAMESPACE/NAME`, `show policy NODE`; `show pods`, `show nodes` and `show policies` list them";
            return Err(Box::new(Reply::failure(Status::Usage, message, remedy)));
        };
        let endpoint = self.endpoint(name)?;
        self.view().policy(endpoint).ok_or_else(|| {
            if let Endpoint::Host(_) = endpoint {
                let message = format!("the cluster enforces no policy at node `{}`", name.node);
                let remedy = "`host-firewall on` in the `cluster` block does";
                return Box::new(Reply::failure(Status::Input, message, remedy));
            }
            let message = format!("`{}` shares its node's network and has no endpoint", name.node);
            let remedy = "policies of pods never select such a pod; those of nodes are about its node: `show policy NODE`";
            Box::new(Reply::failure(Status::Input, message, remedy))
        })
    }

    fn conntrack(&mut self, node: Option<NodeId>) -> Result<Listing, Box<Reply>> {
        let now = self.now;
        let entries = self.of_backend(node, |backend, id| backend.conntrack(id, now))?;
        let mut listing = self.view().conntrack(&entries);
        listing.notes.extend(self.unfilled());
        Ok(listing)
    }

    fn metrics(&mut self, node: Option<NodeId>) -> Result<Listing, Box<Reply>> {
        let counters = self.of_backend(node, |backend, id| backend.counters(id))?;
        let mut listing = self.view().metrics(&counters);
        listing.notes.extend(self.unfilled());
        Ok(listing)
    }

    /// Why nothing was counted or remembered yet.
    fn unfilled(&self) -> Option<String> {
        let note = "nothing was asked yet: questions fill it, in a session, or by `hopwise show ... --after QUESTION`";
        self.backend.is_none().then(|| note.to_owned())
    }

    fn policy_named(&self, name: &Name) -> Option<PolicyId> {
        let mut policies = self.state.policies.iter();
        policies.find(|(_, policy)| policy.handle == name.node).map(|(id, _)| id)
    }

    /// The policy of a name, or all of them.
    fn chosen_policy(&self, name: Option<&Name>) -> Result<Option<PolicyId>, Box<Reply>> {
        let Some(name) = name else { return Ok(None) };
        let handles =
            || self.state.policies.iter().map(|(_, p)| p.handle.clone()).collect::<Vec<_>>();
        let found = self.policy_named(name).map(Some);
        found.ok_or_else(|| unknown("policy", &name.node, &handles()))
    }

    /// How often rules decided: those of a policy, those that a pod met, or all.
    fn hits(&mut self, name: Option<&Name>) -> Result<Listing, Box<Reply>> {
        let of = match name {
            None => Of::Everyone,
            Some(name) => {
                let policy = self.policy_named(name).map(Of::Policy);
                policy.map_or_else(|| self.endpoint(name).map(Of::Endpoint), Ok)?
            }
        };
        let hits = self.of_backend(None, |backend, id| backend.hits(id))?;
        Ok(self.view().hits(of, &hits))
    }

    /// What the backend says of each node, or of one; nothing before the first question.
    fn of_backend<T>(
        &mut self,
        node: Option<NodeId>,
        mut ask: impl FnMut(&mut dyn Backend, NodeId) -> Result<Vec<T>, BackendError>,
    ) -> Result<Vec<(NodeId, Vec<T>)>, Box<Reply>> {
        let nodes: Vec<NodeId> = self.state.world.nodes().map(|(id, _)| id).collect();
        let mut found = Vec::new();
        if let Some(backend) = &mut self.backend {
            for id in nodes.into_iter().filter(|id| node.is_none_or(|wanted| wanted == *id)) {
                let of_node = ask(backend.as_mut(), id).map_err(|e| super::ask::refused(&e))?;
                found.push((id, of_node));
            }
        }
        Ok(found)
    }
}

fn unknown(kind: &str, name: &str, known: &[String]) -> Box<Reply> {
    let near = known.iter().max_by(|a, b| {
        let near = |s: &str| strsim::jaro_winkler(s, name);
        near(a).total_cmp(&near(b))
    });
    let remedy = match near {
        Some(near) if strsim::jaro_winkler(near, name) > 0.8 => format!("did you mean `{near}`?"),
        _ if known.is_empty() => format!("the session has no {kind}"),
        _ => format!("there are {}", known.join(", ")),
    };
    Box::new(Reply::failure(Status::Input, format!("no {kind} `{name}`"), remedy))
}
