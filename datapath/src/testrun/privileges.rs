//! What loading and running programs asks of the host, found out by reading `/proc`: the kernel's version
//! and the process's capabilities.

use std::fs;

use engine::backend::BackendError;

use super::OLDEST_KERNEL;

/// A capability that the datapath needs.
pub(crate) struct Capability {
    /// Its name.
    pub(crate) name: &'static str,
    /// Its bit in `CapEff` (`linux/capability.h`).
    pub(crate) bit: u32,
    /// What it is needed for.
    pub(crate) purpose: &'static str,
}

/// The capabilities that are needed.
pub(crate) const CAPABILITIES: [Capability; 3] = [
    Capability { name: "CAP_BPF", bit: 39, purpose: "making maps and loading programs" },
    Capability { name: "CAP_NET_ADMIN", bit: 12, purpose: "programs that see packets" },
    Capability {
        name: "CAP_PERFMON",
        bit: 38,
        purpose: "programs that compare and store pointers to packets and maps",
    },
];

/// `CAP_SYS_ADMIN`, which the kernel takes in place of each of the three.
const SYS_ADMIN: u32 = 21;

/// Effective capabilities of this thread, as bits.
pub(crate) fn effective() -> Result<u64, BackendError> {
    let status = read("/proc/thread-self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .ok_or_else(|| unreadable("/proc/thread-self/status", "it has no CapEff"))
}

/// The needed capabilities that are not among some.
pub(crate) fn lacking(effective: u64) -> Vec<&'static Capability> {
    let has = |bit: u32| effective >> bit & 1 != 0;
    CAPABILITIES.iter().filter(|wanted| !has(wanted.bit) && !has(SYS_ADMIN)).collect()
}

/// Major and minor version of the running kernel.
pub(crate) fn kernel_version() -> Result<(u32, u32), BackendError> {
    let release = read("/proc/sys/kernel/osrelease")?;
    version_of(&release).ok_or_else(|| unreadable("/proc/sys/kernel/osrelease", release.trim()))
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn read(path: &str) -> Result<String, BackendError> {
    fs::read_to_string(path).map_err(|error| unreadable(path, &error.to_string()))
}

fn unreadable(path: &str, error: &str) -> BackendError {
    BackendError::System { call: format!("reading {path}"), error: error.to_owned() }
}

/// Refuses what is bound to fail, in words that say what to do. Returns the kernel's version.
pub(super) fn check() -> Result<(u32, u32), BackendError> {
    let version = kernel_version()?;
    if version < OLDEST_KERNEL {
        return Err(BackendError::Unsupported {
            what: format!(
                "running the datapath on Linux {}.{} (it needs {}.{})",
                version.0, version.1, OLDEST_KERNEL.0, OLDEST_KERNEL.1
            ),
            remedy: format!("run on Linux {}.{} or newer", OLDEST_KERNEL.0, OLDEST_KERNEL.1),
        });
    }
    let lacking = lacking(effective()?);
    if lacking.is_empty() {
        return Ok(version);
    }
    let names: Vec<_> = lacking.iter().map(|capability| capability.name).collect();
    Err(without(&names.join(", ")))
}

/// The error of a process that may not run programs.
pub(super) fn without(what: &str) -> BackendError {
    BackendError::Unsupported {
        what: format!("running BPF programs without {what}"),
        remedy: "run as root, or give the program the capabilities: \
                 `sudo setcap cap_bpf,cap_net_admin,cap_perfmon+ep PATH-OF-HOPWISE`; in a container: \
                 `--cap-add BPF --cap-add NET_ADMIN --cap-add PERFMON`"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_real_kernels_are_read() {
        for (release, version) in [
            ("6.18.44-cloud\n", Some((6, 18))),
            ("5.10.0-32-amd64", Some((5, 10))),
            ("6.1", Some((6, 1))),
            ("7.0-rc1", Some((7, 0))),
            ("", None),
            ("linux", None),
            ("6", None),
        ] {
            assert_eq!(version_of(release), version, "{release:?}");
        }
    }

    #[test]
    fn each_capability_is_missed_unless_it_or_sys_admin_is_there() {
        let names = |effective| lacking(effective).iter().map(|c| c.name).collect::<Vec<_>>();
        assert_eq!(names(0), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
        assert_eq!(names(1 << 39 | 1 << 38), ["CAP_NET_ADMIN"]);
        assert_eq!(names(1 << 12), ["CAP_BPF", "CAP_PERFMON"]);
        assert!(names(1 << 39 | 1 << 38 | 1 << 12).is_empty());
        assert!(names(1 << 21).is_empty());
    }
}
