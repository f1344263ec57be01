//! A world on this machine: a network namespace for every node, every pod and what is outside, with the devices, addresses and
//! routes between them. Knows nothing of programs and policies.
//!
//! A lab without a name is held by descriptors, and goes with the value that holds it, or with the process.
//!
//! | module | owns |
//! |---|---|
//! | `plan` | what is to be there, from the world and its tables; pure |
//! | `build` | making it, by netlink |
//! | `change` | making one plan's lab another plan's, while packets pass |
//! | `namespace`, `port` | network namespaces; whole frames sent and taken on a device |
//! | `call` | a connection of the kernel's own, with a request on it |
//! | `health` | which devices are no longer as they were made |
//! | `running` | labs whose pods have networks of their own, with a name or without; going on with a change that was cut short |
//! | `wires`, `session` | the devices as programs' places, with ways to reach them; a lab for whatever world a session has |

mod build;
pub mod call;
mod change;
mod health;
pub mod namespace;
mod plan;
pub mod port;
mod running;
mod session;
mod wires;

use std::collections::BTreeMap;

use engine::tables::{EndpointId, Tables};
use engine::topology::{NodeId, World};
use thiserror::Error;

use crate::live::install::InstallError;
pub use change::{Change, PodDevice};
pub use health::Broken;
use namespace::Namespace;
pub use plan::{
    Device, DeviceKind, Neighbour, Options, Plan, PlanError, Role, Route, Rule, Sent, Space,
};
use port::Port;
pub use running::{Moved, Running, Scene, Texts, apply, broken, down, down_all, enter, resume, up};
pub use session::Session;
pub use wires::{LabWires, open};

/// Why a lab could not be made or used.
#[derive(Debug, Error)]
pub enum LabError {
    /// The world is none that a lab can host.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The datapath cannot be loaded or attached.
    #[error(transparent)]
    Datapath(engine::backend::BackendError),
    /// It cannot be written down, found or removed.
    #[error(transparent)]
    Installed(#[from] InstallError),
    /// What has the name is something else.
    #[error("`{0}` is no lab")]
    NotALab(String),
    /// What is there cannot become what is wanted.
    #[error("{0} cannot change while the lab is up")]
    Fixed(String),
    /// The kernel refused a step.
    #[error("{step}: {error}")]
    System {
        /// What was tried.
        step: String,
        /// The kernel's answer.
        error: String,
    },
}

impl LabError {
    fn system(step: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self::System { step: step.into(), error: error.to_string() }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Plan(error) => error.remedy(),
            Self::Installed(error) => error.remedy(),
            Self::NotALab(name) => format!("it was attached: `hopwise detach {name}`"),
            Self::Fixed(_) => "take the lab down, and up again with this file".to_owned(),
            Self::Datapath(_) => "`hopwise doctor` says what this host lacks".to_owned(),
            Self::System { .. } => privileges().unwrap_or_else(|| {
                "labs need root, veth, bridge and vxlan devices; `hopwise doctor` says what is there"
                    .to_owned()
            }),
        }
    }
}

/// Capabilities that labs and probes in them need, with their bits and what they are for.
pub(crate) const CAPABILITIES: [(&str, u32, &str); 3] = [
    ("CAP_SYS_ADMIN", 21, "making network namespaces and entering them"),
    ("CAP_NET_ADMIN", 12, "making devices"),
    ("CAP_NET_RAW", 13, "sending and reading whole frames"),
];

/// What to do about the capabilities that this thread lacks for labs; `None` where it has all.
pub fn privileges() -> Option<String> {
    let effective = crate::testrun::effective().ok()?;
    let has = |bit: &u32| effective >> bit & 1 != 0;
    let lacking: Vec<String> = CAPABILITIES
        .iter()
        .filter(|(_, bit, _)| !has(bit))
        .map(|(name, _, purpose)| format!("{name} ({purpose})"))
        .collect();
    (!lacking.is_empty())
        .then(|| format!("this process lacks {}, which labs need: run as root", lacking.join(", ")))
}

/// A world's namespaces with their devices.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    spaces: Vec<Namespace>,
}

impl Lab {
    /// Makes everything; on an error nothing of it stays.
    pub fn make(world: &World, tables: &Tables, options: Options) -> Result<Self, LabError> {
        let plan = Plan::of(world, tables, options)?;
        let spaces = build::make(&plan, &|_| None)?;
        Ok(Self { plan, spaces })
    }

    /// What was made.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The namespace of a role.
    pub fn space(&self, role: Role) -> Option<&Namespace> {
        let at = self.plan.spaces.iter().position(|space| space.role == role)?;
        self.spaces.get(at)
    }

    /// Opens a device of a role's namespace for whole frames.
    pub fn port(&self, role: Role, device: &str) -> Result<Port, LabError> {
        let step = || format!("opening {device} for frames");
        let space = self
            .space(role)
            .ok_or_else(|| LabError::system(step(), "there is no such namespace"))?;
        Port::open(space, device).map_err(|error| LabError::system(step(), error))
    }

    /// The same; `None` where the device is gone.
    fn port_if_there(&self, role: Role, device: &str) -> Result<Option<Port>, LabError> {
        let space = self.space(role).map(health::present).and_then(Result::ok);
        let is_gone = space.is_some_and(|there| !there.contains_key(device));
        if is_gone { Ok(None) } else { self.port(role, device).map(Some) }
    }

    /// The underlay's side of every node's wire that is there, by node.
    pub fn wires(&self) -> Result<BTreeMap<NodeId, Port>, LabError> {
        let nodes = self.plan.spaces.iter().filter_map(|space| match space.role {
            Role::Node(node) => Some(node),
            Role::World | Role::Pod(..) => None,
        });
        let port = |node| {
            let port = self.port_if_there(Role::World, &plan::wire(node))?;
            Ok(port.map(|port| (node, port)))
        };
        nodes.filter_map(|node| port(node).transpose()).collect()
    }

    /// The devices of all pods (and health endpoints) that are there, by node and endpoint.
    pub fn pods(&self) -> Result<BTreeMap<(NodeId, EndpointId), Port>, LabError> {
        let pods = self.plan.spaces.iter().filter_map(|space| match space.role {
            Role::Pod(node, endpoint) => Some((node, endpoint)),
            Role::World | Role::Node(_) => None,
        });
        let port = |(node, endpoint)| {
            let port = self.port_if_there(Role::Pod(node, endpoint), plan::POD_DEVICE)?;
            Ok(port.map(|port| ((node, endpoint), port)))
        };
        pods.filter_map(|pod| port(pod).transpose()).collect()
    }
}
