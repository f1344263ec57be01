//! The network namespaces of this machine: its own, those with a name by the convention of iproute2, and those that processes are in.
//! Each once, by what its file is, under the name that lasts longest.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::lab::namespace::Namespace;
use crate::live::install::NAMESPACES;

/// A network namespace.
#[derive(Debug)]
pub struct Space {
    /// What people call it: `own`, a name, or a process in it.
    pub name: String,
    /// Its file for other processes; `None`: the one that this process is in.
    pub path: Option<PathBuf>,
    /// A hold on it.
    pub namespace: Namespace,
}

/// All that can be opened.
pub(super) fn all() -> io::Result<Vec<Space>> {
    let own = Namespace::open(Path::new("/proc/thread-self/ns/net"))?;
    let mut known = BTreeSet::from([own.identity()?]);
    let mut spaces = vec![Space { name: "own".to_owned(), path: None, namespace: own }];
    let mut take = |name: String, path: PathBuf| {
        // One that goes away while it is looked at is none.
        let Ok(namespace) = Namespace::open(&path) else { return };
        if namespace.identity().is_ok_and(|identity| known.insert(identity)) {
            spaces.push(Space { name, path: Some(path), namespace });
        }
    };
    for entry in entries(Path::new(NAMESPACES)) {
        take(entry.file_name().to_string_lossy().into_owned(), entry.path());
    }
    for entry in entries(Path::new("/proc")) {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.bytes().all(|byte| byte.is_ascii_digit()) {
            take(format!("process {name}"), entry.path().join("ns/net"));
        }
    }
    Ok(spaces)
}

fn entries(directory: &Path) -> Vec<fs::DirEntry> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut entries: Vec<_> = entries.collect();
    entries.sort_by_key(fs::DirEntry::file_name);
    entries
}
