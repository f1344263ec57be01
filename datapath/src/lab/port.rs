//! Whole Ethernet frames sent and taken on a device.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, eth, netdevice,
    recv, send, socket_with,
};

use super::namespace::Namespace;

/// The longest frame that is taken whole.
const LONGEST: usize = 1 << 16;

/// A socket on one device.
#[derive(Debug)]
pub struct Port(OwnedFd);

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
    pub fn open(namespace: &Namespace, device: &str) -> io::Result<Self> {
        namespace.within(|| {
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
        })
    }

    /// Sends a frame. One that a program drops on its way out counts as sent.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        match send(&self.0, frame, SendFlags::empty()) {
            Ok(sent) if sent == frame.len() => Ok(()),
            Ok(_) => Err(io::Error::other("the frame was cut")),
            // A program at the device's egress has dropped it.
            Err(rustix::io::Errno::NOBUFS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The mark of packets that are sent from now on; it holds as long as they stay in the namespace. Needs `CAP_NET_ADMIN`.
    #[expect(unsafe_code, reason = "no crate here wraps SO_MARK")]
    pub fn set_mark(&self, mark: u32) -> io::Result<()> {
        let length = libc::socklen_t::try_from(size_of::<u32>()).unwrap_or(0);
        // SAFETY: an open socket, and a number that lives through the call with its size.
        let code = unsafe {
            libc::setsockopt(
                self.0.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_MARK,
                (&raw const mark).cast(),
                length,
            )
        };
        if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The next frame; `None` if none comes within a tenth of a second.
    pub fn next(&self) -> io::Result<Option<Vec<u8>>> {
        self.take(RecvFlags::empty())
    }

    /// All that is there already.
    pub fn rest(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.take(RecvFlags::DONTWAIT)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn take(&self, flags: RecvFlags) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; LONGEST];
        match recv(&self.0, &mut buffer[..], flags) {
            Ok((length, _)) => {
                buffer.truncate(length);
                Ok(Some(buffer))
            }
            // From a device that is down nothing comes.
            Err(
                rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::NETDOWN,
            ) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
