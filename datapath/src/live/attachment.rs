//! Where a program hangs: a hook's device and side, by tcx where the kernel has it, else by a clsact qdisc, and XDP in generic mode,
//! which every device can.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, LinkOrder};
use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{Program, ProgramError, SchedClassifier, TcAttachType, Xdp};
use engine::backend::BackendError;
use engine::net::Hook;
use libbpf_rs::{TC_EGRESS, TC_INGRESS, TcHook};
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
    /// Whether it hangs by a filter, which is found only inside the namespace that it is in.
    pub(super) fn is_filter(&self) -> bool {
        matches!(self, Self::Pinned(Hold::Filter(..), _))
    }

    /// Makes it outlive the process, by a file in a directory.
    pub(super) fn pin(self, place: &Place, directory: &Path) -> Result<Self, BackendError> {
        let link = match self {
            Self::Pinned(..) => return Ok(self),
            Self::Xdp(link) => FdLink::try_from(link).map_err(|e| of_pinning(place, &e))?,
            Self::Tc(link) => FdLink::try_from(link).map_err(|e| of_pinning(place, &e))?,
        };
        let file = directory.join(pins::name_of(place, &Hold::Link));
        link.pin(&file).map_err(|e| of_pinning(place, &e))?;
        Ok(Self::Pinned(Hold::Link, file))
    }

    /// Takes the program off the device, and nothing else: what somebody has put where it was stays. A filter is on a device of the calling
    /// thread's network namespace, or gone with its device.
    pub(super) fn cut(self, place: &Place) -> Result<(), BackendError> {
        let Self::Pinned(hold, file) = self else { return Ok(()) };
        if hold == Hold::Link
            && let Ok(link) = libbpf_rs::Link::open(&file)
        {
            // At once, where the kernel knows how to; else it does so a little after the file is gone.
            let _ = link.detach();
        }
        cut_filter(place, &hold, &file)?;
        pins::remove(&file)
    }
}

fn of_pinning(place: &Place, error: &dyn std::fmt::Display) -> BackendError {
    let call = format!("pinning {} at {}", place.hook, place.device);
    BackendError::System { call, error: error.to_string() }
}

/// Takes a filter off, and removes the file that stands for it, if it is the file's program that hangs there.
pub(super) fn cut_filter(place: &Place, hold: &Hold, file: &Path) -> Result<(), BackendError> {
    let Hold::Filter(priority, handle) = *hold else { return Ok(()) };
    let own = SchedClassifier::from_pin(file).and_then(|program| program.info());
    let (Ok(own), Some(device)) = (own, index(&place.device)) else { return Ok(()) };
    if filter(device, Side::of(place.hook), priority, handle) != Some(own.id()) {
        return Ok(());
    }
    let kind = kind_of(Side::of(place.hook));
    // Dropping takes it off.
    drop(SchedClassifierLink::attached(&place.device, kind, priority, handle.into(), None));
    pins::remove(file)
}

/// Takes off what hangs by the files of a directory. A filter is taken off only inside the namespace that it is in: elsewhere it is left to
/// whoever comes by there.
pub(super) fn left_off(directory: &Path) -> Result<(), BackendError> {
    for name in pins::names(directory)? {
        let file = directory.join(&name);
        match pins::hold_of(&name) {
            Some((place, hold @ Hold::Filter(..))) => {
                cut_filter(&place, &hold, &file)?;
            }
            _ => pins::remove(&file)?,
        }
    }
    // One that is left has filters, and one that is not there has none.
    drop(std::fs::remove_dir(directory));
    Ok(())
}

/// The number of the program of a filter, if there is one.
fn filter(device: u32, side: Side, priority: u16, handle: u32) -> Option<u32> {
    // The question is about a place, whoever asks it.
    let nobody = std::fs::File::open("/dev/null").ok()?;
    let point = if side == Side::Egress { TC_EGRESS } else { TC_INGRESS };
    let mut hook = TcHook::new(nobody.as_fd());
    hook.ifindex(i32::try_from(device).ok()?).attach_point(point);
    hook.priority(priority.into()).handle(handle).query().ok()
}

/// The index of a device of the calling thread's namespace.
pub fn index(device: &str) -> Option<u32> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).ok()?;
    netdevice::name_to_index(&any, device).ok()
}

fn kind_of(side: Side) -> TcAttachType {
    if side == Side::Egress { TcAttachType::Egress } else { TcAttachType::Ingress }
}

/// Hangs a loaded program at its place. Filters stay when their makers are gone: where there is a directory for pins, each has its file in
/// it before it hangs.
pub(super) fn attach(
    program: &mut Program,
    place: &Place,
    order: Order,
    pins: Option<&Path>,
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
            if !is_by_tcx()? {
                return attach_filter(program, place, order, pins);
            }
            let order = match order {
                Order::Last => LinkOrder::last(),
                Order::First => LinkOrder::first(),
            };
            let options = TcAttachOptions::TcxOrder(order);
            let id = program
                .attach_with_options(&place.device, kind_of(side), options)
                .map_err(|e| failed(&e))?;
            Ok(Link::Tc(program.take_link(id).map_err(|e| failed(&e))?))
        }
    }
}

/// How many priorities are tried: one belongs to filters of one kind and protocol, and those of others may have the outermost ones.
const TRIED: u16 = 64;

fn attach_filter(
    program: &mut SchedClassifier,
    place: &Place,
    order: Order,
    pins: Option<&Path>,
) -> Result<Link, BackendError> {
    // It may be there already, which kernels say in several words; attaching tells.
    let _ = tc::qdisc_add_clsact(&place.device);
    let handle = handle();
    let mut first_error = None;
    for step in 0..TRIED {
        // Lower numbers come first; 0 leaves the choice to the kernel, which gives smaller ones to who comes later.
        let priority = match order {
            Order::Last => u16::MAX - step,
            Order::First => 1 + step,
        };
        let hold = Hold::Filter(priority, handle);
        let file = pins.map(|pins| pins.join(pins::name_of(place, &hold)));
        if let Some(file) = &file {
            program.pin(file).map_err(|error| of_pinning(place, &error))?;
        }
        match hang_filter(program, place, priority, handle) {
            Ok(link) => {
                let Some(file) = file else { return Ok(Link::Tc(link)) };
                // It stays until somebody removes it, which dropping would do.
                std::mem::forget(link);
                return Ok(Link::Pinned(hold, file));
            }
            Err(error) => {
                file.map_or(Ok(()), |file| pins::remove(&file))?;
                first_error.get_or_insert(error);
            }
        }
    }
    let call = format!("attaching {} to {}", place.hook, place.device);
    let none = || BackendError::System { call: call.clone(), error: "no priority".to_owned() };
    Err(first_error.map_or_else(none, |error| refused(&call, &error)))
}

fn hang_filter(
    program: &mut SchedClassifier,
    place: &Place,
    priority: u16,
    handle: u32,
) -> Result<SchedClassifierLink, ProgramError> {
    let options = NlOptions { priority, handle: TcHandle::from(handle), ..NlOptions::default() };
    let options = TcAttachOptions::Netlink(options);
    let kind = kind_of(Side::of(place.hook));
    let id = program.attach_with_options(&place.device, kind, options)?;
    program.take_link(id)
}

/// A filter's handle that no other one has: somebody else's of the same priority would be refused, and tried elsewhere.
fn handle() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let moment = now.map_or(0, |now| now.subsec_nanos());
    (moment ^ std::process::id().rotate_left(16)) | 1
}
