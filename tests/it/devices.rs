//! The programs on the kernel's own tunnel devices, in network namespaces of the test's own: what such a device sends is
//! byte for byte the frame that is simulated, but for what is listed as undetermined; what it gets from the wire reaches
//! the pod in the same way as simulated. A kernel without the device skips the test, which `HOPWISE_REQUIRE=vxlan`
//! or `geneve` makes a failure.

mod lab;
mod namespace;

use std::net::UdpSocket;

use datapath::frame::{self, Outer};
use engine::topology::TunnelKind;
use engine::trace::{Ethernet, Event};

use crate::kernel;
use lab::{Family, Lab, Scene};

/// From the pod of the node to one that is allowed to hear it, on the other node.
const OUT: &str = "shop/client -> shop/server:80/tcp";
/// The other way, allowed.
const IN: &str = "shop/server -> shop/client:9000/udp";
/// From a pod whose identity the client's policy does not allow.
const STRANGER: &str = "shop/other -> shop/client:9000/udp";

/// Runs a test on devices of a kind over both families of underlay, on a thread whose namespaces go with it.
fn on_devices(kind: TunnelKind, test: fn(&mut Scene, &mut Lab)) {
    if !kernel::require() {
        return;
    }
    for family in [Family::V4, Family::V6] {
        let thread = std::thread::spawn(move || {
            let mut scene = Scene::open(kind, family);
            match Lab::make(&scene) {
                Ok(mut lab) => test(&mut scene, &mut lab),
                Err(missing) => {
                    assert!(!kernel::is_required(lab::name(kind)), "{kind:?} required: {missing}");
                    kernel::skip(&format!("real {} devices: {missing}", lab::name(kind)));
                }
            }
        });
        if let Err(failed) = thread.join() {
            std::panic::resume_unwind(failed);
        }
    }
}

/// What a pod sends leaves the node as the simulation says.
fn sends(scene: &mut Scene, lab: &mut Lab) {
    for family in ["", " ip6"] {
        let trace = scene.ask(&format!("{OUT}{family}"));
        let hop = &trace.hops[0];
        let header = hop.tunnel.as_ref().expect("it is tunneled");
        lab.pod.send(&hop.frame_in);
        let sent = lab.wire.take(|frame| scene.tunneled(frame).is_some());
        let sent = sent.unwrap_or_else(|| panic!("nothing came: {:?}", lab.events()));
        assert_same(&sent, &hop.frame_out, &header.undetermined);
        lab.says(hop);
    }
}

/// What comes by the wire reaches the pod, or does not, as the simulation says, by the identity in the VNI.
fn receives(scene: &mut Scene, lab: &mut Lab) {
    for family in ["", " ip6"] {
        let trace = scene.ask(&format!("{IN}{family}"));
        let [left, arrived] = &trace.hops[..] else { panic!("two hops: {trace:?}") };
        lab.wire.send(&left.frame_out);
        lab.arrives(&arrived.frame_out);
        lab.says(arrived);

        let trace = scene.ask(&format!("{STRANGER}{family}"));
        let [left, dropped] = &trace.hops[..] else { panic!("two hops: {trace:?}") };
        assert!(matches!(dropped.events.last().map(|e| e.event), Some(Event::Outcome(_))));
        lab.wire.send(&left.frame_out);
        lab.says(dropped);
        let got = lab.pod.rest();
        assert!(!got.iter().any(|frame| scene.is_between_pods(frame)), "the pod got {got:02x?}");
    }
}

