//! The kernel alone; what it makes of packets is compared with the interpreter in `nodes`.

use datapath_abi as abi;

use super::*;
use crate::nodes::HOOKS;

/// The backend, or why the test has nothing to run on; that is a failure where `HOPWISE_REQUIRE` lists
/// `kernel`.
fn backend() -> Option<TestRun> {
    match TestRun::open(LIMITS) {
        Ok(backend) => Some(backend),
        Err(error @ BackendError::Unsupported { .. }) => {
            let required = std::env::var("HOPWISE_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|tier| tier.trim() == "kernel"), "{error:?}");
            skip(&error.to_string());
            None
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[expect(clippy::print_stderr, reason = "a skipped test says why")]
fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
}

#[test]
fn the_backend_is_named_after_the_running_kernel() {
    let Some(backend) = backend() else { return };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let version = backend.name().strip_prefix("kernel ").unwrap().to_owned();
    assert!(release.starts_with(&format!("{version}.")), "{version} {release}");
    assert!(open().is_ok());
}

#[test]
fn without_capabilities_the_error_says_which_and_what_to_do() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    // Capabilities are a thread's own, so another one may lose them.
    let refusal = std::thread::spawn(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective = CapabilitySet::CHOWN & sets.effective;
        set_capabilities(None, sets).unwrap();
        open().err()
    });
    let Some(BackendError::Unsupported { what, remedy }) = refusal.join().unwrap() else {
        panic!("opened without capabilities");
    };
    assert!(what.contains("CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON"), "{what}");
    assert!(remedy.contains("setcap cap_bpf,cap_net_admin,cap_perfmon+ep"), "{remedy}");
}

/// What the verifier goes through is most of the time that loading takes. A bound that is passed is raised with a
/// reason, or the program made simpler.
#[test]
fn programs_stay_quick_to_verify() {
    const BOUNDS: [(&str, u32); 9] = [
        (abi::programs::FROM_CONTAINER, 48_000),
        (abi::programs::TO_CONTAINER, 24_000),
        (abi::programs::FROM_OVERLAY, 69_000),
        (abi::programs::FROM_NETDEV, 66_000),
        (abi::programs::TO_OVERLAY, 8_000),
        (abi::programs::TO_NETDEV, 57_000),
        (abi::programs::FROM_HOST, 35_000),
        (abi::programs::TO_HOST, 21_000),
        (abi::programs::PREFILTER, 500),
    ];
    let Some(mut backend) = backend() else { return };
    let spare = backend.host.spare.as_mut().unwrap();
    for (hook, (name, bound)) in (0..).zip(BOUNDS) {
        assert_eq!(HOOKS[hook as usize], name);
        let Some(verified) = spare.verified(hook).unwrap() else {
            return skip("this kernel does not say what it verified (Linux 5.16 does)");
        };
        assert!(
            0 < verified && verified < bound,
            "{name}: {verified} instructions, {bound} allowed"
        );
    }
}
