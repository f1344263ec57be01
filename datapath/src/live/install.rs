//! Datapaths that stay after the process: what is written down about each of them, who may change it, and removing it whatever became of
//! its maker. Knows files, namespaces' names and pins; neither worlds nor packets.
//!
//! An installation NAME is a directory below [`State::run`] with `record.json`, `lock` (held while it is made, changed or removed) and
//! `events.lock` (held by whom its events go to), pins in a directory of bpffs, and network namespaces whose names begin with its own.
//! A record of which only the beginning was made, or that begins to go, and that nobody holds the lock of is that of a process that was
//! killed. While one is changed its record has what it becomes beside what it was.

mod error;
mod reach;
mod record;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{UnmountFlags, unmount};

use super::programs::{Mode, Programs};
use super::{attachment, pins};
pub use error::InstallError;
use error::LONGEST_NAME;
use record::VERSION;
pub use record::{Kind, Node, Record, Source, Space, Stage};

/// Names another directory than [`DIRECTORY`] for what is written down; pins and namespaces are named after its last part.
pub const VARIABLE: &str = "HOPWISE_STATE";
/// Where installations are written down.
pub const DIRECTORY: &str = "/run/hopwise";
/// Where network namespaces have names, by the convention of iproute2.
pub const NAMESPACES: &str = "/run/netns";

/// Where installations are written down on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    run: PathBuf,
    /// Begins the names of namespaces and is the directory of the pins.
    stem: String,
}

/// What a listing tells of an installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Its name.
    pub name: String,
    /// What is written down; `None`: nothing that can be read.
    pub record: Option<Record>,
    /// Whether a process is at work on it.
    pub is_busy: bool,
}

impl State {
    /// That of the machine, or the one that [`VARIABLE`] names.
    pub fn standard() -> Self {
        Self::at(std::env::var_os(VARIABLE).map_or_else(|| DIRECTORY.into(), PathBuf::from))
    }

    /// That in a directory. Its last part must begin no other state's, or they see each other's namespaces.
    pub fn at(run: PathBuf) -> Self {
        let stem = run.file_name().map_or_else(String::new, |name| name.to_string_lossy().into());
        Self { run, stem }
    }

    /// The directory of what is written down.
    pub fn run(&self) -> &Path {
        &self.run
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.run.join(name)
    }

    /// The directory of all pins.
    pub fn all_pins(&self) -> PathBuf {
        Path::new(pins::BPFFS).join(pins::escaped(&self.stem))
    }

    /// The directory of an installation's pins.
    pub fn pins(&self, name: &str) -> PathBuf {
        self.all_pins().join(pins::escaped(name))
    }

    /// What the names of an installation's namespaces begin with.
    fn prefix(&self, name: &str) -> String {
        format!("{}-{name}--", self.stem)
    }

    /// The file of a namespace.
    pub fn namespace(&self, name: &str, space: &str) -> PathBuf {
        Path::new(NAMESPACES).join(self.prefix(name) + &space.replace('/', "--"))
    }

    /// All installations, also such as are there in parts only, by name.
    pub fn list(&self) -> Vec<Summary> {
        let entries = fs::read_dir(&self.run).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.filter(|name| is_name(name)).collect();
        names.sort();
        let summary = |name: String| {
            let directory = self.directory(&name);
            Summary {
                record: read(&directory).ok(),
                is_busy: holder(&directory.join(LOCK)).is_some(),
                name,
            }
        };
        names.into_iter().map(summary).collect()
    }

    /// The name that is meant by one that may be left out where there is only one of the kind (or of any, without a kind).
    pub fn meant(&self, name: Option<&str>, kind: Option<Kind>) -> Result<String, InstallError> {
        if let Some(name) = name {
            return Ok(name.to_owned());
        }
        let is_of = |found: &Summary| match (&found.record, kind) {
            (Some(record), Some(kind)) => record.kind == kind,
            _ => true,
        };
        let known: Vec<String> =
            self.list().into_iter().filter(is_of).map(|found| found.name).collect();
        match &known[..] {
            [one] => Ok(one.clone()),
            _ => Err(InstallError::Which { known }),
        }
    }

