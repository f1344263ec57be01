//! Probes among other packets: the one with the mark is followed, whatever else passes of the same flow.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use datapath::frame;
use datapath::lab::{self, Role};
use datapath::live::{Mode, filter};
use engine::backend::Backend;
use engine::net::Packet;
use engine::source::FileId;
use engine::topology::NodeId;
use engine::trace::{Ethernet, Trace};

use super::{MUTE, WORLD, difference, follow, is_possible, loaded, tables};
use crate::cli::Folder;
use crate::kernel;

/// The mark of the probe; what else is sent has none, or another one.
const MARK: u32 = 0xA_BCDE;

/// Between two rounds of others.
const BETWEEN: Duration = Duration::from_micros(500);

fn of_both_families() -> String {
    WORLD
        .replace("pods 10.1.0.0/24", "pods 10.1.0.0/24, fd01::/64")
        .replace("pods 10.2.0.0/24", "pods 10.2.0.0/24, fd02::/64")
        .replace("ip 10.1.0.10", "ip 10.1.0.10, fd01::10")
        .replace("ip 10.2.0.10", "ip 10.2.0.10, fd02::10")
}

/// The flow labels of the packet at every hop, as it came and as it left, in the tunnel too.
fn labels(trace: &Trace) -> Vec<u32> {
    let label = |bytes: &[u8]| bytes.first_chunk().map(|word| u32::from_be_bytes(*word) & 0xF_FFFF);
    let frames = trace.hops.iter().flat_map(|hop| [&hop.frame_in, &hop.frame_out]);
    let inner = |frame: &Vec<u8>| {
        // Ethernet; of a tunnel over IPv4 its headers and those of the frame inside before it.
        let skip = if frame.get(12) == Some(&0x86) { 14 } else { 14 + 20 + 8 + 8 + 14 };
        label(frame.get(skip..)?)
    };
    frames.filter_map(inner).collect()
}

#[test]
fn an_ipv6_probe_is_known_by_its_flow_label_among_packets_of_the_same_flow() {
    if !is_possible() {
        return;
    }
    let loaded = loaded(&of_both_families());
    let tables = tables(&loaded);
    let mut live = lab::open(&loaded.world, &tables, MUTE).expect("a lab can host it");
    let text = format!("shop/client -> shop/server:80 ip6 flow-label {MARK}");
    let parsed = lang::command::parse_question(&text, FileId::default()).expect("a question");
    let question = lang::resolve::question(&loaded.world, &parsed).expect("names of this world");
    let entry = tables.nodes[0].endpoints[0].clone();
    let ethernet = Ethernet { source: entry.mac, destination: entry.host_mac };
    let others: Vec<Vec<u8>> = [0, MARK - 1, MARK ^ 0x8_0000]
        .map(|flow_label| {
            let mut other: Packet = question.packet.clone();
            other.ip.flow_label = flow_label;
            frame::build(&other, ethernet).expect("it fits")
        })
        .to_vec();
    let port = live.wires(|wires| wires.lab().port(Role::Pod(NodeId(0), entry.id), "eth0"));
    let port = port.expect("the pod has a device");
    let (is_over, sent) = (AtomicBool::new(false), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for other in &others {
                    port.send(other).expect("it is sent");
                }
                sent.store(true, Ordering::Relaxed);
                // A flood would have the kernel drop the probe.
                std::thread::sleep(BETWEEN);
            }
        });
        while !sent.load(Ordering::Relaxed) {
            std::thread::yield_now();
        }
        let mode = Mode {
            trace: true,
            capture: true,
            filter: Some(filter::marked(MARK, true)),
            ..Mode::default()
        };
        for node in [NodeId(0), NodeId(1)] {
            let programs = live.programs(node).expect("they are loaded");
            programs.runs().expect("they are read");
            programs.set_mode(mode).expect("they are told");
        }
        let trace = follow(&mut live, &loaded.world, &tables, &question, 0);
        is_over.store(true, Ordering::Relaxed);
        let trace = trace.expect("it is followed");
        assert_eq!((trace.hops.len(), trace.unseen.clone(), trace.lost), (2, None, 0));
        assert_eq!(labels(&trace), [MARK; 4]);
        let mut runs =
            |node| live.programs(node).expect("they are loaded").runs().expect("they are read");
        let others = [NodeId(0), NodeId(1)].map(|node| runs(node).0.len());
        assert_eq!(others, [0, 0], "programs told of packets without the mark");
    });
    // The flow is known by now, to the others' packets: what simulation says of a new one is of its frames.
    let mut simulated = repl::backend::open(kernel::both()).expect("the kernel can be had");
    simulated.load(&tables).expect("the tables fit");
    live.forget().expect("it forgets");
    let again = follow(&mut live, &loaded.world, &tables, &question, 0).expect("it is followed");
    let same = follow(&mut *simulated, &loaded.world, &tables, &question, 0);
    assert_eq!(difference(&same.expect("it is followed"), &again, &loaded.world), None);
}

/// By the command line: a probe of IPv6 has a mark of its own, and is simulated with it.
#[test]
fn an_ipv6_probe_has_a_mark() {
    if !is_possible() {
        return;
    }
    let home = crate::labs::named::Home::new("mark");
    let folder = Folder::new("mark", &[("six.hop", of_both_families().as_bytes())]);
    let run = |arguments: &[&str]| {
        crate::binary::seen(&home.hopwise(arguments).output().expect("it runs"))
    };
    let (text, code) = run(&["lab", "up", "demo", "-f", &folder.path("six.hop")]);
    assert_eq!(code, 0, "{text}");
    let question =
        ["trace", "--live", "--on", "demo", "--compare", "shop/client -> shop/server:80 ip6"];
    let (text, code) = run(&question);
    assert_eq!(code, 0, "{text}");
    for part in ["ALLOWED", "SYN, flow label ", " simulates the same, hop by hop"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // What is asked for stays.
    let asked = "shop/client -> shop/server:80 ip6 flow-label 7 from-port 4711";
    let (text, code) = run(&["trace", "--live", "--on", "demo", "--compare", asked]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("[fd01::10]:4711 -> ") && text.contains("SYN, flow label 7\n"), "{text}");
}
