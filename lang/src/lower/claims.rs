//! What two nodes claim at once: addresses that the tunnel table would lead to the other one.

use engine::diag::Diagnostic;
use engine::topology::Node;
use ipnet::IpNet;

use super::Lowering;
use super::world::Owners;
use crate::codes;

impl Lowering<'_> {
    /// Pod prefixes of two nodes that share addresses.
    pub(super) fn check_pod_prefixes(&mut self) {
        let mut problems = Vec::new();
        for (at, node) in self.world.nodes.iter().enumerate() {
            for other in self.world.nodes.iter().take(at) {
                let overlap = node.pod_cidrs.iter().find_map(|net| {
                    let meets = |o: &&IpNet| o.contains(net) || net.contains(*o);
                    other.pod_cidrs.iter().find(meets).map(|o| (net, o))
                });
                if let Some((net, others)) = overlap {
                    let message = format!(
                        "pod prefix {net} of node `{}` overlaps {others} of node `{}`",
                        node.name, other.name
                    );
                    problems.push(
                        Diagnostic::error(codes::OVERLAPPING_PODS, message, node.span)
                            .also(other.span, "the other node"),
                    );
                }
            }
        }
        self.diagnostics.extend(problems);
    }

    /// Addresses of a node inside a pod prefix of another, to which the tunnel table would lead them.
    pub(super) fn check_node_addresses(&mut self, owners: &Owners) {
        let mut problems = Vec::new();
        for (at, node) in self.world.nodes.iter().enumerate() {
            let others = self.world.nodes.iter().enumerate().filter(|(other, _)| *other != at);
            let others: Vec<(&Node, &IpNet)> =
                others.flat_map(|(_, o)| o.pod_cidrs.iter().map(move |net| (o, net))).collect();
            for address in node.addresses.iter().chain(&node.locals) {
                let Some((other, net)) = others.iter().find(|(_, net)| net.contains(address))
                else {
                    continue;
                };
                let message = format!(
                    "address {address} of node `{}` lies in pod prefix {net} of node `{}`",
                    node.name, other.name
                );
                let span = owners.get(address).map_or(node.span, |(_, span)| *span);
                problems.push(
                    Diagnostic::error(codes::NODE_IN_POD_PREFIX, message, span)
                        .also(other.span, "the other node")
                        .help("give the node an address outside, or correct the prefix"),
                );
            }
        }
        self.diagnostics.extend(problems);
    }
}
