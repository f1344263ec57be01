//! A conntrack that forgets: what a full one has no room for is forgotten by the oracle too, and what is lost otherwise is
//! a divergence. Of the interpreter, so that no privileges are asked for.

use std::cell::Cell;
use std::rc::Rc;

use engine::backend::{Backend, BackendError, Injection, Observation};
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

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        self.vm.counters(node)
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        self.vm.hits(node)
    }
}

/// The answer to a packet of a flow that conntrack lost while another one was sent.
fn after_a_loss(full: bool) -> Reply {
    let loses = Rc::new(Cell::new(false));
    let told = Rc::clone(&loses);
    let mut session = Session::new(move |_| {
        let vm = datapath::vm::open()?;
        Ok(Box::new(Losing { vm, loses: Rc::clone(&told), full }) as Box<dyn Backend>)
    });
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
