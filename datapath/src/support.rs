//! What this host can do for the datapath: checks with what was found, what is lost where one fails, and the
//! remedy. Data only; changes nothing, prints nothing, and works without any privilege.

use std::fs;

use engine::backend::{Backend, BackendError, Injection};
use engine::net::Hook;
use engine::tables::{Generation, NatTables, NodeTables, Tables};
use engine::topology::{HostRouting, NodeId, Routing, Tunnel, TunnelKind};
use engine::trace::{Action, Event};
use libbpf_rs::{MapType, ProgramType};

use crate::check::{Check, KERNEL_BACKEND};
use crate::nodes::HOOKS;
use crate::object::Object;
use crate::testrun::{CAPABILITIES, OLDEST_KERNEL, TestRun, effective, kernel_version, lacking};
use crate::testrun::{LIMITS, listening};

const PRIVILEGES: &str =
    "run as root, or `sudo setcap cap_bpf,cap_net_admin,cap_perfmon+ep PATH-OF-HOPWISE`";

/// Looks at everything, from what is cheap to ask to a packet that really runs.
pub fn checks() -> Vec<Check> {
    let mut checks = vec![kernel()];
    checks.extend(capabilities());
    checks.extend([unprivileged(), btf(), bpffs(), jit(), program_types(), map_types(), helpers()]);
    checks.extend(object());
    #[cfg(feature = "lab")]
    checks.extend(for_labs());
    checks
}

/// What labs need besides: capabilities, and network namespaces, whose devices only making a lab tells.
#[cfg(feature = "lab")]
fn for_labs() -> [Check; 3] {
    const LOST: &str = "labs, and probes of `trace --live`";
    const REMEDY: &str = "run as root";
    let effective = effective();
    let check = |name: &'static str| {
        let wanted = crate::lab::CAPABILITIES.iter().find(|(wanted, ..)| *wanted == name);
        let (bit, purpose) = wanted.map_or((0, ""), |(_, bit, purpose)| (*bit, *purpose));
        match &effective {
            Ok(bits) if bits >> bit & 1 != 0 => Check::pass(name, "effective"),
            Ok(_) => Check::warn(name, format!("not there; it allows {purpose}"), REMEDY, LOST),
            Err(error) => Check::warn(name, error.to_string(), REMEDY, LOST),
        }
    };
    [check("CAP_SYS_ADMIN"), check("CAP_NET_RAW"), namespaces()]
}

/// Whether a lab can be made at all: what is in it, only making it tells.
#[cfg(feature = "lab")]
fn namespaces() -> Check {
    const NAME: &str = "network namespaces";
    match crate::lab::namespace::Namespace::make() {
        Ok(_) => Check::pass(NAME, "can be made"),
        Err(error) => Check::warn(NAME, error.to_string(), "run as root", "`--backend lab`"),
    }
}

/// The version of the libbpf that is built in: `1.7`.
#[expect(unsafe_code, reason = "libbpf says its version by two C functions only")]
pub fn libbpf_version() -> String {
    // SAFETY: both take nothing, touch nothing and return a number.
    let (major, minor) = unsafe {
        (
            libbpf_rs::libbpf_sys::libbpf_major_version(),
            libbpf_rs::libbpf_sys::libbpf_minor_version(),
        )
    };
    format!("{major}.{minor}")
}

fn kernel() -> Check {
    const NAME: &str = "kernel version";
    let (major, minor) = OLDEST_KERNEL;
    let remedy = format!("run on Linux {major}.{minor} or newer");
    match kernel_version() {
        Ok(version) if version >= OLDEST_KERNEL => {
            Check::pass(NAME, format!("{}.{}, at least {major}.{minor}", version.0, version.1))
        }
        Ok(version) => Check::fail(NAME, format!("{}.{}", version.0, version.1), remedy),
        Err(error) => Check::warn(NAME, error.to_string(), &remedy, "certainty about the version"),
    }
}