    /// Takes a name for something that begins to be made, and writes its record.
    pub fn claim(&self, name: &str, record: Record) -> Result<Change, InstallError> {
        if !is_name(name) {
            return Err(InstallError::Name(name.to_owned()));
        }
        let directory = self.directory(name);
        let failed = |error| InstallError::system(format!("making {}", directory.display()), error);
        fs::create_dir_all(&self.run).map_err(failed)?;
        match fs::create_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(InstallError::Exists(name.to_owned()));
            }
            made => made.map_err(failed)?,
        }
        let lock =
            lock(&directory.join(LOCK))?.ok_or_else(|| InstallError::Exists(name.to_owned()))?;
        let change = Change { name: name.to_owned(), directory, _lock: lock };
        change.save(record)?;
        Ok(change)
    }

    /// What is written down about an installation that was made to the end.
    pub fn open(&self, name: &str) -> Result<Record, InstallError> {
        let directory = self.directory(name);
        if !is_name(name) || !directory.is_dir() {
            let known = self.list().into_iter().map(|found| found.name).collect();
            return Err(InstallError::Absent { name: name.to_owned(), known });
        }
        let record = read(&directory);
        let record = record.map_err(|_| match holder(&directory.join(LOCK)) {
            Some(process) => InstallError::Busy { name: name.to_owned(), process },
            None => InstallError::Unfinished(name.to_owned()),
        })?;
        if record.version != VERSION || record.abi != datapath_abi::ABI_VERSION {
            return Err(InstallError::Version(name.to_owned()));
        }
        match (record.stage, holder(&directory.join(LOCK))) {
            (Stage::Up, _) => Ok(record),
            (_, Some(process)) => Err(InstallError::Busy { name: name.to_owned(), process }),
            (Stage::Building, None) if record.next.is_some() => {
                Err(InstallError::Interrupted(name.to_owned()))
            }
            (_, None) => Err(InstallError::Unfinished(name.to_owned())),
        }
    }

    /// What is written down about one that a process was killed over while it changed it, to change it further. `None`: nobody began to
    /// change it.
    pub fn resume(&self, name: &str) -> Result<Option<(Change, Record)>, InstallError> {
        if !matches!(self.open(name), Err(InstallError::Interrupted(_))) {
            return Ok(None);
        }
        let change = self.take(name)?;
        // Another process may have gone on with it before this one had the lock.
        let record = read(&self.directory(name)).ok();
        Ok(record.filter(|record| record.next.is_some()).map(|record| (change, record)))
    }

    /// The same, to change it: nobody else does as long as the result is held.
    pub fn change(&self, name: &str) -> Result<(Change, Record), InstallError> {
        self.open(name)?;
        let change = self.take(name)?;
        // Another process may have changed it before this one had the lock.
        Ok((change, self.open(name)?))
    }

    fn take(&self, name: &str) -> Result<Change, InstallError> {
        let directory = self.directory(name);
        let file = directory.join(LOCK);
        let Some(lock) = lock(&file)? else {
            let process = holder(&file).unwrap_or_default();
            return Err(InstallError::Busy { name: name.to_owned(), process });
        };
        Ok(Change { name: name.to_owned(), directory, _lock: lock })
    }

    /// A node's programs of an installation.
    pub fn programs(&self, name: &str, node: &str) -> Result<Programs, InstallError> {
        Ok(Programs::open(&self.node_pins(name, node))?)
    }

    /// The directory of a node's pins.
    pub fn node_pins(&self, name: &str, node: &str) -> PathBuf {
        self.pins(name).join(pins::escaped(node))
    }

    /// Tells programs that nobody listens where whoever did was killed, since telling costs them time; whether that was so.
    pub fn hush(&self, name: &str, record: &Record) -> bool {
        // Whoever listens has this.
        let Ok(_reader) = self.reader(name) else { return false };
        let mut were_heard = false;
        for node in &record.nodes {
            let Ok(mut programs) = self.programs(name, &node.name) else { continue };
            let (told, silent) = (programs.mode(), programs.mode().telling(Mode::default()));
            were_heard |= told != silent && programs.set_mode(silent).is_ok();
        }
        were_heard
    }

    /// Whom an installation's events go to as long as the result is held.
    pub fn reader(&self, name: &str) -> Result<Reader, InstallError> {
        let file = self.directory(name).join(EVENTS);
        match lock(&file)? {
            Some(lock) => Ok(Reader { _lock: lock }),
            None => {
                let process = holder(&file).unwrap_or_default();
                Err(InstallError::Read { name: name.to_owned(), process })
            }
        }
    }

    /// Removes an installation, however far it came: programs and their maps, then namespaces with their devices, then what is
    /// written down. Whoever is at work on it is waited for by the caller's asking again.
    pub fn remove(&self, name: &str) -> Result<(), InstallError> {
        self.remove_with(name, |_| ())
    }

    /// The same. `tidy` takes away what else was made for it, once no program of it hangs anywhere any more and while it is still written
    /// down: whoever is killed in between leaves enough to go on from.
    pub fn remove_with(&self, name: &str, tidy: impl FnOnce(&Record)) -> Result<(), InstallError> {
        let directory = self.directory(name);
        let is_there = is_name(name) && directory.is_dir();
        let leftovers = self.leftovers(name);
        if !is_there && leftovers.is_empty() && !self.pins(name).exists() {
            let known = self.list().into_iter().map(|found| found.name).collect();
            return Err(InstallError::Absent { name: name.to_owned(), known });
        }
        let taken = if is_there { Some(self.take(name)?) } else { None };
        self.clear(name, &directory, tidy)?;
        drop(taken);
        // It stays where others have pins.
        drop(fs::remove_dir(self.all_pins()));
        Ok(())
    }

    fn clear(
        &self,
        name: &str,
        directory: &Path,
        tidy: impl FnOnce(&Record),
    ) -> Result<(), InstallError> {
        // Filters hang on devices, not on files: they are taken off inside the namespace that they are in.
        if let Ok(record) = read(directory) {
            // Whoever comes after one that is killed from here on finds parts only.
            write(directory, &Record { stage: Stage::Leaving, ..record.clone() })?;
            // Devices of a lab go with their namespaces, and filters with them.
            for node in record.all_nodes().filter(|_| record.kind == Kind::Attached) {
                take_off(node, &self.node_pins(name, &node.name))?;
            }
            tidy(&record);
        }
        pins::remove_all(&self.pins(name))?;
        self.leftovers(name).iter().try_for_each(|path| release(path))?;
        let failed =
            |error| InstallError::system(format!("removing {}", directory.display()), error);
        match fs::remove_dir_all(directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(()),
        }
    }

    /// Files of namespaces of an installation.
    fn leftovers(&self, name: &str) -> Vec<PathBuf> {
        named(&self.prefix(name))
    }

    /// Removes everything that any installation left, and says what their names were.
    pub fn remove_all(&self) -> Result<Vec<String>, InstallError> {
        let mut names: Vec<String> = self.list().into_iter().map(|found| found.name).collect();
        for name in &names {
            self.remove(name)?;
        }
        let pins = self.all_pins();
        let lost = pins::names(&pins)?.into_iter().chain(self.nameless());
        let mut lost: Vec<String> = lost.collect();
        lost.sort();
        lost.dedup();
        for name in lost {
            self.clear(&name, &self.directory(&name), |_| ())?;
            names.push(name);
        }
        pins::remove_all(&pins)?;
        // Where something else is in it, it stays.
        drop(fs::remove_dir(&self.run));
        Ok(names)
    }

    /// Names of installations of which there are namespaces.
    fn nameless(&self) -> Vec<String> {
        let begin = format!("{}-", self.stem);
        let of = |path: PathBuf| {
            let file = path.file_name()?.to_string_lossy().into_owned();
            Some(file.strip_prefix(&begin)?.split_once("--")?.0.to_owned())
        };
        named(&begin).into_iter().filter_map(of).collect()
    }
}

