//! Where a program hangs: a hook's device and side, by tcx where the kernel has it, else by a clsact qdisc, and XDP in generic mode,
//! which every device can.

use aya::programs::links::LinkOrder;
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{Program, ProgramError, SchedClassifier, TcAttachType, Xdp};
use engine::backend::BackendError;
use engine::net::Hook;

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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The hook.
    pub hook: Hook,
    /// The device's name.
    pub device: String,
}

/// A program on a device: it hangs there as long as this is held.
#[expect(dead_code, reason = "nothing is asked of a link but to be there")]
pub(super) enum Link {
    Tc(SchedClassifierLink),
    Xdp(XdpLink),
}

/// Hangs a loaded program at its place, behind those that are there already.
pub(super) fn attach(program: &mut Program, place: &Place) -> Result<Link, BackendError> {
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
            let kind =
                if side == Side::Ingress { TcAttachType::Ingress } else { TcAttachType::Egress };
            let options = options(place)?;
            let id = program
                .attach_with_options(&place.device, kind, options)
                .map_err(|e| failed(&e))?;
            Ok(Link::Tc(program.take_link(id).map_err(|e| failed(&e))?))
        }
    }
}

fn options(place: &Place) -> Result<TcAttachOptions, BackendError> {
    if kernel_version()? >= TCX {
        return Ok(TcAttachOptions::TcxOrder(LinkOrder::last()));
    }
    // It may be there already, which kernels say in several words; attaching tells.
    let _ = tc::qdisc_add_clsact(&place.device);
    Ok(TcAttachOptions::Netlink(NlOptions::default()))
}
