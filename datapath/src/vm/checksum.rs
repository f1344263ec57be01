//! Internet checksums as the kernel computes and corrects them, to the last bit: sums of ones' complement with carries
//! kept in 32 bits and folded where the kernel folds them. Numbers only.

/// `csum_add`
pub(super) fn add(a: u32, b: u32) -> u32 {
    let (sum, carry) = a.overflowing_add(b);
    sum.wrapping_add(carry.into())
}

/// `csum_sub`
pub(super) fn sub(a: u32, b: u32) -> u32 {
    add(a, !b)
}

/// `csum_from32to16`
fn halved(sum: u32) -> u16 {
    let once = (sum >> 16) + (sum & 0xFFFF);
    let twice = (once >> 16) + (once & 0xFFFF);
    u16::try_from(twice).unwrap_or(u16::MAX)
}

/// `csum_fold`
fn fold(sum: u32) -> u16 {
    !halved(sum)
}

/// `csum_partial`: the sum of bytes, four at a time, upon another.
pub(super) fn partial(bytes: &[u8], sum: u32) -> u32 {
    let mut all = u64::from(sum);
    let mut upon = |word: u64| {
        let (next, carry) = all.overflowing_add(word);
        all = next.wrapping_add(carry.into());
    };
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        upon(u64::from_le_bytes(*word));
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        upon(u64::from_le_bytes(last));
    }
    let [low, high] = [all & u64::from(u32::MAX), all >> 32];
    add(u32::try_from(low).unwrap_or(0), u32::try_from(high).unwrap_or(0))
}

/// `bpf_csum_diff`
pub(super) fn difference(from: &[u8], to: &[u8], seed: u32) -> u32 {
    let sum = match (from.is_empty(), to.is_empty()) {
        (false, false) => sub(partial(to, seed), partial(from, 0)),
        (true, false) => partial(to, seed),
        (false, true) => !partial(from, !seed),
        (true, true) => seed,
    };
    halved(sum).into()
}

/// `csum_replace2`
pub(super) fn replace2(sum: u16, from: u16, to: u16) -> u16 {
    let add = |a: u16, b: u16| {
        let (sum, carry) = a.overflowing_add(b);
        sum.wrapping_add(carry.into())
    };
    !add(add(!sum, !from), to)
}

/// `csum_replace4`
pub(super) fn replace4(sum: u16, from: u32, to: u32) -> u16 {
    fold(add(sub(!u32::from(sum), from), to))
}

/// `csum_replace_by_diff`
pub(super) fn replace_by_difference(sum: u16, difference: u32) -> u16 {
    fold(add(difference, !u32::from(sum)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of RFC 1071's kind: a checksum that was right stays right.
    #[test]
    fn a_corrected_checksum_is_that_of_the_corrected_bytes() {
        let whole = |bytes: &[u8]| fold(partial(bytes, 0));
        let mut seed = 1_u32;
        for _ in 0..200 {
            let mut bytes = [0_u8; 40];
            for byte in &mut bytes {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                *byte = seed.to_be_bytes()[0];
            }
            let (before, old) = (whole(&bytes), bytes);
            bytes[8..12].copy_from_slice(&seed.to_le_bytes());
            let [from, to] =
                [old, bytes].map(|b| u32::from_le_bytes(*b[8..].first_chunk().unwrap()));
            assert_eq!(replace4(before, from, to), whole(&bytes));
            let diff = difference(&old[8..12], &bytes[8..12], 0);
            assert_eq!(replace_by_difference(before, diff), whole(&bytes));
            let halves = |at: usize| {
                [old, bytes].map(|b| u16::from_le_bytes(*b[at..].first_chunk().unwrap()))
            };
            let ([a, b], [c, d]) = (halves(8), halves(10));
            assert_eq!(replace2(replace2(before, a, b), c, d), whole(&bytes));
        }
        assert_eq!(difference(&[], &[], 0x1_0001), 2);
        assert_eq!(partial(&[1, 2, 3], 0), 0x0003_0201);
    }
}
