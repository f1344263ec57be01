//! What runs packets: the kernel today, an interpreter and live devices later. A backend takes tables
//! and frames and returns events; it never sees a policy and is never the oracle.

use std::collections::BTreeSet;
use std::net::IpAddr;

use thiserror::Error;

use crate::net::Hook;
use crate::tables::Tables;
use crate::topology::{NodeId, World};
use crate::trace::{ConntrackEntry, Counter, Hit, Place, Stamped};

/// The tunnel key that a frame arrives with at `from-overlay`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelKey {
    /// The VNI.
    pub vni: u32,
    /// Outer source address.
    pub source: IpAddr,
}

/// A frame put into one hook of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// The node.
    pub node: NodeId,
    /// The program.
    pub hook: Hook,
    /// Index of the device that the program hangs on.
    pub ifindex: u32,
    /// The packet's mark.
    pub mark: u32,
    /// The tunnel key, for `from-overlay`.
    pub tunnel: Option<TunnelKey>,
    /// The backend that a service shall choose for it, as an address and port of the node's tables, instead of its own choice.
    pub choose: Option<Place>,
    /// The simulated clock, in seconds from the start of the session; it stands still in between.
    pub now: u64,
    /// Ethernet frame, 14 to 3500 bytes.
    pub frame: Vec<u8>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// The program's return code.
    pub code: i32,
    /// Events in order.
    pub events: Vec<Stamped>,
    /// Events that did not fit the buffer.
    pub lost: u64,
    /// The frame afterwards (without any outer headers).
    pub frame: Vec<u8>,
    /// The packet's mark afterwards.
    pub mark: u32,
    /// What only real devices show.
    pub live: Option<Live>,
}

/// What real devices show of a run, beside what simulation shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// When it ended: nanoseconds of the kernel's monotonic clock.
    pub time: u64,
    /// The frame as it came.
    pub frame_in: Vec<u8>,
    /// The frame as it went over the wire, where it left the node encapsulated.
    pub outer: Option<Vec<u8>>,
    /// Whether the pod's device got it, where it was delivered to one.
    pub arrived: Option<bool>,
}

/// A flow as conntrack holds it, in the datapath's own layout, to bring it to another backend of the same programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Whether it is over IPv6.
    pub is_v6: bool,
    /// The key's bytes.
    pub key: Vec<u8>,
    /// The value's bytes; generations in it are the caller's.
    pub value: Vec<u8>,
}

/// A client that keeps to its backend: its address, the frontend's address and port, the protocol's number.
pub type Client = (IpAddr, IpAddr, u16, u8);

/// A datagram in pieces: source, destination, the protocol's number, identification.
pub type Datagram = (IpAddr, IpAddr, u8, u32);

/// What a node remembers beside flows, and whether a table has no room, so that it forgets some for new ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    /// Clients that keep to their backends.
    pub clients: BTreeSet<Client>,
    /// Whether those have no room.
    pub is_full_of_clients: bool,
    /// Datagrams whose first piece was seen.
    pub datagrams: BTreeSet<Datagram>,
    /// Whether those have no room.
    pub is_full_of_datagrams: bool,
}

