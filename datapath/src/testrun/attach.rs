//! One node's programs on devices of the network namespace that the calling thread is in, by TC: live, without the
//! simulation's seam. For tests of what the kernel's own devices make of them; answers no question.

use std::os::fd::AsFd;
use std::rc::Rc;

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::net::Hook;
use engine::tables::Tables;
use engine::topology::NodeId;
use engine::trace::Stamped;
use libbpf_rs::{TC_EGRESS, TC_INGRESS, TcHookBuilder};

use super::instance::{Instance, program, put};
use super::{LIMITS, privileges, refusal};
use crate::nodes::{self, Capacity, HOOKS};
use crate::object::Object;
use crate::{decode, encode};

/// The number of the generation, and so of the slot.
const NUMBER: u32 = 1;
/// Ticks of the kernel's clock in a second, as most kernels are built.
const TICKS: u32 = 250;

/// The programs and maps of a node. Devices keep what was attached to them until they go.
pub struct Attached {
    instance: Instance,
}

impl Attached {
    /// Makes the maps and fills them with a node's tables, whose device indices must be those of the devices.
    pub fn open(tables: &Tables, node: NodeId) -> Result<Self, BackendError> {
        privileges::check()?;
        let Some(own) = tables.node(node) else {
            return Err(BackendError::BadInjection(format!("there is no node {}", node.index())));
        };
        let ends = encode::tunnel_addresses(tables);
        let slot = Rc::new(encode::encode(own, &ends, NUMBER & 1, &LIMITS)?);
        let mut instance = Instance::open(&Rc::new(Object::find()?), Capacity::of(&slot))?;
        nodes::fill(&mut instance, &slot)?;
        nodes::activate(&mut instance, NUMBER)?;
        let config = abi::Config {
            abi: abi::ABI_VERSION,
            flags: abi::config::TRACE | abi::config::DELIVER_BY_PEER,
            ticks_per_second: TICKS,
            reserved: 0,
        };
        put(&instance.map(abi::maps::CONFIG)?, &0_u32, &config)?;
        Ok(Self { instance })
    }

    /// Hangs the program of a hook on a device, on the side that the hook is on.
    pub fn attach(&self, hook: Hook, ifindex: u32) -> Result<(), BackendError> {
        let number = usize::from(decode::hook_number(hook));
        let (name, side) = match hook {
            Hook::Prefilter => {
                let error = "the prefilter is no program of TC".to_owned();
                return Err(BackendError::BadInjection(error));
            }
            Hook::FromContainer | Hook::FromOverlay | Hook::FromNetdev | Hook::ToHost => {
                (HOOKS[number], TC_INGRESS)
            }
            Hook::ToContainer | Hook::ToOverlay | Hook::ToNetdev | Hook::FromHost => {
                (HOOKS[number], TC_EGRESS)
            }
        };
        let loaded = self.instance.load(name)?;
        let program = program(&loaded, name)?;
        let refused = refusal::of_call("attaching a program");
        TcHookBuilder::new(program.as_fd())
            .ifindex(ifindex.cast_signed())
            .handle(1)
            .priority(1)
            .replace(true)
            .hook(side)
            .create()
            .and_then(|mut hook| hook.attach())
            .map_err(refused)?;
        Ok(())
    }

    /// What the programs said since the last time, in order; an error where some of it was lost.
    pub fn events(&mut self) -> Result<Vec<Stamped>, BackendError> {
        let (records, lost) = self.instance.collect()?;
        if lost > 0 {
            return Err(BackendError::BadEvent(format!("{lost} events were lost")));
        }
        records.iter().map(|record| decode::event(record)).collect()
    }
}
