//! Who has a name or an address. One question looks through the world; for many of them an index is made first.
//! What a name means is `party`'s.

use std::collections::HashMap;
use std::net::IpAddr;

use engine::topology::{ExternalId, Party, World};

/// A world, and perhaps an index of it.
#[derive(Clone, Copy)]
pub(crate) struct Atlas<'w> {
    pub(super) world: &'w World,
    /// Of this very world.
    directory: Option<&'w Directory>,
}

/// The parties of a world by name and by address.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// By the last part of the name, in the order of the world.
    bearers: HashMap<String, Vec<Party>>,
    aliases: HashMap<String, Party>,
    owners: HashMap<IpAddr, Party>,
}

impl Directory {
    pub(crate) fn of(world: &World) -> Self {
        let mut directory = Self::default();
        for (party, name) in everyone(world) {
            directory.bearers.entry(name.to_owned()).or_default().push(party);
        }
        for alias in &world.aliases {
            directory.aliases.entry(alias.name.clone()).or_insert(alias.target);
        }
        // The first who has an address owns it, in the order of `World::owner`.
        let pods = world.pods().filter(|(_, pod)| !pod.host_network);
        let pods = pods.map(|(id, pod)| (Party::Pod(id), &pod.addresses));
        directory.own(pods);
        directory.own(world.nodes().map(|(id, n)| (Party::Node(id), &n.addresses)));
        directory.own(world.nodes().map(|(id, n)| (Party::Health(id), &n.health)));
        for (id, service) in world.services() {
            for address in service.addresses() {
                directory.owners.entry(address).or_insert(Party::Service(id));
            }
        }
        directory.own(world.nodes().map(|(id, n)| (Party::Node(id), &n.locals)));
        let externals = (0..).map(ExternalId).zip(&world.externals);
        directory.own(externals.map(|(id, e)| (Party::External(id), &e.addresses)));
        directory
    }
}

impl Directory {
    fn own<'w, L: IntoIterator<Item = &'w IpAddr>>(
        &mut self,
        parties: impl Iterator<Item = (Party, L)>,
    ) {
        for (party, addresses) in parties {
            for address in addresses {
                self.owners.entry(*address).or_insert(party);
            }
        }
    }
}

impl<'w> Atlas<'w> {
    /// The world alone.
    pub(crate) fn plain(world: &'w World) -> Self {
        Self { world, directory: None }
    }

    /// The world with its index; where there is none, alone.
    pub(crate) fn with(world: &'w World, directory: Option<&'w Directory>) -> Self {
        Self { world, directory }
    }

    /// Pods, services, nodes and externals whose name, or its part behind the namespace, is this one.
    pub(super) fn bearers(self, name: &str) -> Vec<Party> {
        match self.directory {
            Some(directory) => directory.bearers.get(name).cloned().unwrap_or_default(),
            None => {
                let named = everyone(self.world).filter(|(_, other)| *other == name);
                named.map(|(party, _)| party).collect()
            }
        }
    }

    /// What an alias stands for.
    pub(super) fn alias(self, name: &str) -> Option<Party> {
        match self.directory {
            Some(directory) => directory.aliases.get(name).copied(),
            None => self.world.aliases.iter().find(|a| a.name == name).map(|a| a.target),
        }
    }

    /// [`World::owner`].
    pub(super) fn owner(self, address: IpAddr) -> Option<Party> {
        match self.directory {
            Some(directory) => directory.owners.get(&address).copied(),
            None => self.world.owner(address),
        }
    }
}

/// Every party with its name, a pod's or service's without the namespace, in the order of the world.
fn everyone(world: &World) -> impl Iterator<Item = (Party, &str)> {
    let pods = world.pods().map(|(id, pod)| (Party::Pod(id), pod.name.as_str()));
    let nodes = world.nodes().map(|(id, node)| (Party::Node(id), node.name.as_str()));
    let externals = (0..).map(ExternalId).zip(&world.externals);
    let externals = externals.map(|(id, e)| (Party::External(id), e.name.as_str()));
    let services = world.services().map(|(id, s)| (Party::Service(id), s.name.as_str()));
    pods.chain(services).chain(nodes).chain(externals)
}

#[cfg(test)]
mod tests {
    use engine::source::SourceMap;

    use super::*;

    /// Names and addresses that several have, aliases over names, host network, both families.
    const WORLD: &str = "cluster c {\n  node n { ip 192.168.0.1, fd00::1 pods 10.1.0.0/24 local 10.1.0.1, 10.96.0.9 health 10.1.0.9 }\n}\n\
        namespace x {}\nnamespace y {}\npod x/a on n { ip 10.1.0.10 }\npod y/a on n { ip 10.1.0.11 labels { l = v } }\n\
        pod x/n on n { host-network labels { l = v } }\nexternal a { ip 9.9.9.9, 2620:fe::fe }\nexternal e { ip 1.1.1.1 }\n\
        service y/s { cluster-ip 10.96.0.9 external-ip 9.9.9.10 port 80 select { l } }\n\
        service x/a { cluster-ip none select { l } }\nalias A = pod x/a\nalias e = external e\n";

    #[test]
    fn the_index_says_what_looking_through_the_world_says() {
        let entry = ("w.hop".to_owned(), WORLD.to_owned());
        let loaded = crate::load(&[entry], &mut crate::NoIncludes, &mut SourceMap::default());
        assert_eq!(loaded.diagnostics, []);
        let directory = Directory::of(&loaded.world);
        let (plain, indexed) =
            (Atlas::plain(&loaded.world), Atlas::with(&loaded.world, Some(&directory)));
        for name in ["a", "n", "e", "s", "A", "x/a", ""] {
            assert_eq!(indexed.bearers(name), plain.bearers(name), "{name}");
            assert_eq!(indexed.alias(name), plain.alias(name), "{name}");
        }
        assert_eq!((indexed.bearers("a").len(), indexed.bearers("n").len()), (4, 2));
        for address in [
            "10.1.0.10",
            "10.1.0.1",
            "192.168.0.1",
            "fd00::1",
            "2620:fe::fe",
            "1.1.1.1",
            "8.8.8.8",
            "10.1.0.9",
            "10.96.0.9",
            "9.9.9.10",
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(indexed.owner(address), plain.owner(address), "{address}");
        }
        assert!(matches!(indexed.owner("192.168.0.1".parse().unwrap()), Some(Party::Node(_))));
    }
}
