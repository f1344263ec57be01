//! A conntrack that forgets: what a full one has no room for is forgotten by the oracle too, and what is lost otherwise is
//! a divergence. Of the interpreter, so that no privileges are asked for.

mod crowded;

use std::cell::Cell;
use std::rc::Rc;

use engine::backend::{Backend, BackendError, Beside, Injection, Observation};
use engine::tables::Tables;
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter, Hit};
use repl::reply::{Reply, Status};
use repl::session::Session;

use crate::tree::root;

/// The interpreter, which loses all flows before a packet where it is told to, and may say that it is full.
struct Losing {
    vm: Box<dyn Backend>,
    loses: Rc<Cell<bool>>,
    full: bool,
}

impl Backend for Losing {
    fn name(&self) -> String {
        self.vm.name()
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        self.vm.load(tables)
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        if self.loses.take() {
            self.vm.forget()?;
        }
        self.vm.inject(injection)
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        self.vm.forget()
    }

    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        self.vm.conntrack(node, now)
    }

    fn is_full(&mut self, node: NodeId, is_v6: bool) -> Result<bool, BackendError> {
        Ok(self.full || self.vm.is_full(node, is_v6)?)
    }

    fn beside(&mut self, node: NodeId) -> Result<Option<Beside>, BackendError> {
        let beside = self.vm.beside(node)?;
        Ok(beside.map(|beside| Beside {
            is_full_of_clients: self.full || beside.is_full_of_clients,
            is_full_of_datagrams: self.full || beside.is_full_of_datagrams,
            ..beside
        }))
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        self.vm.counters(node)
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        self.vm.hits(node)
    }
}

/// A session of such a backend, and what tells it to lose.
fn session(full: bool) -> (Session, Rc<Cell<bool>>) {
    let loses = Rc::new(Cell::new(false));
    let told = Rc::clone(&loses);
    let session = Session::new(move |_| {
        let vm = datapath::vm::open()?;
        Ok(Box::new(Losing { vm, loses: Rc::clone(&told), full }) as Box<dyn Backend>)
    });
    (session, loses)
}

/// The answer to a packet of a flow that conntrack lost while another one was sent.
fn after_a_loss(full: bool) -> Reply {
    let (mut session, loses) = session(full);
    let loaded = session.load(&[root().join("fixtures/worlds/two-nodes.hop")]);
    assert_eq!(loaded.status, Status::Ok);
    let mut ask = |line: &str| session.execute(line);
    ask("set conntrack keep");
    assert_eq!(ask("shop/client -> shop/server:80 with reply").status, Status::Ok);
    loses.set(true);
    assert_eq!(ask("shop/client -> shop/server:80 from-port 5000").status, Status::Ok);
    ask("shop/client -> shop/server:80 ack")
}

#[test]
fn what_a_full_conntrack_forgets_is_news_to_nobody() {
    assert_eq!(after_a_loss(true).status, Status::Ok);
}

#[test]
fn a_flow_that_is_lost_while_there_is_room_is_a_divergence() {
    assert_eq!(after_a_loss(false).status, Status::Divergence);
}

/// A service whose clients keep to their backends.
const KEPT: &str = "
cluster lab { node node01 { ip 192.168.1.1 pods 10.1.0.0/24 } }
namespace shop {}
pod shop/client on node01 { ip 10.1.0.10 }
pod shop/web-0 on node01 { ip 10.1.0.20 labels { app = \"web\" } }
pod shop/web-1 on node01 { ip 10.1.0.21 labels { app = \"web\" } }
service shop/web { cluster-ip 10.96.0.20 port 80/tcp affinity client-ip select { app = \"web\" } }
";

/// How the last of some questions is answered, before which everything was lost while the one before it was sent.
fn asked(full: bool, questions: [&str; 3]) -> Status {
    let (mut session, loses) = session(full);
    assert_eq!(session.load_text("kept.hop", KEPT).status, Status::Ok);
    session.execute("set conntrack keep");
    let [first, other, last] = questions;
    assert_eq!(session.execute(first).status, Status::Ok, "{first}");
    loses.set(true);
    assert_eq!(session.execute(other).status, Status::Ok, "{other}");
    session.execute(last).status
}

#[test]
fn what_a_full_table_forgets_of_clients_and_datagrams_is_news_to_nobody() {
    let other = "shop/web-0 -> shop/web-1:9/udp";
    let piece = "shop/client -> shop/web-0:53/udp ip-id 7 fragment more";
    let rest = "shop/client -> shop/web-0 udp ip-id 7 fragment offset 1480";
    assert_eq!(asked(true, [piece, other, rest]), Status::Ok);
    assert_eq!(asked(false, [piece, other, rest]), Status::Divergence);
    // One of the two is not the one that the datapath chooses by itself.
    let kept = |full| {
        [0, 1].map(|n| {
            let first = format!("shop/client -> service shop/web:80 choose backend shop/web-{n}");
            asked(full, [&first, other, "shop/client -> service shop/web:80 from-port 5000"])
        })
    };
    assert_eq!(kept(true), [Status::Ok; 2]);
    assert!(kept(false).contains(&Status::Divergence));
}
