//! Frames of any bytes at hooks: answered or refused, and never with two opinions where both are asked.

use repl::render;
use repl::reply::{Content, Status};

use crate::kernel;

const WORLD: &str = "cluster lab {\n  node node01 { ip 192.168.1.1, fd00:1::1 pods 10.1.0.0/24, fd00:a::/64 }\n  \
    node node02 { ip 192.168.1.2, fd00:1::2 pods 10.2.0.0/24, fd00:b::/64 }\n}\nnamespace shop {}\n\
    pod shop/client on node01 { ip 10.1.0.10, fd00:a::10 labels { app = \"client\" } }\n\
    pod shop/near on node01 { ip 10.1.0.11, fd00:a::11 labels { app = \"near\" } }\n\
    pod shop/server on node02 { ip 10.2.0.10, fd00:b::10 labels { app = \"server\" } }\n\
    service shop/api { cluster-ip 10.96.0.20 port 80/tcp node-port 30080 select { app = \"server\" } }\n\
    policy shop/server { select { app = \"server\" } allow ingress from pods { app = \"client\" } on 80/tcp }\n\
    policy shop/near { select { app = \"near\" } allow ingress from entities world on icmp }\n";

/// Layers that frames are made from before they are damaged.
const PACKETS: [&str; 10] = [
    "ipv4 10.1.0.10 > 10.2.0.10 / tcp 1000 > 80 syn",
    "ipv4 10.1.0.10 > 10.1.0.11 / icmp",
    "ipv4 10.1.0.10 > 10.96.0.20 / tcp 1000 > 80 syn / payload \"abcdef\"",
    "ipv4 10.1.0.10 > 8.8.8.8 / udp 1000 > 53 / payload \"abc\"",
    "ipv4 10.1.0.10 > 10.2.0.10 fragment more / tcp 1000 > 80 syn",
    "ipv4 10.1.0.10 > 10.2.0.10 fragment offset 8 proto 17 / payload \"abcdefgh\"",
    "ipv6 fd00:a::10 > fd00:b::10 / tcp 1000 > 80 syn",
    "ipv6 fd00:a::10 > fd00:a::11 extensions hop-by-hop, destination / icmpv6",
    "ipv4 198.51.100.7 > 10.1.0.11 / icmp",
    "ipv4 198.51.100.7 > 192.168.1.1 / tcp 4000 > 30080 syn",
];

const HOOKS: [&str; 4] = [
    "from-container on shop/client",
    "node01 from-netdev",
    "node02 from-overlay vni 256 from 192.168.1.1",
    "node01 to-netdev mark 0xc00",
];

/// A small generator; the same numbers for the same seed.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 0xFFFF_FFFF).unwrap_or(0) % below.max(1)
    }
}

/// The bytes of an answer's first frame.
fn entered(content: &Content) -> Vec<u8> {
    match content {
        Content::Answer(answer) => answer.explanation.hops[0].frame_in.clone(),
        other => panic!("no answer: {other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn damaged_frames_are_answered_or_refused_and_never_in_two_ways() {
    let mut session = kernel::session();
    session.settings_mut().set("backend", "vm").expect("the interpreter is a backend");
    let reply = session.execute(WORLD);
    assert!(reply.is_ok(), "{:?}", reply.content);
    let mut wrong = Vec::new();
    let mut both = 0;
    for (seed, packet) in (0..).zip(PACKETS.iter().cycle().take(1000)) {
        let mut next = numbers(seed);
        let hook = HOOKS[next(HOOKS.len())];
        let reply = session.execute(&format!("trace --at {hook} {packet}"));
        let mut frame = entered(&reply.content);
        for _ in 0..next(4) {
            let at = 12 + next(frame.len() - 12);
            match next(8) {
                0 => frame.truncate(at.max(14)),
                1 => frame.extend([0; 6]),
                _ => frame[at] = u8::try_from(next(256)).unwrap_or(0),
            }
        }
        let question = format!("trace --at {hook} hex {}", hex(&frame));
        let reply = session.execute(&question);
        let mut text = Vec::new();
        render::text(&reply, &render::Options::default(), &mut text).expect("memory takes all");
        let text = String::from_utf8_lossy(&text).into_owned();
        both += usize::from(text.contains("oracle agrees"));
        if reply.status == Status::Divergence {
            wrong.push(format!("{packet}\n{question}\n{text}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    assert!(both > 100, "the oracle was asked {both} times");
}
