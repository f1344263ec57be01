//! Filters of what programs tell, as they are asked for: only drops, or one marked packet.

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
