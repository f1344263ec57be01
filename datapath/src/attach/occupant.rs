//! What hangs on a device: programs by tcx, filters of a clsact or ingress qdisc, XDP. And such qdiscs themselves, for whoever puts one
//! there to hang something on it.

use std::io;

use aya::programs::{SchedClassifier, TcAttachType};
use libbpf_rs::query::ProgInfoIter;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::inventory;
use super::netlink;
use crate::live::{Side, index};

/// How something hangs on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By a link, before all filters.
    Tcx,
    /// By a filter.
    Filter,
    /// Before the kernel has a packet.
    Xdp,
}

/// Something that hangs on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occupant {
    /// On which side.
    pub side: Side,
    /// How.
    pub by: By,
    /// The program's name, or the kind of the filter.
    pub name: String,
    /// The program's number; `None`: it is no program.
    pub id: Option<u32>,
}

impl std::fmt::Display for Occupant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = match self.side {
            Side::Xdp => "XDP",
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        };
        match self.id {
            Some(id) => write!(f, "program `{}` (id {id}, {side})", self.name),
            None => write!(f, "a filter of kind `{}` ({side})", self.name),
        }
    }
}

const CLSACT: &str = "clsact";
const INGRESS: &str = "ingress";

/// What hangs on a device of the calling thread's namespace, on either side.
pub fn occupants(device: &str, index: u32) -> io::Result<Vec<Occupant>> {
    let mut found = Vec::new();
    for (side, kind) in
        [(Side::Ingress, TcAttachType::Ingress), (Side::Egress, TcAttachType::Egress)]
    {
        // A kernel without tcx has none.
        if let Ok((_, programs)) = SchedClassifier::query_tcx(device, kind) {
            found.extend(programs.into_iter().map(|program| Occupant {
                side,
                by: By::Tcx,
                name: program.name_as_str().unwrap_or_default().to_owned(),
                id: Some(program.id()),
            }));
        }
        found.extend(filters(side, index)?);
    }
    if let Some(id) = inventory::xdp_of(index)? {
        let name = ProgInfoIter::default().find(|program| program.id == id);
        let name = name.map(|program| program.name.to_string_lossy().into_owned());
        found.push(Occupant {
            side: Side::Xdp,
            by: By::Xdp,
            name: name.unwrap_or_default(),
            id: Some(id),
        });
    }
    Ok(found)
}

fn filters(side: Side, index: u32) -> io::Result<Vec<Occupant>> {
    let minor = if side == Side::Egress { TcHandle::MIN_EGRESS } else { TcHandle::MIN_INGRESS };
    let mut question = TcMessage::default();
    question.header.index = i32::try_from(index).unwrap_or_default();
    question.header.parent = TcHandle { major: 0xFFFF, minor };
    let mut found: Vec<Occupant> = Vec::new();
    for answer in netlink::list(RouteNetlinkMessage::GetTrafficFilter(question))? {
        let RouteNetlinkMessage::NewTrafficFilter(filter) = answer else { continue };
        // A filter of many rules is told once without any.
        if filter.header.handle == (TcHandle { major: 0, minor: 0 }) {
            continue;
        }
        let mut occupant = Occupant { side, by: By::Filter, name: String::new(), id: None };
        for attribute in &filter.attributes {
            match attribute {
                TcAttribute::Kind(kind) if occupant.name.is_empty() => {
                    occupant.name.clone_from(kind);
                }
                TcAttribute::Options(options) => {
                    for option in options {
                        match option {
                            TcOption::Bpf(TcFilterBpfOption::ProgName(name)) => {
                                occupant.name.clone_from(name);
                            }
                            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => {
                                occupant.id = Some(*id);
                            }
                            _ => {}
                        }
                    }
                }
                _ => {}
            }
        }
        found.push(occupant);
    }
    Ok(found)
}

/// Whether a device of the calling thread's namespace has a clsact qdisc.
pub fn clsact(index: u32) -> io::Result<bool> {
    has_qdisc(index, CLSACT)
}

fn has_qdisc(index: u32, wanted: &str) -> io::Result<bool> {
    let is_it = |qdisc: &TcMessage| {
        qdisc
            .attributes
            .iter()
            .any(|part| matches!(part, TcAttribute::Kind(kind) if kind == wanted))
    };
    let mut question = TcMessage::default();
    question.header.index = i32::try_from(index).unwrap_or_default();
    let answers = netlink::list(RouteNetlinkMessage::GetQueueDiscipline(question))?;
    Ok(answers.iter().any(|answer| match answer {
        // Some kernels list those of all devices.
        RouteNetlinkMessage::NewQueueDiscipline(qdisc) => {
            u32::try_from(qdisc.header.index) == Ok(index) && is_it(qdisc)
        }
        _ => false,
    }))
}

/// Whether a device of the calling thread's namespace has an ingress qdisc, which leaves no place for filters at its egress.
pub fn has_ingress(index: u32) -> io::Result<bool> {
    has_qdisc(index, INGRESS)
}

/// Removes the clsact qdisc of a device of the calling thread's namespace, unless somebody else has hung something on it.
pub fn remove_clsact(index: u32) -> io::Result<()> {
    let is_used = |side| filters(side, index).map(|filters| !filters.is_empty());
    if !clsact(index)? || is_used(Side::Ingress)? || is_used(Side::Egress)? {
        return Ok(());
    }
    let mut message = TcMessage::default();
    message.header.index = i32::try_from(index).unwrap_or_default();
    message.header.parent = TcHandle { major: 0xFFFF, minor: 0xFFF1 };
    message.header.handle = TcHandle { major: 0xFFFF, minor: 0 };
    message.attributes.push(TcAttribute::Kind(CLSACT.to_owned()));
    netlink::order(RouteNetlinkMessage::DelQueueDiscipline(message))
}

/// Whether a program hangs on a side of a device of the calling thread's namespace; false where the device is gone.
pub fn hangs(device: &str, side: Side, id: u32) -> bool {
    let Some(index) = index(device) else { return false };
    let on = occupants(device, index).unwrap_or_default();
    on.iter().any(|occupant| occupant.side == side && occupant.id == Some(id))
}
