//! Network namespaces that are held by a descriptor or, by the convention of iproute2, by a file that they are mounted on, and going
//! into them.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Child, Command};

use rustix::mount::{MountPropagationFlags, mount_bind, mount_bind_recursive, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A network namespace. It is there as long as something holds it: this value, a process or a device's other end.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// Makes one. The caller stays where it is.
    pub fn make() -> io::Result<Self> {
        on_a_thread(|| {
            enter_a_new_one()?;
            File::open(OWN).map(Self)
        })
    }

    /// Makes one that a file holds, beyond this process; the file must not be there.
    pub fn make_at(path: &Path) -> io::Result<Self> {
        prepare(path.parent().unwrap_or(Path::new("/")))?;
        File::create_new(path)?;
        on_a_thread(|| {
            enter_a_new_one()?;
            mount_bind(OWN, path)?;
            File::open(OWN).map(Self)
        })
    }

    /// Opens the one that a file holds.
    pub fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(Self)
    }

    /// Another hold on it.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// What tells it apart from others: device and inode of its file.
    pub fn identity(&self) -> io::Result<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        self.0.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
    }

    /// Starts a command inside. Only its network is the namespace's; files are those of this process.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        self.within(|| command.spawn())
    }

    /// Runs something inside, on a thread of its own. What it opens there stays in there.
    pub fn within<T: Send>(&self, run: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_a_thread(|| {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
            run()
        })
    }

    /// Runs something inside on this thread, which then goes back to where it was.
    pub fn visit<T>(&self, run: impl FnOnce() -> T) -> io::Result<T> {
        let home = File::open(OWN)?;
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?;
        let result = run();
        move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))?;
        Ok(result)
    }

    /// Moves the calling thread into it for good.
    pub fn enter(&self) -> io::Result<()> {
        Ok(move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// Where its file is for other processes, as long as this one lives.
    pub fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// The descriptor, for netlink.
    pub(crate) fn descriptor(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// The namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

#[expect(
    unsafe_code,
    reason = "a call that may also share out descriptors, which it is not asked to"
)]
fn enter_a_new_one() -> io::Result<()> {
    // SAFETY: only the thread's network namespace changes; its descriptors are those of the process as before.
    Ok(unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Makes the directory of files that hold namespaces, whose mounts all mount namespaces share, so that a name that one of them takes
/// away is gone in all.
fn prepare(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let only_one = File::open(directory)?;
    only_one.lock()?;
    let shared =
        || mount_change(directory, MountPropagationFlags::SHARED | MountPropagationFlags::REC);
    if shared().is_err() {
        mount_bind_recursive(directory, directory)?;
        shared()?;
    }
    Ok(())
}

/// Namespaces are a thread's own: a thread that goes with what it did.
fn on_a_thread<T: Send>(run: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread that went inside has panicked")))
}
