//! Where a program hangs: a hook's device and side, by tcx where the kernel has it, else by a clsact qdisc, and XDP in generic mode,
//! which every device can.

use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkOrder};
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{Program, ProgramError, SchedClassifier, TcAttachType, Xdp};
use engine::backend::BackendError;
use engine::net::Hook;
use serde::{Deserialize, Serialize};

use super::pins::{self, Hold};
use super::programs::refused;
use crate::testrun::kernel_version;

/// The first kernel with tcx.
const TCX: (u32, u32) = (6, 6);

/// A side of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// What comes in, before the kernel has a packet of it.
    Xdp,
    /// What comes in.
    Ingress,
    /// What goes out.
    Egress,
}

impl Side {
    /// Where a hook's program hangs.
    pub fn of(hook: Hook) -> Self {
        match hook {
            Hook::Prefilter => Self::Xdp,
            Hook::FromContainer | Hook::FromOverlay | Hook::FromNetdev | Hook::ToHost => {
                Self::Ingress
            }
            Hook::ToContainer | Hook::ToOverlay | Hook::ToNetdev | Hook::FromHost => Self::Egress,
        }
    }
}

/// A hook's place on a device of the calling thread's network namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The hook.
    pub hook: Hook,
    /// The device's name.
    pub device: String,
}

/// Where among the programs of a place a program comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// After those that are there: it sees what they let pass.
    #[default]
    Last,
    /// Before them: it sees everything that comes.
    First,
}

/// Tells programs to hang by a clsact qdisc where tcx is there too, if it is `clsact`.
const VARIABLE: &str = "HOPWISE_TC";

/// Whether programs hang by tcx; else by a clsact qdisc.
pub fn is_by_tcx() -> Result<bool, BackendError> {
    let is_refused = std::env::var_os(VARIABLE).is_some_and(|value| value == "clsact");
    Ok(!is_refused && kernel_version()? >= TCX)
}

/// A program on a device: it hangs there as long as this is held, or its file is there.
pub(super) enum Link {
    Tc(SchedClassifierLink),
    Xdp(XdpLink),
    Pinned(Hold, PathBuf),
}

impl Link {
    /// Makes it outlive the process, by a file in a directory.
    pub(super) fn pin(
        self,
        place: &Place,
        program: &mut Program,
        directory: &Path,
    ) -> Result<Self, BackendError> {
        let call = format!("pinning {} at {}", place.hook, place.device);
        let failed = |error: &dyn std::fmt::Display| BackendError::System {
            call: call.clone(),
            error: error.to_string(),
        };
        let at = |hold: &Hold| directory.join(pins::name_of(place, hold));
        let link = match self {
            Self::Pinned(..) => return Ok(self),
            Self::Xdp(link) => FdLink::try_from(link).map_err(|e| failed(&e))?,
            Self::Tc(link) if <&FdLink>::try_from(&link).is_ok() => {
                FdLink::try_from(link).map_err(|e| failed(&e))?
            }
            Self::Tc(link) => {
                let priority = link.priority().map_err(|e| failed(&e))?;
                let handle = link.handle().map_err(|e| failed(&e))?;
                let hold = Hold::Filter(priority, handle.into());
                program.pin(at(&hold)).map_err(|e| failed(&e))?;
                // A filter stays until somebody removes it, which dropping would do.
                std::mem::forget(link);
                return Ok(Self::Pinned(hold.clone(), at(&hold)));
            }
        };
        link.pin(at(&Hold::Link)).map_err(|e| failed(&e))?;
        Ok(Self::Pinned(Hold::Link, at(&Hold::Link)))
    }

    /// Takes the program off the device. A filter is on a device of the calling thread's network namespace, or gone with its device.
    pub(super) fn cut(self, place: &Place) -> Result<(), BackendError> {
        let Self::Pinned(hold, file) = self else { return Ok(()) };
        if hold == Hold::Link
            && let Ok(link) = libbpf_rs::Link::open(&file)
        {
            // At once, where the kernel knows how to; else it does so a little after the file is gone.
            let _ = link.detach();
        }
        if let Hold::Filter(priority, handle) = hold {
            let handle = TcHandle::from(handle);
            let kind = kind_of(Side::of(place.hook));
            // Dropping takes it off.
            drop(SchedClassifierLink::attached(&place.device, kind, priority, handle, None));
        }
        pins::remove(&file)
    }
}

fn kind_of(side: Side) -> TcAttachType {
    if side == Side::Egress { TcAttachType::Egress } else { TcAttachType::Ingress }
}

/// Hangs a loaded program at its place.
pub(super) fn attach(
    program: &mut Program,
    place: &Place,
    order: Order,
) -> Result<Link, BackendError> {
    let failed = |error: &ProgramError| {
        refused(&format!("attaching {} to {}", place.hook, place.device), error)
    };
    match Side::of(place.hook) {
        Side::Xdp => {
            let program: &mut Xdp = program.try_into().map_err(|e| failed(&e))?;
            let id = program.attach(&place.device, XdpMode::Skb).map_err(|e| failed(&e))?;
            Ok(Link::Xdp(program.take_link(id).map_err(|e| failed(&e))?))
        }
        side => {
            let program: &mut SchedClassifier = program.try_into().map_err(|e| failed(&e))?;
            let options = options(place, order)?;
            let id = program
                .attach_with_options(&place.device, kind_of(side), options)
                .map_err(|e| failed(&e))?;
            Ok(Link::Tc(program.take_link(id).map_err(|e| failed(&e))?))
        }
    }
}

fn options(place: &Place, order: Order) -> Result<TcAttachOptions, BackendError> {
    if is_by_tcx()? {
        return Ok(TcAttachOptions::TcxOrder(match order {
            Order::Last => LinkOrder::last(),
            Order::First => LinkOrder::first(),
        }));
    }
    // It may be there already, which kernels say in several words; attaching tells.
    let _ = tc::qdisc_add_clsact(&place.device);
    // Lower numbers come first; 0 leaves the choice to the kernel, which gives smaller ones to who comes later.
    let priority = match order {
        Order::Last => u16::MAX,
        Order::First => 1,
    };
    Ok(TcAttachOptions::Netlink(NlOptions { priority, ..NlOptions::default() }))
}