fn capabilities() -> Vec<Check> {
    let effective = effective();
    let check = |at: usize| {
        let wanted = &CAPABILITIES[at];
        match &effective {
            Ok(bits) if lacking(*bits).iter().any(|lacking| lacking.bit == wanted.bit) => {
                Check::fail(
                    wanted.name,
                    format!("not there; it allows {}", wanted.purpose),
                    PRIVILEGES,
                )
            }
            Ok(_) => Check::pass(wanted.name, "effective"),
            Err(error) => Check::warn(wanted.name, error.to_string(), PRIVILEGES, KERNEL_BACKEND),
        }
    };
    (0..CAPABILITIES.len()).map(check).collect()
}

/// A number that a file under `/proc/sys` holds.
fn sysctl(path: &str) -> Result<u64, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    text.trim().parse().map_err(|_| format!("{path}: {}", text.trim()))
}

fn unprivileged() -> Check {
    const NAME: &str = "unprivileged_bpf_disabled";
    match sysctl("/proc/sys/kernel/unprivileged_bpf_disabled") {
        Ok(0) => Check::warn(
            NAME,
            "0: any user may load socket filters",
            "`sysctl kernel.unprivileged_bpf_disabled=2`, unless something here needs it",
            "nothing of hopwise; the host is less protected than it could be",
        ),
        Ok(value) => Check::pass(NAME, format!("{value}: privileges are needed")),
        Err(error) => Check::warn(NAME, error, "mount /proc", "nothing"),
    }
}

fn btf() -> Check {
    const PATH: &str = "/sys/kernel/btf/vmlinux";
    match fs::metadata(PATH) {
        Ok(file) => Check::pass("kernel BTF", format!("{PATH}, {} bytes", file.len())),
        Err(error) => Check::warn(
            "kernel BTF",
            format!("{PATH}: {error}"),
            "run a kernel with CONFIG_DEBUG_INFO_BTF, with /sys mounted",
            "tracing inside the kernel",
        ),
    }
}

fn bpffs() -> Check {
    const NAME: &str = "BPF file system";
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounted = mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (place, kind) = (fields.next()?, fields.next()?);
        (kind == "bpf").then(|| place.to_owned())
    });
    match mounted {
        Some(place) => Check::pass(NAME, format!("mounted on {place}")),
        None => Check::warn(
            NAME,
            "not mounted",
            "`mount -t bpf bpf /sys/fs/bpf`",
            "programs and maps that outlive the process",
        ),
    }
}

fn jit() -> Check {
    const NAME: &str = "JIT compiler";
    match sysctl("/proc/sys/net/core/bpf_jit_enable") {
        Ok(0) => Check::warn(NAME, "off", "`sysctl net.core.bpf_jit_enable=1`", "speed only"),
        Ok(value) => Check::pass(NAME, format!("on ({value})")),
        // Readable by root of the first network namespace only; a kernel may have it always on.
        Err(error) => Check::warn(NAME, error, "none is needed", "knowing whether it is on"),
    }
}

/// Asks the kernel whether it knows something; `Err`: it would not say.
fn probe(ask: impl FnOnce() -> libbpf_rs::Result<bool>) -> Result<bool, String> {
    listening(ask).map_err(|(error, _)| format!("{error:#}"))
}

/// Asks for each of several things, by name.
fn probe_all<T>(
    name: &'static str,
    wanted: &[(&str, T)],
    ask: impl Fn(&T) -> libbpf_rs::Result<bool>,
) -> Check {
    // Without the privilege to load anything the kernel's no says nothing about what it has.
    if effective().is_ok_and(|bits| !lacking(bits).is_empty()) {
        return Check::warn(
            name,
            "not tried: capabilities are missing",
            PRIVILEGES,
            KERNEL_BACKEND,
        );
    }
    let (mut missing, mut unknown) = (Vec::new(), None);
    for (what, thing) in wanted {
        match probe(|| ask(thing)) {
            Ok(true) => {}
            Ok(false) => missing.push(*what),
            Err(error) => unknown = Some(error),
        }
    }
    let names: Vec<_> = wanted.iter().map(|(what, _)| *what).collect();
    match unknown {
        Some(error) => Check::fail(name, format!("the kernel does not say: {error}"), PRIVILEGES),
        None if missing.is_empty() => Check::pass(name, names.join(", ")),
        None => {
            let remedy =
                format!("run a newer kernel, and as one that may load programs: {PRIVILEGES}");
            Check::fail(name, format!("not there: {}", missing.join(", ")), remedy)
        }
    }
}

