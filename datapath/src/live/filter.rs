//! Filters of what programs tell, as they are asked for: only drops, one marked packet, or what goes from one address to another.

use std::net::IpAddr;

use datapath_abi::{Filter, family, filter};

/// Only what is dropped.
pub fn drops() -> Filter {
    Filter { flags: filter::DROPS, ..Filter::default() }
}

/// Only packets with a mark: the identification of IPv4, the flow label of IPv6.
pub fn marked(id: u32, is_v6: bool) -> Filter {
    let family = if is_v6 { family::V6 } else { family::V4 };
    Filter { flags: filter::BY_ID, id, family, ..Filter::default() }
}

/// Only what goes from one address to another.
pub fn between(source: IpAddr, destination: IpAddr) -> Filter {
    let side = |address: IpAddr| match address {
        IpAddr::V4(address) => {
            let (mut value, mut mask) = ([0; 16], [0; 16]);
            value[..4].copy_from_slice(&address.octets());
            mask[..4].fill(0xFF);
            (value, mask)
        }
        IpAddr::V6(address) => (address.octets(), [0xFF; 16]),
    };
    let ((source, source_mask), (destination, destination_mask)) =
        (side(source), side(destination));
    Filter { source, source_mask, destination, destination_mask, ..Filter::default() }
}
