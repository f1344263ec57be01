//! Sides of a packet as its bytes say.

use crate::explain::ends;
use crate::net::Protocol;
use crate::trace::Place;

use super::events::*;
use super::shop::*;

fn v6(next: u8, rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 54];
    bytes[14] = 0x60;
    bytes[20] = next;
    bytes[37] = 1;
    bytes[53] = 2;
    bytes.extend(rest);
    bytes
}

fn sides(frame: &[u8]) -> String {
    let Some(ends) = ends(frame) else { return "none".to_owned() };
    let ports = if ends.has_ports { "" } else { " without ports" };
    format!("{} {} -> {}{ports}", ends.protocol, ends.source, ends.destination)
}

#[test]
fn ports_and_identifiers() {
    let (source, destination) = (place("10.0.0.1", 40312), place("10.0.0.2", 80));
    let mut tcp = between(source, destination);
    assert_eq!(ends(&tcp).map(|e| (e.source, e.destination)), Some((source, destination)));
    tcp[20..22].copy_from_slice(&[0, 5]);
    assert_eq!(sides(&tcp), "tcp 10.0.0.1:0 -> 10.0.0.2:0 without ports", "a later fragment");

    let mut echo = between(place("10.0.0.1", 0x0800), place("10.0.0.2", 0));
    echo[23] = 1;
    echo.extend([1, 0xf6, 0, 1]);
    assert_eq!(sides(&echo), "icmp 10.0.0.1:502 -> 10.0.0.2:502");
    echo[34] = 3;
    assert_eq!(sides(&echo), "icmp 10.0.0.1:0 -> 10.0.0.2:0 without ports", "an error");
}

#[test]
fn options_and_extension_headers_are_looked_past() {
    let mut frame = between(place("10.0.0.1", 1), place("10.0.0.2", 2));
    frame[14] = 0x46;
    frame.splice(34..34, [1; 4]);
    assert_eq!(sides(&frame), "tcp 10.0.0.1:1 -> 10.0.0.2:2");

    let udp = [0, 1, 0, 2, 0, 8, 0, 0];
    assert_eq!(sides(&v6(17, &udp)), "udp [::1]:1 -> [::2]:2");
    let behind = [&[17, 0, 0, 0, 0, 0, 0, 0][..], &udp].concat();
    assert_eq!(sides(&v6(0, &behind)), "udp [::1]:1 -> [::2]:2");
    let first = [&[17, 0, 0, 1, 0, 0, 0, 7][..], &udp].concat();
    assert_eq!(sides(&v6(44, &first)), "udp [::1]:1 -> [::2]:2");
    let later = [&[17, 0, 0, 9, 0, 0, 0, 7][..], &udp].concat();
    assert_eq!(sides(&v6(44, &later)), "udp [::1]:0 -> [::2]:0 without ports");
}

#[test]
fn what_is_no_packet_has_no_sides() {
    for frame in [&[][..], &[0; 14], &[0x45; 20], &v6(6, &[])[..40]] {
        assert_eq!(ends(frame), None, "{frame:?}");
    }
    let cut = &v6(6, &[]);
    let ends = ends(cut).expect("the addresses are there");
    assert_eq!((ends.protocol, ends.has_ports), (Protocol::Tcp, false));
    let zero = Place { port: 0, ..ends.source };
    assert_eq!(ends.source, zero);
}
