//! The network namespace that a record means, by whatever file leads there now: a name may go, and so may the process that it was found by,
//! while the namespace goes on. Enters none.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::NAMESPACES;
use super::record::Node;

/// The one that the calling thread is in.
const OWN: &str = "/proc/thread-self/ns/net";

impl Node {
    /// The file that leads to its namespace now. `None`: nothing does, as far as this process can see, and most likely it is gone with its
    /// devices.
    pub fn reach(&self) -> Option<PathBuf> {
        let named = self.namespace.clone().unwrap_or_else(|| OWN.into());
        let Some(wanted) = self.identity else { return Some(named) };
        let is_it = |path: &PathBuf| identity(path) == Some(wanted);
        [named, OWN.into()]
            .into_iter()
            .chain(below(Path::new(NAMESPACES)))
            .chain(of_processes())
            .find(is_it)
    }
}

/// Device and inode of a namespace's file.
fn identity(path: &PathBuf) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

fn below(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn of_processes() -> impl Iterator<Item = PathBuf> {
    let is_process = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.bytes().all(|byte| byte.is_ascii_digit())
    };
    below(Path::new("/proc")).filter(is_process).map(|path| path.join("ns/net"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(namespace: Option<&str>, identity: Option<(u64, u64)>) -> Node {
        let namespace = namespace.map(PathBuf::from);
        Node { name: "node01".to_owned(), namespace, identity, places: Vec::new() }
    }

    #[test]
    fn a_namespace_is_found_by_what_it_is() {
        let own = identity(&OWN.into());
        assert_eq!(node(None, None).reach(), Some(OWN.into()));
        assert_eq!(node(Some("/run/netns/x"), None).reach(), Some("/run/netns/x".into()));
        assert_eq!(node(None, own).reach(), Some(OWN.into()));
        // Its name is gone, or another one's by now.
        for named in ["/run/netns/no-such-name", "/proc/version"] {
            assert_eq!(node(Some(named), own).reach(), Some(OWN.into()), "{named}");
        }
        assert_eq!(node(None, Some((0, 1))).reach(), None);
    }
}
