//! Maps, programs and links as files of bpffs, so that they outlive the process: their names, and making and removing them. Pins
//! nothing by itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engine::backend::BackendError;
use engine::net::Hook;
use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

use super::attachment::Place;

/// Where bpffs is mounted by convention.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Its magic number (`BPF_FS_MAGIC`).
const MAGIC: u64 = 0xCAFE_4A11;
/// Begins the names of maps.
pub(super) const MAP: &str = "map-";
/// Begins the names of programs.
pub(super) const PROGRAM: &str = "prog-";
/// Begins the names of links.
const LINK: &str = "link-";
/// Begins the names of programs that hang by a filter of a clsact qdisc, which no file stands for.
const FILTER: &str = "filter-";
/// Ends the name of a node's directory while another one still has its place.
const NEXT: &str = "~next";
/// Ends the name of the directory whose place another one has taken.
const OLD: &str = "~old";

/// How a pinned program hangs where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// By a link that goes with its file.
    Link,
    /// By a filter, with its priority and handle.
    Filter(u16, u32),
}

/// A name as bpffs takes it, which refuses dots.
pub fn escaped(name: &str) -> String {
    name.replace('%', "%25").replace('.', "%2E").replace('/', "%2F").replace('@', "%40")
}

fn plain(name: &str) -> String {
    name.replace("%40", "@").replace("%2F", "/").replace("%2E", ".").replace("%25", "%")
}

/// The name of the file of a hold.
pub(super) fn name_of(place: &Place, hold: &Hold) -> String {
    let device = escaped(&place.device);
    match hold {
        Hold::Link => format!("{LINK}{}@{device}", place.hook),
        Hold::Filter(priority, handle) => {
            format!("{FILTER}{}@{device}@{priority}@{handle}", place.hook)
        }
    }
}

/// What the file of a name stands for; `None`: a map or a program.
pub(super) fn hold_of(name: &str) -> Option<(Place, Hold)> {
    let place = |hook: &str, device: &str| {
        let hook = Hook::ALL.into_iter().find(|known| known.to_string() == hook)?;
        Some(Place { hook, device: plain(device) })
    };
    if let Some(link) = name.strip_prefix(LINK) {
        let (hook, device) = link.split_once('@')?;
        return Some((place(hook, device)?, Hold::Link));
    }
    let mut parts = name.strip_prefix(FILTER)?.split('@');
    let place = place(parts.next()?, parts.next()?)?;
    let hold = Hold::Filter(parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    Some((place, hold))
}

/// Where a node's pins are made while the directory is another one's.
pub(super) fn next(directory: &Path) -> PathBuf {
    beside(directory, NEXT)
}

/// Where a node's pins are while they go, since others have their place.
pub(super) fn old(directory: &Path) -> PathBuf {
    beside(directory, OLD)
}

fn beside(directory: &Path, ending: &str) -> PathBuf {
    let mut name = directory.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

pub(super) fn failed(what: &str, path: &Path, error: &io::Error) -> BackendError {
    BackendError::System { call: format!("{what} {}", path.display()), error: error.to_string() }
}

/// Mounts bpffs at its place if it is not there.
pub fn mount_bpffs() -> Result<(), BackendError> {
    let at = Path::new(BPFFS);
    let there = statfs(at).map_err(|error| failed("looking at", at, &error.into()))?;
    if u64::try_from(there.f_type).is_ok_and(|kind| kind == MAGIC) {
        return Ok(());
    }
    if is_apart("mnt") && is_apart("net") {
        return Err(BackendError::Unsupported {
            what: "keeping programs in a mount namespace of its own, with which they would go (`ip netns exec` makes one)".to_owned(),
            remedy: "run it outside: devices are found in every network namespace; or with the machine's mounts: `nsenter --mount=/proc/1/ns/mnt hopwise ...`"
                .to_owned(),
        });
    }
    mount("bpf", at, "bpf", MountFlags::empty(), Some(c"mode=0700"))
        .map_err(|error| failed("mounting bpffs at", at, &error.into()))
}

/// Whether this process is in another namespace of a kind than the machine's first one, as far as can be seen.
fn is_apart(kind: &str) -> bool {
    let of = |process: &str| fs::read_link(format!("/proc/{process}/ns/{kind}")).ok();
    of("1").zip(of("self")).is_some_and(|(first, own)| first != own)
}

/// The names in a directory; none if there is no such directory.
pub(super) fn names(directory: &Path) -> Result<Vec<String>, BackendError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("reading", directory, &error)),
    };
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// Removes a file, which need not be there.
pub(super) fn remove(path: &Path) -> Result<(), BackendError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("removing", path, &error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory of pins and all below it, which need not be there: links first, so that no program runs whose maps are
/// half gone.
pub fn remove_all(directory: &Path) -> Result<(), BackendError> {
    let mut names = names(directory)?;
    names.sort_by_key(|name| !name.starts_with(LINK));
    for name in names {
        let path = directory.join(name);
        if path.is_dir() { remove_all(&path)? } else { remove(&path)? }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed("removing", directory, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links_tell_where_they_are() {
        for device in ["eth0", "eth0.100", "lxc%@a"] {
            for hold in [Hold::Link, Hold::Filter(49152, 1)] {
                let place = Place { hook: Hook::FromContainer, device: device.to_owned() };
                let name = name_of(&place, &hold);
                assert!(!name.contains('.'), "{name}");
                assert_eq!(hold_of(&name), Some((place, hold)));
            }
        }
        assert_eq!(hold_of("map-CT4"), None);
        assert_eq!(hold_of("link-nowhere@eth0"), None);
        assert_eq!(hold_of("filter-to-host@eth0@x@1"), None);
    }

    #[test]
    fn what_is_not_there_is_removed_already() {
        let nowhere = std::env::temp_dir().join("hopwise-no-such-directory");
        assert_eq!(remove_all(&nowhere), Ok(()));
        assert_eq!(names(&nowhere), Ok(Vec::new()));
    }
}
