//! What live programs and their maps say of themselves.

use datapath::live::Programs;
use engine::backend::BackendError;

use super::Measured;

/// Asks a node's programs and maps.
pub fn measure(programs: &mut Programs) -> Result<Measured, BackendError> {
    let mut measured = Measured { counters: programs.counters()?, ..Measured::default() };
    for (map, entries, capacity) in programs.pressures()? {
        let number = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        measured.maps.push((map.to_lowercase(), number(entries), number(capacity)));
    }
    for (name, time, runs) in programs.run_times()? {
        measured.programs.push((name.to_owned(), time, runs));
    }
    Ok(measured)
}
