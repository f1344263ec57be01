//! The kernel's clock as programs count it, and the moment from which no program run sees what was before.

use std::time::Duration;

use engine::backend::BackendError;
use rustix::time::{ClockId, clock_getres, clock_gettime};

/// Nanoseconds of a second.
const SECOND: i64 = 1_000_000_000;

/// Ticks of `jiffies` in a second (`CONFIG_HZ`): the coarse clock moves once a tick.
pub(super) fn ticks_per_second() -> u32 {
    let tick = clock_getres(ClockId::MonotonicCoarse);
    let nanoseconds = tick.tv_nsec.clamp(1, SECOND);
    u32::try_from(SECOND / nanoseconds).unwrap_or(1)
}

/// Ticks now, as programs read them: they begin at a number that lets 32 bits overflow after five minutes, and go with the monotonic
/// clock.
pub(super) fn ticks() -> u64 {
    let rate = u64::from(ticks_per_second());
    let began = (1 << 32) - 300 * rate;
    began + u64::try_from(u128::from(nanoseconds()) * u128::from(rate) / 1_000_000_000).unwrap_or(0)
}

/// The tick at which some time from now will have passed.
pub fn tick_after(time: Duration) -> u64 {
    let rate = u128::from(ticks_per_second());
    let more = (time.as_millis() * rate).div_ceil(1000);
    ticks().saturating_add(u64::try_from(more).unwrap_or(u64::MAX))
}

/// How long it is until a tick; nothing where it is over.
pub fn time_until(tick: u64) -> Duration {
    let left = tick.saturating_sub(ticks());
    Duration::from_millis(left.saturating_mul(1000) / u64::from(ticks_per_second()))
}

/// Nanoseconds of the monotonic clock, as programs read it.
pub fn nanoseconds() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// Waits for one RCU grace period: afterwards no program runs any more that began before.
#[expect(unsafe_code, reason = "no crate here wraps membarrier(2)")]
pub fn let_runs_end() -> Result<(), BackendError> {
    // The oldest command waits for every CPU to pass through the scheduler: the kernel does it by synchronize_rcu().
    // SAFETY: three numbers; the call touches no memory of ours.
    let code = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if code == 0 {
        return Ok(());
    }
    Err(BackendError::System {
        call: "waiting for running programs (membarrier)".to_owned(),
        error: std::io::Error::last_os_error().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_as_many_ticks_as_kernels_are_built_with() {
        assert!([100, 250, 300, 1000].contains(&ticks_per_second()), "{}", ticks_per_second());
        let_runs_end().unwrap();
    }
}
