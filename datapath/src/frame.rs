//! Ethernet frames: a crafted packet or written-out layers as bytes with all lengths and checksums, the outer headers
//! of a tunneled frame, what a router changes, and all of it read back. Never decides anything.

mod dissect;
mod layer;
pub mod layout;
mod network;
mod outer;
mod read;
mod step;
mod sums;
#[cfg(test)]
mod tests;
mod transport;
mod tunnel;

use engine::net::Packet;
use engine::trace::Ethernet;
use thiserror::Error;

pub use dissect::dissect;
pub use layer::assemble;
pub use outer::{Outer, encapsulate, source_port};
pub use read::{Headers, read};
pub use step::{count_down, readdress};
pub use sums::wrong_checksum;
pub use tunnel::{Lack, Tunneled, decapsulate, lack};

/// Bytes of the shortest frame that a backend takes: an Ethernet header.
pub const MIN_LENGTH: usize = 14;
/// Bytes of the longest frame that a backend takes: what a test run's buffer of one page holds.
pub const MAX_LENGTH: usize = 3500;

/// Why a packet has no frame. Each names the field to change.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// Source and destination are of different families.
    #[error("source {source_address} and destination {destination} are of different families")]
    MixedFamilies {
        /// The source address.
        source_address: std::net::IpAddr,
        /// The destination address.
        destination: std::net::IpAddr,
    },
    /// The frame would be longer than [`MAX_LENGTH`].
    #[error("the frame would have {length} bytes, {MAX_LENGTH} fit: shorten the payload")]
    TooLong {
        /// Bytes of the frame.
        length: usize,
    },
    /// Identifications of IPv4 have 16 bits.
    #[error("the IP id {0} does not fit: 0 to 65535 do")]
    Identification(u32),
    /// Fragments begin at multiples of 8, up to 65528.
    #[error("the fragment offset {0} is not a multiple of 8")]
    FragmentOffset(u16),
    /// IPv4 options are padded to a multiple of 4, 40 bytes at most; IPv6 has none.
    #[error("{0} bytes of IPv4 options: give a multiple of 4, at most 40, and none for IPv6")]
    Options(usize),
    /// IPv6 has a flow label of 20 bits, IPv4 none.
    #[error("the flow label {0} does not fit: 0 to 1048575 do, and IPv4 has none")]
    FlowLabel(u32),
    /// IPv4 has no extension headers.
    #[error("extension headers need IPv6")]
    ExtensionsOfIpv4,
    /// An extension header whose length cannot be written, or a fragment header.
    #[error(
        "extension header {number} with {length} bytes: header and first two bytes together fill \
         units of 8 (authentication: 4), 256 at most; fragments are asked for by offset"
    )]
    Extension {
        /// The header's number.
        number: u8,
        /// Bytes after the first two.
        length: usize,
    },
    /// VNIs have 24 bits.
    #[error("the VNI {0} does not fit: 0 to 16777215 do")]
    Vni(u32),
    /// Geneve's options are padded to a multiple of 4, 252 bytes at most; VXLAN has none.
    #[error("{0} bytes of tunnel options: give a multiple of 4, at most 252, and none for VXLAN")]
    TunnelOptions(usize),
    /// TCP's options are padded to a multiple of 4, 40 bytes at most.
    #[error("{0} bytes of TCP options: give a multiple of 4, at most 40")]
    TcpOptions(usize),
    /// Layers without Ethernet at their beginning.
    #[error("a frame begins with `eth`")]
    NotEthernet,
    /// A layer where it cannot be.
    #[error("`{layer}` cannot follow `{after}`")]
    Order {
        /// The layer.
        layer: &'static str,
        /// The one before it.
        after: &'static str,
    },
    /// Nothing tells which number a header gives for what follows it.
    #[error("`{layer}` has no layer behind it that tells what it carries: give its number")]
    NumberMissing {
        /// The header.
        layer: &'static str,
    },
}

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86DD;

/// The frame of a packet: Ethernet II, the network header with its checksum, the transport header with its
/// checksum (UDP's 0 is written as `0xFFFF`), the payload. Not padded to Ethernet's 60 bytes.
///
/// * TCP has no options and the window 65535; SCTP's verification tag is 0 (see [`undetermined`]).
/// * SCTP's checksum is CRC32c (RFC 9260 appendix A).
/// * A later fragment has no transport header. A first fragment's length and checksum are those of
///   the piece alone, as the rest of the datagram is not known. A piece with more to come is not
///   forced to a multiple of 8 bytes.
/// * IPv6: the fragment header follows the given extension headers, and "don't fragment" has no
///   bit.
///
/// # Errors
/// A field that cannot be written, or a frame of more than [`MAX_LENGTH`] bytes.
pub fn build(packet: &Packet, ethernet: Ethernet) -> Result<Vec<u8>, FrameError> {
    let segment = transport::segment(packet);
    let (ethertype, header) =
        network::header(&packet.ip, packet.protocol().number(), segment.len())?;
    let mut frame = ethernet_header(ethernet, ethertype).to_vec();
    frame.extend(header);
    frame.extend(segment);
    Ok(frame)
}

/// Fields of a packet's frame that no question states and no rule of this module determines, in the words
/// of `undetermined` lists. What the question left open is the question's to name.
pub fn undetermined(packet: &Packet) -> Vec<&'static str> {
    use engine::net::Transport;
    let fragment = packet.ip.fragment;
    let is_first = fragment.more && !fragment.is_later();
    match packet.transport {
        _ if fragment.is_later() => Vec::new(),
        Transport::Tcp { .. } => vec!["TCP window", "TCP checksum"],
        Transport::Sctp { .. } => vec!["SCTP verification tag", "SCTP checksum"],
        Transport::Udp { .. } if is_first => vec!["UDP length", "UDP checksum"],
        Transport::Icmp { .. } if is_first => vec!["ICMP checksum"],
        Transport::Udp { .. } | Transport::Icmp { .. } | Transport::Other { .. } => Vec::new(),
    }
}

fn ethernet_header(ethernet: Ethernet, ethertype: u16) -> [u8; MIN_LENGTH] {
    let mut header = [0; MIN_LENGTH];
    header[..6].copy_from_slice(&ethernet.destination.0);
    header[6..12].copy_from_slice(&ethernet.source.0);
    header[12..].copy_from_slice(&ethertype.to_be_bytes());
    header
}