/// The right to change an installation.
#[derive(Debug)]
pub struct Change {
    name: String,
    directory: PathBuf,
    _lock: Lock,
}

impl Change {
    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the record, whole or not at all.
    pub fn save(&self, mut record: Record) -> Result<(), InstallError> {
        record.process = std::process::id();
        write(&self.directory, &record)
    }
}

/// The right to read an installation's events.
#[derive(Debug)]
pub struct Reader {
    _lock: Lock,
}

const LOCK: &str = "lock";
const EVENTS: &str = "events.lock";
const RECORD: &str = "record.json";

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=LONGEST_NAME).contains(&name.len())
        && name.chars().all(is_plain)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

fn write(directory: &Path, record: &Record) -> Result<(), InstallError> {
    let (file, new) = (directory.join(RECORD), directory.join("record.new"));
    let text = serde_json::to_vec_pretty(record)
        .map_err(|error| InstallError::system("writing a record", error))?;
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, &file));
    written.map_err(|error| InstallError::system(format!("writing {}", file.display()), error))
}

fn read(directory: &Path) -> io::Result<Record> {
    let text = fs::read(directory.join(RECORD))?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

/// A lock that is held. Letting go of it is said to the kernel: a child that another thread forks has the file too until it runs its
/// program, and would have the lock as long if the file were only closed.
#[derive(Debug)]
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Where this fails, closing the file lets go of it.
        let _ = self.0.unlock();
    }
}

