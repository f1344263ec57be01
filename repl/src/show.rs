//! The tables behind `show NOUN`: one listing per noun, made from the world, the policies and the
//! compiled tables. Owns which columns there are; layout is `render`'s.

mod metrics;
pub(crate) mod names;
mod policies;
mod policy_table;
mod ports;
mod services;
mod state;
mod world;

use engine::policy::{PolicyId, PolicySet};
use engine::source::SourceMap;
use engine::tables::Tables;
use engine::topology::{Endpoint, NodeId, World};
use engine::trace::{ConntrackEntry, Counter, Hit};

use crate::reply::Listing;

pub(crate) use metrics::Of;

/// What the listings are made from.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    /// The world.
    pub(crate) world: &'a World,
    /// The policies.
    pub(crate) policies: &'a PolicySet,
    /// What they compile to.
    pub(crate) tables: &'a Tables,
    /// Texts, for places.
    pub(crate) sources: &'a SourceMap,
}

impl View<'_> {
    /// `show pods`
    pub(crate) fn pods(&self) -> Listing {
        world::pods(self)
    }

    /// `show nodes`
    pub(crate) fn nodes(&self) -> Listing {
        world::nodes(self)
    }

    /// `show identities`
    pub(crate) fn identities(&self) -> Listing {
        world::identities(self)
    }

    /// `show policies [HANDLE]`
    pub(crate) fn policies(&self, chosen: Option<PolicyId>) -> Listing {
        policies::policies(self, chosen)
    }

    /// `show selectors`
    pub(crate) fn selectors(&self) -> Listing {
        policies::selectors(self)
    }

    /// `show endpoints [NODE]`
    pub(crate) fn endpoints(&self, node: Option<NodeId>) -> Listing {
        state::endpoints(self, node)
    }

    /// `show tunnel [NODE]`
    pub(crate) fn tunnel(&self, node: Option<NodeId>) -> Listing {
        state::tunnel(self, node)
    }

    /// `show ipcache [NODE]`
    pub(crate) fn ipcache(&self, node: Option<NodeId>) -> Listing {
        state::ipcache(self, node)
    }

    /// `show policy POD`; `None` where the pod has no endpoint (it shares its node's network).
    pub(crate) fn policy(&self, endpoint: Endpoint) -> Option<Listing> {
        policy_table::of(self, endpoint)
    }

    /// `show services`
    pub(crate) fn services(&self) -> Listing {
        services::services(self)
    }

    /// `show metrics [NODE]`
    pub(crate) fn metrics(&self, counters: &[(NodeId, Vec<Counter>)]) -> Listing {
        metrics::metrics(self, counters)
    }

    /// `show policy NAME --hits`
    pub(crate) fn hits(&self, of: Of, hits: &[(NodeId, Vec<Hit>)]) -> Listing {
        metrics::hits(self, of, hits)
    }

    /// `show conntrack [NODE]`
    pub(crate) fn conntrack(&self, entries: &[(NodeId, Vec<ConntrackEntry>)]) -> Listing {
        state::conntrack(self, entries)
    }
}

#[cfg(test)]
mod tests;
