//! Frames that are given as bytes, for any program of any node, on the device that it hangs on.

use engine::backend::{BackendError, TunnelKey};
use engine::net::Hook;
use engine::question::Question;
use engine::tables::{NodeTables, Tables};
use engine::topology::{Endpoint, NodeId, World};
use engine::trace::Ethernet;

use super::link::{self, Pinned};
use super::wire::Net;
use super::{Arrival, HOST_DEVICE, enter};

/// A frame at a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw {
    /// The node.
    pub node: NodeId,
    /// The program.
    pub hook: Hook,
    /// The device that it comes by.
    pub device: Device,
    /// The packet's mark.
    pub mark: u32,
    /// The tunnel key that it has, at a tunnel device.
    pub tunnel: Option<TunnelKey>,
    /// The Ethernet frame.
    pub frame: Vec<u8>,
}

/// A device of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// The one that the hook hangs on, where that is one: not for the veths of pods.
    Own,
    /// The one of a name.
    Named(String),
    /// The one of an index, which need not be there.
    Index(u32),
}

/// The arrival of a frame that is given.
pub(super) fn arrival(world: &World, tables: &Tables, raw: &Raw) -> Result<Arrival, BackendError> {
    let here = enter::node(tables, raw.node)?;
    let (device, ifindex) = device(world, here, raw)?;
    Ok(Arrival {
        node: raw.node,
        hook: raw.hook,
        device,
        ifindex,
        mark: raw.mark,
        tunnel: raw.tunnel,
        frame: raw.frame.clone(),
        pinned: Pinned::all(),
        inside: None,
    })
}

/// Whether a question's packet enters where a given frame does: at the same hook of the same device, with the same mark.
/// What is in either frame is not compared.
pub fn enters_as(world: &World, tables: &Tables, raw: &Raw, question: &Question) -> bool {
    let net = Net { world, tables };
    let (Ok(given), Ok(asked)) = (arrival(world, tables, raw), enter::arrival(net, question))
    else {
        return false;
    };
    let place = |arrival: &Arrival| {
        (arrival.node, arrival.hook, arrival.ifindex, arrival.mark, arrival.tunnel)
    };
    place(&given) == place(&asked)
}

/// Name and index of the device that a frame comes by.
fn device(world: &World, here: &NodeTables, raw: &Raw) -> Result<(String, u32), BackendError> {
    let devices = devices(world, here, raw.hook);
    match &raw.device {
        Device::Index(index) => {
            let known = devices.iter().find(|(_, own)| own == index);
            Ok((known.map_or_else(|| format!("#{index}"), |(name, _)| name.clone()), *index))
        }
        Device::Named(name) => {
            devices.iter().find(|(own, _)| own == name).cloned().ok_or_else(|| {
                BackendError::BadInjection(format!(
                    "{} hangs on no device `{name}`, but on {}",
                    raw.hook,
                    names(&devices)
                ))
            })
        }
        Device::Own => match devices.as_slice() {
            [only] if !hangs_on_veths(raw.hook) => Ok(only.clone()),
            _ => Err(BackendError::BadInjection(format!(
                "{} hangs on the veths of pods: name one of {}",
                raw.hook,
                names(&devices)
            ))),
        },
    }
}

fn hangs_on_veths(hook: Hook) -> bool {
    matches!(hook, Hook::FromContainer | Hook::ToContainer)
}

fn names(devices: &[(String, u32)]) -> String {
    if devices.is_empty() {
        return "none of this node".to_owned();
    }
    devices.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Names and indices of the devices of a node that a program hangs on.
pub fn devices(world: &World, here: &NodeTables, hook: Hook) -> Vec<(String, u32)> {
    match hook {
        Hook::FromContainer | Hook::ToContainer => {
            let veths =
                here.endpoints.iter().filter(|entry| entry.endpoint != Endpoint::Host(here.node));
            veths.map(|entry| (entry.interface.clone(), entry.ifindex)).collect()
        }
        Hook::FromOverlay | Hook::ToOverlay => {
            vec![(here.tunnel.device.clone(), here.tunnel_ifindex)]
        }
        Hook::FromNetdev | Hook::ToNetdev | Hook::Prefilter => {
            let name = world.node(here.node).map(|node| node.device.clone());
            vec![(name.unwrap_or_default(), here.device_ifindex)]
        }
        Hook::FromHost | Hook::ToHost => vec![(HOST_DEVICE.to_owned(), here.host_ifindex)],
    }
}

/// The Ethernet addresses that a frame at a hook naturally has, for one that is written without: those of the veth,
/// of the underlay towards the outside, of the host's own device.
///
/// # Errors
/// As [`super::follow_from`] of the same place. `raw.frame` is not looked at.
pub fn ethernet(world: &World, tables: &Tables, raw: &Raw) -> Result<Ethernet, BackendError> {
    let here = enter::node(tables, raw.node)?;
    let (_, ifindex) = device(world, here, raw)?;
    let turned = |way: Ethernet| Ethernet { source: way.destination, destination: way.source };
    let outward = match here.endpoint_at(ifindex).filter(|_| hangs_on_veths(raw.hook)) {
        Some(entry) => Ethernet { source: entry.mac, destination: entry.host_mac },
        None => link::underlay(world, here, None).0,
    };
    Ok(match raw.hook {
        Hook::FromContainer | Hook::ToNetdev => outward,
        Hook::ToContainer | Hook::FromNetdev | Hook::Prefilter => turned(outward),
        Hook::FromOverlay | Hook::ToOverlay | Hook::FromHost | Hook::ToHost => {
            link::host_device(here)
        }
    })
}
