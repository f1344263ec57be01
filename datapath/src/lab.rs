//! A world on this machine: a network namespace for every node, every pod and what is outside, with the devices, addresses and
//! routes between them. Knows nothing of programs and policies.
//!
//! Nothing here has a name on the host: namespaces are held by descriptors, and go with the value that holds them, or with the process.
//!
//! | module | owns |
//! |---|---|
//! | `plan` | what is to be there, from the world and its tables; pure |
//! | `build` | making it, by netlink |
//! | `namespace`, `port` | network namespaces; whole frames sent and taken on a device |
//! | `wires`, `session` | the devices as programs' places, with ways to reach them; a lab for whatever world a session has |

mod build;
pub mod namespace;
mod plan;
pub mod port;
mod session;
mod wires;

use std::collections::BTreeMap;

use engine::tables::{EndpointId, Tables};
use engine::topology::{NodeId, World};
use thiserror::Error;

use namespace::Namespace;
pub use plan::{Device, DeviceKind, Neighbour, Options, Plan, PlanError, Role, Route, Space};
use port::Port;
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
            Self::Datapath(_) => "`hopwise doctor` says what this host lacks".to_owned(),
            Self::System { .. } => {
                "labs need root (CAP_SYS_ADMIN and CAP_NET_ADMIN), veth, bridge and vxlan devices; `hopwise doctor` says what is there"
                    .to_owned()
            }
        }
    }
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
        let spaces = build::make(&plan)?;
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

    /// The underlay's side of every node's wire, by node.
    pub fn wires(&self) -> Result<BTreeMap<NodeId, Port>, LabError> {
        let nodes = self.plan.spaces.iter().filter_map(|space| match space.role {
            Role::Node(node) => Some(node),
            Role::World | Role::Pod(..) => None,
        });
        nodes.map(|node| Ok((node, self.port(Role::World, &plan::wire(node))?))).collect()
    }

    /// The devices of all pods (and health endpoints), by node and endpoint.
    pub fn pods(&self) -> Result<BTreeMap<(NodeId, EndpointId), Port>, LabError> {
        let pods = self.plan.spaces.iter().filter_map(|space| match space.role {
            Role::Pod(node, endpoint) => Some((node, endpoint)),
            Role::World | Role::Node(_) => None,
        });
        let port = |(node, endpoint)| {
            let port = self.port(Role::Pod(node, endpoint), plan::POD_DEVICE)?;
            Ok(((node, endpoint), port))
        };
        pods.map(port).collect()
    }
}
