//! Captures read and written, damaged and foreign ones among them.

use std::io::Cursor;

use super::read::from;
use super::{capture, is_ours};
use crate::sample;

fn read(bytes: &[u8], number: u32) -> Result<Vec<u8>, String> {
    from(Cursor::new(bytes), number).map_err(|problem| problem.message)
}

/// A file in the classic format, of a link type, with packets and the lengths that they had on the wire.
fn classic(magic: u32, link: u32, packets: &[(&[u8], u32)]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(magic.to_le_bytes());
    file.extend([2, 0, 4, 0]);
    for word in [0, 0, 65535, link] {
        file.extend(u32::to_le_bytes(word));
    }
    for (data, length) in packets {
        for word in [7, 9, u32::try_from(data.len()).unwrap(), *length] {
            file.extend(word.to_le_bytes());
        }
        file.extend(*data);
    }
    file
}

const MICROSECONDS: u32 = 0xA1B2_C3D4;
const NANOSECONDS: u32 = 0xA1B2_3C4D;

#[test]
fn classic_captures_are_read() {
    for magic in [MICROSECONDS, NANOSECONDS] {
        let file = classic(magic, 1, &[(&[1; 20], 20), (&[2; 14], 60), (&[3; 30], 30)]);
        assert_eq!(read(&file, 1), Ok(vec![1; 20]));
        assert_eq!(read(&file, 3), Ok(vec![3; 30]));
        let cut = "the packet was cut: 14 of its 60 bytes are there";
        assert_eq!(read(&file, 2), Err(cut.to_owned()));
        let beyond = "it holds 3 packets, and no number 4";
        assert_eq!(read(&file, 4), Err(beyond.to_owned()));
    }
    assert_eq!(read(&classic(MICROSECONDS, 1, &[]), 1), Err("it holds no packets".to_owned()));
}

#[test]
fn what_is_no_capture_of_ethernet_is_refused() {
    let cooked = classic(MICROSECONDS, 113, &[(&[1; 20], 20)]);
    let said = read(&cooked, 1).unwrap_err();
    assert_eq!(said, "its link type is LINUX_SLL, not Ethernet");
    for bytes in [&b""[..], b"abc", b"cluster c {}", &[0; 64]] {
        let said = read(bytes, 1).unwrap_err();
        assert_eq!(said, "it is no capture: it begins neither as pcap nor as pcapng");
    }
    let mut half = classic(MICROSECONDS, 1, &[(&[1; 20], 20), (&[2; 20], 20)]);
    half.truncate(half.len() - 1);
    assert_eq!(read(&half, 1), Ok(vec![1; 20]));
    let said = read(&half, 2).unwrap_err();
    assert_eq!(said, "it is damaged behind packet 1: it ends in the middle of a packet");
}

#[test]
fn an_answer_is_written_and_read_back() {
    let answer = sample::tunneled();
    let file = capture(&answer, &engine::topology::World::default()).unwrap();
    assert!(is_ours(&file[..]));
    assert!(!is_ours(&classic(MICROSECONDS, 1, &[])[..]));
    assert!(!is_ours(&b"text"[..]));
    assert_eq!(read(&file, 1), Ok(answer.hops[0].frame_in.clone()));
    for (number, hop) in (2..).zip(&answer.hops) {
        assert_eq!(read(&file, number), Ok(hop.frame.clone()), "{number}");
    }
    let text = String::from_utf8_lossy(&file);
    for said in ["ALLOWED", "node01 lxc_client", "checked ", "tunnel "] {
        assert!(text.contains(said), "{said}: {text}");
    }
    assert_eq!(file, capture(&answer, &engine::topology::World::default()).unwrap());
}

#[test]
fn a_drop_is_told_where_the_frame_was_seen_last() {
    let mut answer = sample::tunneled();
    answer.hops.truncate(1);
    answer.hops[0].frame.clear();
    let file = capture(&answer, &engine::topology::World::default()).unwrap();
    assert!(read(&file, 1).is_ok());
    assert_eq!(read(&file, 2), Err("it holds 1 packet, and no number 2".to_owned()));
    assert!(String::from_utf8_lossy(&file).contains("from-container"));
}

/// A small generator; the same numbers for the same seed.
fn numbers(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 0xFFFF_FFFF).unwrap_or(0) % below.max(1)
    }
}

#[test]
fn garbage_is_read_or_refused() {
    let answer = sample::tunneled();
    let pcapng = capture(&answer, &engine::topology::World::default()).unwrap();
    let pcap = classic(MICROSECONDS, 1, &[(&[1; 60], 60), (&[2; 60], 60), (&[3; 60], 60)]);
    for whole in [&pcapng, &pcap] {
        for end in 0..whole.len() {
            for number in 1..4 {
                let _ = read(&whole[..end], number);
                let _ = is_ours(&whole[..end]);
            }
        }
    }
    for seed in 0..2000 {
        let mut next = numbers(seed);
        let mut bytes = if seed % 2 == 0 { pcapng.clone() } else { pcap.clone() };
        for _ in 0..=next(6) {
            let at = next(bytes.len());
            match next(4) {
                0 => bytes.truncate(at.max(4)),
                1 => bytes[at] = u8::try_from(next(256)).unwrap(),
                2 => bytes[at] = 0xff,
                _ => {
                    bytes.insert(at, u8::try_from(next(256)).unwrap());
                }
            }
        }
        let _ = (read(&bytes, 1), read(&bytes, 3), is_ours(&bytes[..]));
        // Noise behind a beginning that is right.
        let noise = (0..next(200)).map(|_| u8::try_from(next(256)).unwrap());
        let noise: Vec<u8> = bytes[..4].iter().copied().chain(noise).collect();
        let _ = (read(&noise, 1), is_ours(&noise[..]));
    }
}
