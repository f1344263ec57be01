//! A service's part in a hop, with names: which service the frontend is of, which pod the backend is, for whom a side of the
//! packet was rewritten. What a service lacks is `obstacle`'s.

use std::net::IpAddr;

use crate::net::Protocol;
use crate::tables::{EntryId, Frontend, IpcacheOrigin, Target};
use crate::topology::{Encryption, NodeId, Party, PodId, ServiceId, TargetPort};
use crate::trace::{Choice, Event, Hop, Place, Rewriting};

use super::{Context, Step, wire};

/// The service that a packet was sent to, as the datapath told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The node that translates.
    pub(super) node: NodeId,
    /// The service; `None` for an address that no service has.
    pub(super) service: Option<ServiceId>,
    /// Position in the service's ports; `None` where the service does not have the port.
    pub(super) port: Option<usize>,
    /// The frontend, as the packet came.
    pub(super) frontend: Place,
    /// The backend.
    pub(super) backend: Option<Place>,
    /// How it was chosen.
    pub(super) choice: Choice,
}

/// What the hop's program said about a service.
pub(super) fn told(context: &Context<'_>, hop: &Hop) -> Option<Told> {
    hop.events.iter().find_map(|stamped| {
        let Event::Service { frontend, entry, backend, choice, .. } = stamped.event else {
            return None;
        };
        let known = context.frontend(hop.node, entry);
        Some(Told {
            node: hop.node,
            service: known.map(|f| f.service).or_else(|| context.service_at(frontend.address)),
            port: known.map(|f| f.port_index as usize),
            frontend,
            backend,
            choice,
        })
    })
}

/// The same, or where it said nothing, what the packet itself asked for.
pub(super) fn asked(context: &Context<'_>, hop: &Hop) -> Option<Told> {
    told(context, hop).or_else(|| {
        let ends = wire::ends(&hop.frame_in)?;
        let frontends = &context.tables_of(hop.node)?.frontends;
        let known =
            frontends.iter().find(|f| (f.place, f.protocol) == (ends.destination, ends.protocol));
        let service =
            known.map(|f| f.service).or_else(|| context.service_at(ends.destination.address))?;
        Some(Told {
            node: hop.node,
            service: Some(service),
            port: known.map(|f| f.port_index as usize),
            frontend: ends.destination,
            backend: None,
            choice: Choice::Nobody,
        })
    })
}

impl Context<'_> {
    /// The frontend of a number on a node.
    pub(super) fn frontend(&self, node: NodeId, entry: EntryId) -> Option<&Frontend> {
        self.tables_of(node)?.frontend(entry)
    }

    /// The service that has an address.
    pub(super) fn service_at(&self, address: IpAddr) -> Option<ServiceId> {
        let mut services = self.world.services();
        services.find(|(_, s)| s.addresses().any(|own| own == address)).map(|(id, _)| id)
    }

    /// `namespace/name` of a service.
    pub(super) fn service(&self, id: ServiceId) -> String {
        self.party(Party::Service(id))
    }

    /// The pod behind a backend's place: by the sets that the node chooses from, since host-network pods share an address,
    /// else by the address.
    pub(super) fn backend_pod(&self, told: &Told) -> Option<PodId> {
        let place = told.backend?;
        let pods = self.world.pods().filter(|(_, pod)| pod.addresses.contains(&place.address));
        let port = told.service.zip(told.port).and_then(|(id, port)| {
            let service = self.world.service(id)?;
            Some((service, service.ports.get(port)?))
        });
        let mut candidates = pods.filter(|(_, pod)| {
            let Some((service, port)) = port else { return true };
            let on_port = match &port.target {
                TargetPort::Number(number) => *number == place.port,
                TargetPort::Name(name) => pod.ports.iter().any(|p| {
                    p.name == *name && p.protocol == port.protocol && p.port == place.port
                }),
            };
            on_port && pod.namespace == service.namespace && service.selector.matches(&pod.labels)
        });
        candidates.next().map(|(id, _)| id).or_else(|| match self.world.owner(place.address) {
            Some(Party::Pod(id)) => Some(id),
            _ => None,
        })
    }

    /// The name of whoever has an address.
    pub(super) fn at(&self, address: IpAddr) -> String {
        self.party(Party::Address(address))
    }
}

