//! Network namespaces of a test's own, and Ethernet frames sent and taken on devices in them. They go with the last of
//! their descriptors; nothing of them has a name on the host.

use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, eth, netdevice,
    recv, send, socket_with,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// How long a frame may take. Emulated machines are slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A network namespace.
pub(super) struct Namespace(File);

impl Namespace {
    /// Makes one and moves the calling thread into it.
    #[expect(
        unsafe_code,
        reason = "a call that may also share out descriptors, which it is not asked to"
    )]
    pub(super) fn make() -> io::Result<Self> {
        // SAFETY: only the thread's network namespace changes; its descriptors are those of the process as before.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
        File::open("/proc/thread-self/ns/net").map(Self)
    }

    /// Moves the calling thread into it.
    pub(super) fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("a namespace of this thread's making");
    }

    /// Its name for `ip`.
    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Runs `ip` in it; what it says where it fails.
    pub(super) fn ip(&self, arguments: &str) -> Result<(), String> {
        self.enter();
        let output = Command::new("ip").args(arguments.split_whitespace()).output();
        let output = output.map_err(|error| format!("`ip` (iproute2): {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!("`ip {arguments}`: {said}"))
    }
}

/// A socket that sends and takes whole frames on one device.
pub(super) struct Port(OwnedFd);

/// `struct sockaddr_ll` as far as binding reads it.
#[repr(C)]
struct OnDevice {
    family: u16,
    protocol: u16,
    ifindex: i32,
    unused: [u8; 12],
}

#[expect(unsafe_code, reason = "there is no safe address of a device")]
// SAFETY: the pointer is to a whole `sockaddr_ll`, which lives through the call.
unsafe impl SocketAddrArg for OnDevice {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        let length = SocketAddrLen::try_from(size_of::<Self>()).unwrap_or(0);
        f((&raw const *self).cast(), length)
    }
}

impl Port {
    /// Opens one on a device of a namespace.
    pub(super) fn open(namespace: &Namespace, device: &str) -> io::Result<Self> {
        namespace.enter();
        let all: Protocol = eth::ALL;
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(all))?;
        let address = OnDevice {
            family: AddressFamily::PACKET.as_raw(),
            protocol: 3_u16.to_be(),
            ifindex: netdevice::name_to_index(&socket, device)?.cast_signed(),
            unused: [0; 12],
        };
        bind(&socket, &address)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(Duration::from_millis(100)))?;
        Ok(Self(socket))
    }

    /// Sends a frame.
    pub(super) fn send(&self, frame: &[u8]) {
        let sent = send(&self.0, frame, SendFlags::empty());
        assert_eq!(sent, Ok(frame.len()), "the frame is sent");
    }

    /// The next frame of a kind; `None` if none comes. What else is on the wire, such as neighbours' greetings, is
    /// passed over.
    pub(super) fn take(&self, is_wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(frame) = self.next().filter(|frame| is_wanted(frame)) {
                return Some(frame);
            }
        }
        None
    }

    /// The frames that are there already.
    pub(super) fn rest(&self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn next(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 4096];
        let (length, _) = recv(&self.0, &mut buffer[..], RecvFlags::empty()).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }
}
