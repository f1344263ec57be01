//! Random scenarios on conntracks that are always full: with many a packet a flow is forgotten, whichever it is, of a pod, of a node or
//! of the tunnel. The oracle is told, and agrees.

use std::collections::{BTreeMap, BTreeSet};

use engine::backend::{Backend, BackendError, Beside, Injection, Observation, Remembered};
use engine::tables::Tables;
use engine::topology::NodeId;
use engine::trace::{ConntrackEntry, Counter, Hit};
use repl::reply::Status;
use repl::session::Session;

use crate::differential;
use crate::kernel;

/// The interpreter, which forgets one thing after many a packet, as if there were no room for more.
struct Crowded {
    vm: Box<dyn Backend>,
    nodes: Vec<NodeId>,
    /// What each node knew when it was last asked, between two packets.
    known: BTreeMap<NodeId, BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Nodes that ran a packet since.
    used: BTreeSet<NodeId>,
    dice: u64,
}

impl Crowded {
    /// A number below another one.
    fn below(&mut self, end: usize) -> usize {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.dice >> 33).unwrap_or_default() % end.max(1)
    }

    fn all(&mut self) -> Result<Vec<(NodeId, Vec<Remembered>)>, BackendError> {
        let each = self.nodes.iter().map(|node| Ok((*node, self.vm.remembered(*node)?)));
        each.collect()
    }

    /// Forgets one of what a node knew before the packet, and that did not use.
    fn lose(&mut self, node: NodeId) -> Result<(), BackendError> {
        let known = self.all()?;
        let before = self.known.entry(node).or_default();
        let here = known.iter().filter(|(at, _)| *at == node).flat_map(|(_, rows)| rows);
        let unused = here.filter(|row| before.get(&row.key) == Some(&row.value));
        let unused: Vec<_> = unused.map(|row| row.key.clone()).collect();
        let lost = self.below(unused.len());
        let Some(lost) = unused.get(lost) else { return Ok(()) };
        self.vm.forget()?;
        for (at, mut known) in known {
            known.retain(|row| at != node || row.key != *lost);
            self.vm.remember(at, &known)?;
        }
        Ok(())
    }
}

impl Backend for Crowded {
    fn name(&self) -> String {
        self.vm.name()
    }

    fn load(&mut self, tables: &Tables) -> Result<(), BackendError> {
        self.nodes = tables.nodes.iter().map(|node| node.node).collect();
        self.vm.load(tables)
    }

    fn inject(&mut self, injection: &Injection) -> Result<Observation, BackendError> {
        self.used.insert(injection.node);
        self.vm.inject(injection)
    }

    fn forget(&mut self) -> Result<(), BackendError> {
        self.vm.forget()
    }

    fn conntrack(&mut self, node: NodeId, now: u64) -> Result<Vec<ConntrackEntry>, BackendError> {
        if self.used.remove(&node) && self.below(3) == 0 {
            self.lose(node)?;
        }
        let known = self.vm.remembered(node)?;
        self.known.insert(node, known.into_iter().map(|row| (row.key, row.value)).collect());
        self.vm.conntrack(node, now)
    }

    fn is_full(&mut self, _: NodeId, _: bool) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn beside(&mut self, node: NodeId) -> Result<Option<Beside>, BackendError> {
        let beside = self.vm.beside(node)?;
        let full = |b| Beside { is_full_of_clients: true, is_full_of_datagrams: true, ..b };
        Ok(beside.map(full))
    }

    fn counters(&mut self, node: NodeId) -> Result<Vec<Counter>, BackendError> {
        self.vm.counters(node)
    }

    fn hits(&mut self, node: NodeId) -> Result<Vec<Hit>, BackendError> {
        self.vm.hits(node)
    }
}

/// Scenarios of one run; `HOPWISE_SCENARIOS` sets another number, `HOPWISE_SEED` the first seed.
const SCENARIOS: u64 = 60;

#[test]
fn what_full_tables_forget_of_any_flow_the_oracle_forgets() {
    let first = differential::number("HOPWISE_SEED").unwrap_or(0);
    let number = differential::number("HOPWISE_SCENARIOS").unwrap_or(SCENARIOS);
    let (mut packets, mut differing) = (0, Vec::new());
    for seed in first..first + number {
        let Some((world, lines)) = differential::under_host_firewall(seed) else { continue };
        let mut session = Session::new(move |_| {
            let (vm, nodes, used) = (datapath::vm::open()?, Vec::new(), BTreeSet::new());
            let known = BTreeMap::new();
            Ok(Box::new(Crowded { vm, nodes, known, used, dice: seed }) as Box<dyn Backend>)
        });
        let loaded = session.load_text("random.hop", &world);
        assert!(loaded.is_ok(), "{}\n{world}", kernel::text(&loaded));
        session.execute("set conntrack keep");
        for (at, line) in lines.iter().enumerate() {
            let reply = session.execute(line);
            packets += usize::from(line.contains("->"));
            if reply.status == Status::Divergence {
                let said = lines[..=at].join("\n");
                differing.push(format!("seed {seed}:\n{world}\n{said}\n{}", kernel::text(&reply)));
                break;
            }
        }
    }
    assert!(differing.is_empty(), "{} differ:\n{}", differing.len(), differing.join("\n"));
    assert!(packets > 100, "only {packets} packets");
}