/// The step of a service's event.
pub(super) fn step(context: &Context<'_>, hop: &Hop, event: &Event) -> Option<Step> {
    let Event::Service { frontend, protocol, entry, backend, choice, of } = *event else {
        return None;
    };
    let known = context.frontend(hop.node, entry);
    let told = told(context, hop)?;
    let service =
        told.service.map_or_else(|| frontend.address.to_string(), |id| context.service(id));
    let pod = context.backend_pod(&told).map(|id| context.pod(id));
    Some(Step::Service {
        service,
        frontend: if protocol.has_ports() {
            frontend.to_string()
        } else {
            frontend.address.to_string()
        },
        kind: known.map(|f| f.kind),
        protocol,
        entry: known.map(|f| f.entry),
        backend: backend.map(|place| pod.unwrap_or_else(|| context.at(place.address))),
        backend_address: backend.map(|place| place.to_string()),
        choice,
        of,
    })
}

/// The step of a rewriting. The one from frontend to backend is the service's step.
pub(super) fn rewritten(context: &Context<'_>, hop: &Hop, event: &Event) -> Option<Step> {
    let Event::Rewritten { rewriting, before, after, created } = *event else { return None };
    // Of an error about a translated flow only what it quotes may be rewritten.
    if before.address == after.address && wire::quoted(&hop.frame_in).is_some() {
        return None;
    }
    let party = match rewriting {
        Rewriting::Service => return None,
        Rewriting::Masquerade | Rewriting::NodePort | Rewriting::Loopback => {
            context.at(before.address)
        }
        Rewriting::MasqueradeReply | Rewriting::NodePortReply | Rewriting::LoopbackReply => {
            context.at(after.address)
        }
        Rewriting::ServiceReply => context.answering(hop.node, after),
    };
    let has_ports = !is_icmp(hop);
    let words = |place: Place| match place.port {
        port if port != 0 && has_ports => place.to_string(),
        _ => place.address.to_string(),
    };
    Some(Step::Rewritten {
        rewriting,
        before: words(before),
        after: words(after),
        party,
        identifier: Some(after.port).filter(|identifier| *identifier != 0 && !has_ports),
        created,
    })
}

fn is_icmp(hop: &Hop) -> bool {
    hop.events.iter().any(|stamped| {
        let Event::Parsed { flow, .. } = stamped.event else { return false };
        matches!(flow.protocol, Protocol::Icmp | Protocol::Icmpv6)
    })
}

impl Context<'_> {
    /// The service whose frontend an answer comes from: node ports are at an address that is the node's.
    fn answering(&self, node: NodeId, frontend: Place) -> String {
        let tables = self.tables_of(node);
        let known = tables.and_then(|t| t.frontends.iter().find(|f| f.place == frontend));
        match known {
            Some(known) => self.service(known.service),
            None => self.at(frontend.address),
        }
    }
}

/// The step of what an ICMP error quotes, where the program rewrote that.
pub(super) fn requoted(hop: &Hop) -> Option<Step> {
    let (before, after) = (wire::quoted(&hop.frame_in)?, wire::quoted(&hop.frame_out)?);
    let is_rewritten = (before.source, before.destination) != (after.source, after.destination);
    is_rewritten.then(|| Step::Requoted { before: before.in_words(), after: after.in_words() })
}

/// The step of an encryption.
pub(super) fn encrypted(event: &Event) -> Option<Step> {
    let Event::Encrypted { by, mark } = *event else { return None };
    let (by, key) = match by {
        Encryption::Wireguard { .. } => ("wireguard", None),
        Encryption::Ipsec { key } => ("ipsec", Some(key)),
    };
    Some(Step::Encrypted { by: by.to_owned(), key, mark })
}

/// Whether a look-up told no more than that the address is a service's, which the service's own step says better.
pub(super) fn is_address(context: &Context<'_>, hop: &Hop, entry: Option<EntryId>) -> bool {
    let found = entry.zip(context.tables_of(hop.node)).and_then(|(e, t)| t.ipcache_entry(e));
    found.is_some_and(|entry| {
        matches!(entry.origin, IpcacheOrigin::Service(_))
            || matches!(entry.target, Target::Service(_))
    })
}
