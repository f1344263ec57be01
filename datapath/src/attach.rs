//! Devices that are on this machine already: the host sides of pods' veths, in whatever network namespace they are, what sits on them,
//! and the datapath's programs on them. Makes no device, and leaves everything else on a device as it is.
//!
//! | module | owns |
//! |---|---|
//! | `spaces` | every network namespace of the machine that can be reached |
//! | `netlink`, `inventory` | asking the kernel; the devices and addresses of a namespace |
//! | `find` | which device is which pod's; pure |
//! | `occupant` | what else hangs where programs would |
//! | `wires` | found devices as programs' places |

mod find;
mod inventory;
pub(crate) mod netlink;
mod occupant;
mod spaces;
mod wires;

use std::io;

use engine::backend::BackendError;
use engine::topology::World;
use thiserror::Error;

pub use crate::live::index;
pub use find::{Finding, Found};
pub use occupant::{By, Occupant, clsact, hangs, has_ingress, occupants, remove_clsact};
pub use spaces::Space;
pub use wires::{AttachWires, Hung};

/// Why programs cannot be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// No pod of the world has a device here.
    #[error("no pod of this world has a device on this machine")]
    Nobody,
    /// Several devices may be a pod's.
    #[error("several devices may be that of {pod}: {}", candidates.join(", "))]
    Ambiguous {
        /// The pod.
        pod: String,
        /// The devices, with their namespaces.
        candidates: Vec<String>,
    },
    /// Pods of one node have devices in several namespaces.
    #[error("pods of {node} have devices in several network namespaces: {}", spaces.join(", "))]
    Split {
        /// The node.
        node: String,
        /// The namespaces.
        spaces: Vec<String>,
    },
    /// Somebody else decides there.
    #[error("{occupant} sits on {device} already")]
    Occupied {
        /// Who.
        occupant: String,
        /// Where.
        device: String,
    },
    /// There is no place for a filter at its egress.
    #[error("{device} has an `ingress` qdisc, which leaves no place for a program at its egress")]
    Ingress {
        /// The device.
        device: String,
    },
    /// The process may not do what is to be done.
    #[error("this takes {}, which this process has not", lacking.join(" and "))]
    Rights {
        /// The capabilities.
        lacking: Vec<&'static str>,
    },
    /// The datapath cannot be loaded or attached.
    #[error(transparent)]
    Datapath(#[from] BackendError),
    /// The kernel refused a step.
    #[error("{step}: {error}")]
    System {
        /// What was tried.
        step: String,
        /// The kernel's answer.
        error: String,
    },
}

impl AttachError {
    pub(crate) fn system(step: impl Into<String>, error: impl std::fmt::Display) -> Self {
        Self::System { step: step.into(), error: error.to_string() }
    }

    /// What to do about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Nobody => "a pod's device is found by `interface` in the world, or by the pod's address in any network namespace; \
                             other processes' namespaces need CAP_SYS_ADMIN and CAP_SYS_PTRACE"
                .to_owned(),
            Self::Ambiguous { .. } => {
                "give the pod its address, or an `interface` that only one device has".to_owned()
            }
            Self::Split { .. } => {
                "a node is one network namespace: write a node for each of them".to_owned()
            }
            Self::Occupied { .. } => {
                "attach without `--enforce`, which only observes, or take the other program off first".to_owned()
            }
            Self::Ingress { .. } => {
                "put a clsact qdisc in its place (`tc qdisc replace dev DEVICE clsact`), which does the same and more; Linux 6.6 and newer need none"
                    .to_owned()
            }
            Self::Rights { .. } => "run as root: programs are hung in other network namespaces".to_owned(),
            Self::Datapath(_) | Self::System { .. } => {
                "attaching needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_BPF); `hopwise doctor` says what is there"
                    .to_owned()
            }
        }
    }
}

/// What attaching, asking about it and taking it off need: going into namespaces, and changing devices. A process without them would see
/// nothing, and take nothing off.
///
/// # Errors
/// [`AttachError::Rights`] names what is lacking.
pub fn rights() -> Result<(), AttachError> {
    let effective = crate::testrun::privileges::effective()?;
    let needed = [(21, "CAP_SYS_ADMIN"), (12, "CAP_NET_ADMIN")];
    let lacking = needed.into_iter().filter(|(bit, _)| effective >> bit & 1 == 0);
    let lacking: Vec<_> = lacking.map(|(_, name)| name).collect();
    if lacking.is_empty() { Ok(()) } else { Err(AttachError::Rights { lacking }) }
}

/// The namespaces of the machine, with the devices of a world's pods in them.
pub fn find(world: &World) -> Result<(Vec<Space>, Finding), AttachError> {
    let spaces =
        spaces::all().map_err(|error| AttachError::system("listing network namespaces", error))?;
    let mut seen = Vec::with_capacity(spaces.len());
    for space in &spaces {
        // One that went away meanwhile, or that this process may not enter, has nothing to attach to.
        let devices = space.namespace.within(inventory::look).unwrap_or_default();
        seen.push(inventory::Seen { name: space.name.clone(), ..devices });
    }
    let number = |from: usize, to: usize| -> io::Result<Option<i32>> {
        let (Some(from), Some(to)) = (spaces.get(from), spaces.get(to)) else { return Ok(None) };
        let descriptor = to.namespace.descriptor();
        from.namespace.within(move || netlink::number_of(descriptor))
    };
    inventory::join(&mut seen, number);
    let finding = find::find(world, &seen)?;
    Ok((spaces, finding))
}
