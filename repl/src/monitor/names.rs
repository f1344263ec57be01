//! Names in a monitor's filters: whether somebody of the world that is watched has them, and who was meant where nobody has.

use std::collections::BTreeSet;
use std::net::IpAddr;

use engine::identity::Identity;
use engine::topology::{Endpoint, Party, World};

use super::{Filter, Scene};

/// How alike a name must be to be meant.
const ALIKE: f64 = 0.8;
/// Names that are listed.
const MOST_LISTED: usize = 8;

/// A filter that nothing can meet, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Nobody {
    pub(crate) message: String,
    pub(crate) remedy: String,
}

impl Filter {
    /// The filter with addresses as they are shown and short names written out.
    pub(crate) fn of(&self, scene: &Scene) -> Result<Self, Nobody> {
        let world = &scene.world;
        let pods = self.pods.iter().map(|name| party(world, name)).collect::<Result<_, _>>()?;
        let namespaces = namespaces(world);
        self.namespaces.iter().try_for_each(|name| one_of("namespace", name, &namespaces))?;
        let nodes = world.nodes.iter().map(|node| node.name.clone()).collect();
        self.nodes.iter().try_for_each(|name| one_of("node", name, &nodes))?;
        let labels = labels(world);
        let labelled = self.labels.iter().map(|(key, value)| format!("{key}={value}"));
        labelled.into_iter().try_for_each(|label| one_of("label", &label, &labels))?;
        let identities = identities(scene);
        self.identities.iter().try_for_each(|name| one_of("identity", name, &identities))?;
        Ok(Self { pods, ..self.clone() })
    }
}

/// Whoever has a name, as sightings name it.
fn party(world: &World, name: &str) -> Result<String, Nobody> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    let known = parties(world);
    let is_it = |known: &String| {
        known == name || known.split_once('/').is_some_and(|(_, bare)| bare == name)
    };
    if known.iter().any(is_it) {
        return Ok(name.to_owned());
    }
    let alias = world.aliases.iter().find(|alias| alias.name == name);
    match alias.map(|alias| written(world, alias.target)) {
        Some(written) => Ok(written),
        None => Err(nobody("pod, node, service, external or address", name, &known)),
    }
}

fn parties(world: &World) -> BTreeSet<String> {
    let pods = world.pods().map(|(id, _)| Party::Pod(id));
    let nodes = world.nodes().flat_map(|(id, _)| [Party::Node(id), Party::Health(id)]);
    let services = world.services().map(|(id, _)| Party::Service(id));
    let externals = world.externals.iter().map(|external| external.name.clone());
    pods.chain(nodes).chain(services).map(|party| written(world, party)).chain(externals).collect()
}

/// A party as sightings name it.
fn written(world: &World, party: Party) -> String {
    let name = match party {
        Party::Pod(id) => Some(world.endpoint_name(Endpoint::Pod(id))),
        Party::Health(id) => Some(world.endpoint_name(Endpoint::Health(id))),
        Party::Node(id) => world.node(id).map(|node| node.name.clone()),
        Party::External(id) => world.external(id).map(|external| external.name.clone()),
        Party::Service(id) => world.service(id).map(engine::topology::Service::qualified),
        Party::Address(address) => Some(address.to_string()),
    };
    name.unwrap_or_default()
}

fn namespaces(world: &World) -> BTreeSet<String> {
    let declared = world.namespaces.iter().map(|namespace| &namespace.name);
    let of_pods = world.pods.iter().map(|pod| &pod.namespace);
    let of_services = world.services.iter().map(|service| &service.namespace);
    declared.chain(of_pods).chain(of_services).cloned().collect()
}

fn labels(world: &World) -> BTreeSet<String> {
    let labels = world.pods.iter().flat_map(|pod| pod.labels.clone());
    labels.map(|(key, value)| format!("{key}={value}")).collect()
}

/// Numbers that the tables have, and reserved names.
fn identities(scene: &Scene) -> BTreeSet<String> {
    let reserved = (0..Identity::FIRST_CLUSTER).map(Identity);
    let names = reserved.filter_map(|identity| Some((identity, identity.reserved_name()?)));
    let names = names.flat_map(|(identity, name)| [identity.to_string(), name.to_owned()]);
    names.chain(scene.tables.identities.keys().map(ToString::to_string)).collect()
}

fn one_of(kind: &str, name: &str, known: &BTreeSet<String>) -> Result<(), Nobody> {
    if known.contains(name) { Ok(()) } else { Err(nobody(kind, name, known)) }
}

fn nobody(kind: &str, name: &str, known: &BTreeSet<String>) -> Nobody {
    let message = format!("nobody here has the {kind} `{name}`");
    let alike = |known: &String| {
        let bare = known.split_once('/').map_or(known.as_str(), |(_, bare)| bare);
        strsim::jaro_winkler(known, name).max(strsim::jaro_winkler(bare, name))
    };
    let nearest = known.iter().max_by(|a, b| alike(a).total_cmp(&alike(b)));
    let remedy = match nearest {
        None => "the world has none at all".to_owned(),
        Some(near) if alike(near) > ALIKE => format!("did you mean `{near}`?"),
        Some(_) => {
            // Numbers say less than names.
            let is_word = |name: &&String| name.parse::<u32>().is_err();
            let words = known.iter().filter(is_word).chain(known.iter().filter(|n| !is_word(n)));
            let first: Vec<&str> = words.take(MOST_LISTED).map(String::as_str).collect();
            let more = known.len().saturating_sub(MOST_LISTED);
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("there are {}{more}", first.join(", "))
        }
    };
    Nobody { message, remedy }
}
