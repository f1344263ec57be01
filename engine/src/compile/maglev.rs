//! Maglev tables (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI
//! 2016, 3.4): which backend has which slot. Never which frontends ask for one.

use super::hash::hash;

/// Slots of a table: a prime, the reference's default (`bpf-lb-maglev-table-size`).
pub const TABLE_SIZE: u16 = 16_381;

/// What stands in a slot that nobody has yet: no position, as there are fewer backends than slots.
const EMPTY: u16 = u16::MAX;

/// A backend's order of preference among the slots: `offset`, `offset + skip`, and so on, modulo the size.
/// The size is a prime, so that every slot comes up once.
struct Permutation {
    next: u32,
    skip: u32,
    /// The backend's position in the list that was given.
    position: u16,
}

impl Permutation {
    fn of(name: &str, position: u16) -> Self {
        let within =
            |text: &str, most: u16| u32::try_from(hash(text) % u64::from(most)).unwrap_or(0);
        let next = within(&format!("offset {name}"), TABLE_SIZE);
        let skip = within(&format!("skip {name}"), TABLE_SIZE - 1) + 1;
        Self { next, skip, position }
    }

    /// The next slot in its order.
    fn advance(&mut self) -> usize {
        let slot = self.next;
        self.next = (slot + self.skip) % u32::from(TABLE_SIZE);
        slot as usize
    }
}

/// The table of backends with these names, as positions in the list: each in turn takes the first slot of
/// its order that is free. Turns go by name, so that the order of the list does not matter. Empty for no
/// backends, and for more than there are slots, which no table can hold.
pub(super) fn table(names: &[String]) -> Vec<u16> {
    if names.is_empty() || names.len() > usize::from(TABLE_SIZE) {
        return Vec::new();
    }
    let mut by_name: Vec<(&String, u16)> = names.iter().zip(0..).collect();
    by_name.sort_unstable();
    let mut orders: Vec<Permutation> =
        by_name.into_iter().map(|(name, position)| Permutation::of(name, position)).collect();
    let mut slots = vec![EMPTY; usize::from(TABLE_SIZE)];
    let mut free = slots.len();
    loop {
        for order in &mut orders {
            if free == 0 {
                return slots;
            }
            // There is a free slot, and its order comes to every one.
            while let Some(slot) = slots.get_mut(order.advance()) {
                if *slot == EMPTY {
                    *slot = order.position;
                    break;
                }
            }
            free -= 1;
        }
    }
}
