//! One packet that a capture holds several times, as it was seen at several devices on its way: before and in the tunnel,
//! on the veth and on the underlay. A packet that the same place saw twice is two packets. Bounded in memory and time.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// How long a packet is on its way at most.
const WINDOW: Duration = Duration::from_secs(1);
/// Packets that are remembered at most.
const MOST: usize = 65_536;
/// Places that one packet is seen at, at most.
const PLACES: usize = 16;

/// See the module.
#[derive(Default)]
pub(super) struct Duplicates {
    seen: HashMap<Key, Vec<u64>>,
    order: VecDeque<(Duration, Key)>,
}

/// Of which flow and direction, and what it holds.
pub(super) type Key = (usize, bool, u64);

impl Duplicates {
    /// Whether a packet was seen before elsewhere. Remembers it.
    pub(super) fn is_one(&mut self, key: Key, vantage: u64, now: Duration) -> bool {
        self.forget(now);
        let Some(places) = self.seen.get_mut(&key) else {
            self.seen.insert(key, vec![vantage]);
            self.order.push_back((now, key));
            return false;
        };
        if places.contains(&vantage) || places.len() == PLACES {
            // Sent again: it may be seen elsewhere again, too.
            *places = vec![vantage];
            return false;
        }
        places.push(vantage);
        true
    }

    fn forget(&mut self, now: Duration) {
        while let Some((then, key)) = self.order.front() {
            if self.order.len() < MOST && now.saturating_sub(*then) <= WINDOW {
                return;
            }
            self.seen.remove(key);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_packet_elsewhere_is_one_and_at_the_same_place_is_two() {
        let mut duplicates = Duplicates::default();
        let mut at = |place, ms| duplicates.is_one((1, true, 7), place, Duration::from_millis(ms));
        assert!(!at(1, 0));
        assert!(at(2, 1));
        assert!(at(3, 2));
        assert!(!at(1, 5));
        assert!(at(2, 6));
        assert!(!at(3, 2000));
        assert!(!duplicates.is_one((2, true, 7), 9, Duration::from_secs(2)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut duplicates = Duplicates::default();
        for packet in 0..200_000 {
            assert!(!duplicates.is_one((0, true, packet), 0, Duration::ZERO));
        }
        assert!(duplicates.seen.len() <= MOST && duplicates.order.len() <= MOST);
    }
}