fn program_types() -> Check {
    let types = [("sched_cls", ProgramType::SchedCls), ("xdp", ProgramType::Xdp)];
    probe_all("program types", &types, ProgramType::is_supported)
}

fn map_types() -> Check {
    let types = [
        ("array", MapType::Array),
        ("per-CPU array", MapType::PercpuArray),
        ("hash", MapType::Hash),
        ("LRU hash", MapType::LruHash),
        ("LPM trie", MapType::LpmTrie),
        ("ring buffer", MapType::RingBuf),
        ("program array", MapType::ProgArray),
    ];
    probe_all("map types", &types, MapType::is_supported)
}

fn helpers() -> Check {
    // Numbers of `enum bpf_func_id` in the kernel's `include/uapi/linux/bpf.h`.
    let helpers = [
        ("map_lookup_elem", 1),
        ("map_update_elem", 2),
        ("ktime_get_ns", 5),
        ("get_smp_processor_id", 8),
        ("skb_store_bytes", 9),
        ("l4_csum_replace", 11),
        ("tail_call", 12),
        ("skb_get_tunnel_key", 20),
        ("skb_set_tunnel_key", 21),
        ("redirect", 23),
        ("skb_load_bytes", 26),
        ("skb_change_type", 32),
        ("skb_pull_data", 39),
        ("jiffies64", 118),
        ("ringbuf_reserve", 131),
        ("ringbuf_submit", 132),
        ("redirect_neigh", 152),
        ("redirect_peer", 155),
    ];
    probe_all("helpers", &helpers, |id| ProgramType::SchedCls.is_helper_supported(*id))
}

/// Loads the programs, then runs a packet.
fn object() -> [Check; 2] {
    const LOADS: &str = "programs load";
    const RUNS: &str = "a packet runs";
    let failed = |name, error: &BackendError| Check::fail(name, cause(error), remedy(error));
    let origin = Object::find().map(|object| object.origin());
    let opened = TestRun::open(LIMITS).and_then(|mut backend| {
        backend.load_programs()?;
        Ok(backend)
    });
    let mut backend = match opened {
        Ok(backend) => backend,
        Err(error) => {
            let after = Check::fail(RUNS, "not tried: the programs do not load", remedy(&error));
            return [failed(LOADS, &error), after];
        }
    };
    // The hooks' and the driver.
    let programs = HOOKS.len() + 1;
    let origin = origin.unwrap_or_default();
    let loads = Check::pass(LOADS, format!("{programs} programs, {origin}"));
    let runs = match run(&mut backend) {
        Ok(found) => Check::pass(RUNS, found),
        Err(error) => failed(RUNS, &error),
    };
    [loads, runs]
}

/// What an error says, with the last line of a log.
fn cause(error: &BackendError) -> String {
    match error {
        BackendError::Refused { log, .. } => {
            format!("{error}: {}", log.lines().last().unwrap_or_default())
        }
        _ => error.to_string(),
    }
}

fn remedy(error: &BackendError) -> String {
    match error {
        BackendError::Unsupported { remedy, .. } => remedy.clone(),
        BackendError::Refused { .. } => {
            "report it with the kernel's version; another kernel may take the program".to_owned()
        }
        _ => "see what the error says; unset HOPWISE_BPF_OBJECT if it is set".to_owned(),
    }
}