/// How long a lock is waited for: those who only look whether it is held have it for a moment.
const PATIENCE: Duration = Duration::from_millis(50);

/// Takes a lock, in which the process writes its number; `None`: another one has it.
fn lock(path: &Path) -> Result<Option<Lock>, InstallError> {
    let failed =
        |error: io::Error| InstallError::system(format!("locking {}", path.display()), error);
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed)?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(PATIENCE / 10);
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
    }
    let number = std::process::id().to_string();
    let written = file
        .set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| file.write_all(number.as_bytes()));
    written.map_err(failed)?;
    Ok(Some(Lock(file)))
}

/// The process that has a lock.
fn holder(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    // A lock that many may share is had at once where nobody has the other.
    match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => {}
        Ok(()) => {
            drop(Lock(file));
            return None;
        }
        Err(TryLockError::Error(_)) => return None,
    }
    let mut number = String::new();
    file.read_to_string(&mut number).ok()?;
    Some(number)
}

/// Files of named namespaces by how they begin.
fn named(begin: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    let is_its = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(begin);
    let mut paths: Vec<PathBuf> =
        entries.filter(|entry| is_its(&entry.file_name())).map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Takes the name off a namespace, which then goes with its last process or descriptor.
pub(crate) fn release(path: &Path) -> Result<(), InstallError> {
    // One process may have mounted it on another's mount.
    while unmount(path, UnmountFlags::DETACH).is_ok() {}
    Ok(pins::remove(path)?)
}

/// Takes a node's programs off its devices. What hangs where nothing leads to any more does nothing from now on.
fn take_off(node: &Node, pins: &Path) -> Result<(), InstallError> {
    if !pins.exists() {
        return Ok(());
    }
    let programs = Programs::open(pins).and_then(|mut programs| {
        let mode = programs.mode();
        programs.set_mode(Mode { until: 1, ..mode })?;
        Ok(programs)
    });
    // Those of another version are known by their files.
    let work = || match programs {
        Ok(programs) => programs.remove(),
        Err(_) => attachment::left_off(pins),
    };
    let Some(path) = node.reach() else { return Ok(work()?) };
    let entered = inside(&path, work);
    Ok(entered
        .map_err(|error| InstallError::system(format!("entering {}", path.display()), error))??)
}

/// Runs something in a namespace.
fn inside<T>(path: &Path, run: impl FnOnce() -> T) -> io::Result<T> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::os::fd::AsFd;
    let network = Some(LinkNameSpaceType::Network);
    let (home, there) = (File::open("/proc/thread-self/ns/net")?, File::open(path)?);
    move_into_link_name_space(there.as_fd(), network)?;
    let result = run();
    // A thread that cannot go home must not go on elsewhere: nothing here keeps it from that but a kernel bug.
    let _ = move_into_link_name_space(home.as_fd(), network);
    Ok(result)
}

#[cfg(test)]
mod tests;
