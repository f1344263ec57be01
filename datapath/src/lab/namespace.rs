//! Network namespaces that are held by a descriptor, and going into them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A network namespace. It is there as long as something holds it: this value, a process or a device's other end.
#[derive(Debug)]
pub struct Namespace(File);

impl Namespace {
    /// Makes one. The caller stays where it is.
    #[expect(
        unsafe_code,
        reason = "a call that may also share out descriptors, which it is not asked to"
    )]
    pub fn make() -> io::Result<Self> {
        on_a_thread(|| {
            // SAFETY: only the thread's network namespace changes; its descriptors are those of the process as before.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
            File::open("/proc/thread-self/ns/net").map(Self)
        })
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
        let home = File::open("/proc/thread-self/ns/net")?;
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
    pub(super) fn descriptor(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}

/// Namespaces are a thread's own: a thread that goes with what it did.
fn on_a_thread<T: Send>(run: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread that went inside has panicked")))
}