/// A frame with options reaches the pod as one without them, also where options must be understood, and a device that
/// is told to send options writes what `encapsulate` writes. Only the flag "there are options that must be understood" it
/// leaves at 0, where RFC 8926 3.4 wants it: Linux sets it for Open vSwitch alone.
fn has_options(scene: &mut Scene, lab: &mut Lab) {
    const CRITICAL: u8 = 0x40;
    const OPTIONS: [&[u8]; 3] = [
        &[0x01, 0x02, 0x01, 0x01, 0x11, 0x22, 0x33, 0x44],
        &[0x01, 0x02, 0x80, 0x02, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xFF, 0x01, 0x42, 0x01, 9, 9, 9, 9, 0x01, 0x02, 0xC0, 0x01, 7, 7, 7, 7],
    ];
    for (port, options) in (9001..).zip(OPTIONS) {
        let trace = scene.ask(&format!("shop/server -> shop/client:{port}/udp"));
        let [left, arrived] = &trace.hops[..] else { panic!("two hops: {trace:?}") };
        let given = scene.encapsulated_again(&left.frame_out, Some(options));
        lab.wire.send(&given);
        lab.arrives(&arrived.frame_out);
        lab.says(arrived);

        lab.route_with_options(scene, options);
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket in the namespace");
        socket.send_to(b"options", (lab::BEYOND, 4000)).expect("the route is there");
        let has_them = |frame: &[u8]| scene.tunneled(frame).is_some_and(|t| t.options == options);
        let sent = lab.wire.take(has_them);
        let sent =
            sent.unwrap_or_else(|| panic!("nothing with {options:02x?}: {:?}", lab.events()));
        let header = scene.ask(OUT).hops[0].tunnel.clone().expect("it is tunneled");
        let mut built = scene.encapsulated_again(&sent, None);
        let inner = scene.tunneled(&built).map_or(0, |tunneled| tunneled.frame.len());
        let flags = built.len() - inner - options.len() - 7;
        built[flags] &= !CRITICAL;
        assert_same(&sent, &built, &header.undetermined);
    }
}

/// Fails where two encapsulated frames differ in more than the fields of these names.
#[track_caller]
fn assert_same(real: &[u8], simulated: &[u8], undetermined: &[String]) {
    let is_v4 = real.get(12..14) == Some(&[0x08, 0x00]);
    let udp = if is_v4 { 34 } else { 54 };
    let mut open: Vec<std::ops::Range<usize>> = Vec::new();
    for field in undetermined {
        open.push(match field.as_str() {
            "outer IP id" => 18..20,
            "outer IP checksum" => 24..26,
            "UDP source port" => udp..udp + 2,
            "outer UDP checksum" => udp + 6..udp + 8,
            other => panic!("{other} is determined in this world"),
        });
    }
    let hidden = |frame: &[u8]| -> Vec<String> {
        let byte = |(at, byte): (usize, &u8)| {
            let is_open = open.iter().any(|range| range.contains(&at));
            if is_open { "..".to_owned() } else { format!("{byte:02x}") }
        };
        frame.iter().enumerate().map(byte).collect()
    };
    assert_eq!(hidden(real).join(" "), hidden(simulated).join(" "));
}

impl Scene {
    /// A frame of the tunnel with outer headers made anew from what they say, with other options if some are given.
    fn encapsulated_again(&self, sent: &[u8], options: Option<&[u8]>) -> Vec<u8> {
        let tunneled = self.tunneled(sent).expect("a frame of the tunnel");
        let mac = |at: usize| sent[at..].first_chunk().copied().map(engine::net::Mac);
        let (destination, source) = (mac(0).expect("six bytes"), mac(6).expect("six bytes"));
        let outer = Outer {
            ethernet: Ethernet { source, destination },
            kind: tunneled.kind,
            options: options.unwrap_or(tunneled.options),
            source: tunneled.source,
            destination: tunneled.destination,
            ttl: 64,
            source_port: tunneled.source_port,
            port: tunneled.port,
            vni: tunneled.vni,
        };
        frame::encapsulate(tunneled.frame, &outer).expect("it fits")
    }
}

#[test]
fn a_vxlan_device_sends_what_is_simulated() {
    on_devices(TunnelKind::Vxlan, sends);
}

#[test]
fn what_a_vxlan_device_gets_arrives_as_simulated() {
    on_devices(TunnelKind::Vxlan, receives);
}

#[test]
fn a_geneve_device_sends_what_is_simulated() {
    on_devices(TunnelKind::Geneve, sends);
}

#[test]
fn what_a_geneve_device_gets_arrives_as_simulated() {
    on_devices(TunnelKind::Geneve, receives);
}

#[test]
fn geneve_options_are_written_as_by_the_device_and_taken_by_it() {
    on_devices(TunnelKind::Geneve, has_options);
}