/// Why a backend could not answer. Each says what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BackendError {
    /// The host lacks something.
    #[error("{what} is not available here")]
    Unsupported {
        /// What is missing.
        what: String,
        /// The remedy.
        remedy: String,
    },
    /// The world is none that this backend can make, whatever the host.
    #[error("this world cannot be made here: {what}")]
    Unhostable {
        /// What of it.
        what: String,
        /// The remedy.
        remedy: String,
    },
    /// The kernel refused a program.
    #[error("the kernel refused program `{program}`")]
    Refused {
        /// The program.
        program: String,
        /// The end of the verifier's log.
        log: String,
    },
    /// A map has no room.
    #[error("map `{map}` is full: {needed} entries needed, {capacity} fit")]
    Full {
        /// The map.
        map: String,
        /// Entries needed.
        needed: usize,
        /// Entries that fit.
        capacity: usize,
    },
    /// The packet cannot be run: nothing is loaded, an unknown node, a frame too short or too long. (An
    /// unknown device is no error: the datapath drops what comes by it.)
    #[error("the packet cannot enter: {0}")]
    BadInjection(String),
    /// The packet cannot be sent by the device that it is to leave by.
    #[error("{why}")]
    NotSent {
        /// Why.
        why: String,
        /// The remedy.
        remedy: String,
    },
    /// Events that cannot be read: program and library are of different versions.
    #[error("the datapath's events cannot be read: {0}")]
    BadEvent(String),
    /// A packet that programs were to see by themselves was not seen in time.
    #[error("{}", unseen(*.hook, .device, *.lost))]
    Unseen {
        /// The program that it was expected at.
        hook: Hook,
        /// Its device, by name or index.
        device: String,
        /// Events of the node that were lost meanwhile; what the program told of the packet may be among them.
        lost: u64,
    },
    /// Two backends that run the same programs differ: a bug of one of them.
    #[error("{one} and {other} differ: {what}")]
    Disagreement {
        /// The one.
        one: String,
        /// The other.
        other: String,
        /// In what.
        what: String,
    },
    /// The kernel returned an error.
    #[error("{call} failed: {error}")]
    System {
        /// The call.
        call: String,
        /// The error's text.
        error: String,
    },
}

/// That a program told nothing of a packet; where events were lost nobody knows whether it did.
fn unseen(hook: Hook, device: &str, lost: u64) -> String {
    match lost {
        0 => format!("{hook} at {device} did not see the packet"),
        1 => format!("1 event was lost, which {hook} at {device} may have told of the packet"),
        lost => format!(
            "{lost} events were lost, and what {hook} at {device} told of the packet may be among them"
        ),
    }
}

/// Something that runs packets through the datapath.
pub trait Backend {
    /// The name as answers print it, with a version: `kernel 6.18`.
    fn name(&self) -> String;

    /// Takes the tables; cheap when the generation is the one already loaded. Afterwards every run
    /// sees the new state; on an error the old state stays.
    fn load(&mut self, tables: &Tables) -> Result<(), BackendError>;

    /// The same, where the backend needs to know the world that the tables are of: devices are made after it.
    fn load_world(&mut self, _world: &World, tables: &Tables) -> Result<(), BackendError> {
        self.load(tables)
    }

    /// Runs one program on one frame. Conntrack is kept between calls.
    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError>;

    /// The same for a packet that a run before sent on its way: where packets go from program to program by themselves, waits for the
    /// run instead. [`BackendError::Unseen`] if there is none.
    fn carry(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.inject(injection)
    }

    /// Empties conntrack on every node.
    fn forget(&mut self) -> Result<(), BackendError>;

    /// Conntrack of a node at a moment of the simulated clock, by flow.
    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError>;

    /// Conntrack of a node as it lies there. Errors as of [`Backend::inject`]; a backend that cannot tell says so.
    fn remembered(&mut self, _node: NodeId) -> Result<Vec<Remembered>, BackendError> {
        Err(BackendError::Unsupported {
            what: format!("telling the flows of {}", self.name()),
            remedy: "`set conntrack fresh` asks without earlier flows".to_owned(),
        })
    }

    /// Adds flows to a node's conntrack. What was remembered under another generation than those that this backend
    /// has loaded counts for no packet.
    fn remember(&mut self, _node: NodeId, _flows: &[Remembered]) -> Result<(), BackendError> {
        Err(BackendError::Unsupported {
            what: format!("bringing flows to {}", self.name()),
            remedy: "`set conntrack fresh` asks without earlier flows".to_owned(),
        })
    }

    /// Whether a node's conntrack of a family has no room, so that it forgets flows for new ones.
    fn is_full(&mut self, _node: NodeId, _is_v6: bool) -> Result<bool, BackendError> {
        Ok(false)
    }

    /// What a node remembers beside flows; `None` of a backend that cannot tell.
    fn beside(&mut self, _node: NodeId) -> Result<Option<Beside>, BackendError> {
        Ok(None)
    }

    /// Counters of a node since it was loaded.
    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError>;

    /// How often each entry of a node's policy tables decided since these tables were loaded; entries that never did are left out.
    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError>;
}
