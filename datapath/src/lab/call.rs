//! A connection that is opened from inside a lab's namespace by the kernel's own sockets, with one request on it. Knows nothing of what
//! is asked: bytes go, and the first line that comes back is told.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketType, bind, connect, getsockname, ipproto, socket};

use super::namespace::Namespace;

/// Bytes of an answer's first line at most.
const LINE: usize = 256;

/// A socket that has an address and is not connected yet.
#[derive(Debug)]
pub struct Caller {
    socket: OwnedFd,
    local: SocketAddr,
}

/// What became of a call.
#[derive(Debug)]
pub enum Called {
    /// There was no connection, so that nothing was sent.
    Unopened(io::Error),
    /// The bytes were sent, and no line came back.
    Unanswered(io::Error),
    /// This came back first, so long after the bytes were sent.
    Answered {
        /// The line, without its end.
        line: String,
        /// After the bytes were sent.
        after: Duration,
    },
}

impl Caller {
    /// A socket inside a namespace at an address; port 0 takes one that is free.
    ///
    /// # Errors
    /// The namespace does not have the address, or the port is taken.
    pub fn bind(space: &Namespace, from: SocketAddr) -> io::Result<Self> {
        let family = if from.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
        space.within(|| {
            let socket = socket(family, SocketType::STREAM, Some(ipproto::TCP))?;
            bind(&socket, &from)?;
            let local = SocketAddr::try_from(getsockname(&socket)?)?;
            Ok(Self { socket, local })
        })
    }

    /// The address with the port that it has.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Connects, sends the bytes and waits for the first line of an answer, each no longer than so.
    pub fn call(self, to: SocketAddr, request: &[u8], patience: Duration) -> Called {
        let opened = set_socket_timeout(&self.socket, Timeout::Send, Some(patience))
            .and_then(|()| connect(&self.socket, &to));
        if let Err(error) = opened {
            // How connecting says that its time was over.
            return Called::Unopened(match error {
                Errno::INPROGRESS => io::ErrorKind::TimedOut.into(),
                error => error.into(),
            });
        }
        let mut stream = TcpStream::from(self.socket);
        let begun = Instant::now();
        match asked(&mut stream, request, patience) {
            Ok(line) => Called::Answered { line, after: begun.elapsed() },
            Err(error) => Called::Unanswered(error),
        }
    }
}

fn asked(stream: &mut TcpStream, request: &[u8], patience: Duration) -> io::Result<String> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(request)?;
    let (mut line, mut byte) = (Vec::new(), [0]);
    while line.len() < LINE && stream.read(&mut byte)? == 1 && byte != *b"\n" {
        line.extend(byte);
    }
    if line.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&line).trim_end().chars().filter(|c| !c.is_control()).collect())
}