/// Runs an ARP request, which needs no tables to speak of, with a context that gives its mark back.
fn run(backend: &mut TestRun) -> Result<String, BackendError> {
    const MARK: u32 = 0x1000;
    let mut frame = vec![0xFF; 42];
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    let node = NodeTables {
        node: NodeId(0),
        dual_stack: false,
        tunnel: Tunnel { kind: TunnelKind::Vxlan, port: 8472, device: String::new() },
        routing: Routing::Tunnel,
        host_routing: HostRouting::Bpf,
        tunnel_ifindex: 0,
        device_ifindex: 0,
        host_ifindex: 0,
        host_firewall: false,
        frontends: Vec::new(),
        backend_sets: Vec::new(),
        nat: NatTables {
            masquerade: false,
            addresses: [None, None],
            ports: (32_768, 65_535),
            except: Vec::new(),
        },
        prefilter: Vec::new(),
        encryption: None,
        tunnel_address: std::net::Ipv4Addr::LOCALHOST.into(),
        locals: Vec::new(),
        tunnels: Vec::new(),
        ipcache: Vec::new(),
        endpoints: Vec::new(),
        policies: Vec::new(),
    };
    let tables = Tables { generation: Generation(1), nodes: vec![node], ..Tables::default() };
    backend.load(&tables)?;
    let seen = backend.inject(&Injection {
        node: NodeId(0),
        hook: Hook::FromNetdev,
        ifindex: 1,
        mark: MARK,
        tunnel: None,
        choose: None,
        now: 0,
        frame,
    })?;
    let outcome = seen.events.last().map(|stamped| stamped.event);
    if outcome == Some(Event::Outcome(Action::Stack { host: false })) && seen.mark == MARK {
        return Ok(format!("by BPF_PROG_TEST_RUN with a context, as {}", backend.name()));
    }
    Err(BackendError::BadEvent(format!("{outcome:?} with mark {:#x}", seen.mark)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::State;

    const NAMES: &[&str] = &[
        "kernel version",
        "CAP_BPF",
        "CAP_NET_ADMIN",
        "CAP_PERFMON",
        "unprivileged_bpf_disabled",
        "kernel BTF",
        "BPF file system",
        "JIT compiler",
        "program types",
        "map types",
        "helpers",
        "programs load",
        "a packet runs",
        #[cfg(feature = "lab")]
        "CAP_SYS_ADMIN",
        #[cfg(feature = "lab")]
        "CAP_NET_RAW",
        #[cfg(feature = "lab")]
        "network namespaces",
    ];

    fn check(checks: &[Check]) {
        assert_eq!(checks.iter().map(|check| check.name).collect::<Vec<_>>(), NAMES);
        for check in checks {
            assert!(!check.found.is_empty(), "{check:?}");
            assert_eq!(check.remedy.is_empty(), check.state == State::Pass, "{check:?}");
            assert_eq!(check.lost.is_empty(), check.state == State::Pass, "{check:?}");
        }
    }

    #[test]
    fn a_failure_comes_with_a_remedy_and_what_is_lost() {
        let checks = checks();
        check(&checks);
        let failed = |name: &str| {
            checks.iter().any(|check| check.name == name && check.state == State::Fail)
        };
        // What is cheap to ask agrees with what was tried.
        let privileged = !NAMES[1..4].iter().any(|name| failed(name));
        if privileged && !failed("kernel version") {
            assert_eq!(failed("a packet runs"), failed("programs load"));
        } else {
            assert!(failed("programs load") && failed("a packet runs"));
        }
    }

    #[test]
    fn without_privileges_every_check_is_still_made() {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        // Capabilities are a thread's own, so another one may lose them.
        let stripped = std::thread::spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective = CapabilitySet::empty();
            set_capabilities(None, sets).unwrap();
            checks()
        });
        let checks = stripped.join().unwrap();
        check(&checks);
        for name in ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON", "programs load", "a packet runs"] {
            let of = checks.iter().find(|check| check.name == name).unwrap();
            assert_eq!(of.state, State::Fail, "{of:?}");
            assert!(of.remedy.contains("setcap"), "{of:?}");
        }
    }
}
