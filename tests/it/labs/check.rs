//! The workloads of the connectivity check as a lab, with real servers: each gets what its name promises.

use super::traffic::Made;
use super::wire::{PATIENCE, SILENCE, Server, get};
use crate::lab::is_possible;
use crate::tree::{read, root};

/// Who asks whom, and what comes: the beginning of an answer, or nothing.
const PROBES: &[(&str, &str, Option<&str>)] = &[
    ("pod-to-a", "10.96.1.1:80", Some("echo-a 10.244.2.30")),
    ("pod-to-a-allowed-cnp", "10.96.1.1:80", Some("echo-a 10.244.2.239")),
    ("pod-to-a-allowed-cnp", "10.96.1.2:80", None),
    ("pod-to-a-allowed-cnp", "10.244.1.50:8080", None),
    ("pod-to-a-l3-denied-cnp", "10.96.1.1:80", None),
    ("pod-to-b-intra-node", "10.96.1.2:80", Some("echo-b 10.244.2.95")),
    ("pod-to-b-multi-node-clusterip", "10.96.1.2:80", Some("echo-b 10.244.1.28")),
    // A headless service's name leads to its pod.
    ("pod-to-b-multi-node-headless", "10.244.2.50:80", Some("echo-b 10.244.1.138")),
    ("host-to-b-multi-node-clusterip", "10.96.1.2:80", Some("echo-b 192.168.66.226")),
    ("host-to-b-multi-node-headless", "10.244.2.50:80", Some("echo-b 192.168.66.226")),
    // Masqueraded as its node.
    ("pod-to-a-external-1111", "1.1.1.1:80", Some("one 192.168.66.194")),
    ("pod-to-external-fqdn-allow-google-cnp", "142.250.74.36:80", Some("google 192.168.66.194")),
    ("pod-to-external-fqdn-allow-google-cnp", "203.0.113.80:80", None),
];

#[test]
fn every_workload_gets_what_its_name_promises() {
    if !is_possible() {
        return;
    }
    let mut made = Made::of(&read(&root().join("fixtures/cases/reference/connectivity-check.hop")));
    let [a, b, outside] =
        ["pod app-service/echo-a", "pod app-service/echo-b", "world"].map(|name| made.space(name));
    let _servers = [
        Server::start(&a, 80, "echo-a"),
        Server::start(&a, 8080, "closed"),
        Server::start(&b, 80, "echo-b"),
        Server::at(&outside, "1.1.1.1:80", "one"),
        Server::at(&outside, "142.250.74.36:80", "google"),
        Server::at(&outside, "203.0.113.80:80", "elsewhere"),
    ];
    for (who, to, promised) in PROBES {
        let space = made.space(&format!("pod app-service/{who}"));
        let to = to.parse().expect("an address");
        let patience = if promised.is_some() { PATIENCE } else { SILENCE };
        let got = get(&space, to, patience);
        match promised {
            Some(promised) => {
                let got = got.unwrap_or_else(|error| panic!("{who} -> {to}: {error}"));
                assert_eq!(got, *promised, "{who} -> {to}");
            }
            None => assert!(got.is_err(), "{who} -> {to}: {got:?}"),
        }
    }
}
