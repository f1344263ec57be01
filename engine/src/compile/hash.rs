//! A hash of text that is the same on every machine and in every version, which the standard library's
//! does not promise. Made-up values and the order of backends hang on it; never a defence against anyone.

/// FNV-1a with a final mix.
pub(super) fn hash(text: &str) -> u64 {
    let mut state: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in text.bytes() {
        state = (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    state ^= state >> 33;
    state = state.wrapping_mul(0xff51_afd7_ed55_8ccd);
    state ^ state >> 33
}
