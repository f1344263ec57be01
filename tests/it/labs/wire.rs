//! Sockets inside namespaces: echo requests, servers and clients of HTTP, as small as can be.

use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use datapath::lab::namespace::Namespace;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, connect, ipproto, recv, send};

/// How long an answer that comes may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// How long one is waited for that must not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// A socket for echo requests to an address.
pub(crate) struct Ping {
    socket: rustix::fd::OwnedFd,
    is_v6: bool,
    sequence: u16,
}

impl Ping {
    /// Opens one inside a namespace.
    pub(crate) fn open(space: &Namespace, to: IpAddr) -> io::Result<Self> {
        let is_v6 = to.is_ipv6();
        let (family, protocol) = if is_v6 {
            (AddressFamily::INET6, ipproto::ICMPV6)
        } else {
            (AddressFamily::INET, ipproto::ICMP)
        };
        let socket = space.within(|| {
            let socket = rustix::net::socket(family, SocketType::DGRAM, Some(protocol))?;
            connect(&socket, &SocketAddr::new(to, 0))?;
            Ok(socket)
        })?;
        Ok(Self { socket, is_v6, sequence: 0 })
    }

    /// Sends one and waits for its answer.
    pub(crate) fn ask(&mut self, patience: Duration) -> io::Result<()> {
        self.sequence += 1;
        let kind = if self.is_v6 { 128 } else { 8 };
        let [high, low] = self.sequence.to_be_bytes();
        let mut request = vec![kind, 0, 0, 0, 0, 0, high, low];
        request.extend([0x5A; 56]);
        set_socket_timeout(&self.socket, Timeout::Recv, Some(patience))?;
        send(&self.socket, &request, SendFlags::empty())?;
        let begun = Instant::now();
        let mut answer = [0; 256];
        while begun.elapsed() < patience {
            let (length, _) = recv(&self.socket, &mut answer[..], RecvFlags::empty())?;
            if answer[..length].get(6..8) == Some(&[high, low]) {
                return Ok(());
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

/// Whether an address answers an echo request.
pub(crate) fn ping(space: &Namespace, to: IpAddr) -> io::Result<()> {
    Ping::open(space, to)?.ask(PATIENCE)
}

/// A server of HTTP inside a namespace, which answers every request with its name and the client's address, until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    space: Namespace,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// One at all addresses of the namespace.
    pub(crate) fn start(space: &Namespace, port: u16, name: &str) -> Self {
        let address = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), port);
        Self::serve(space, address, name)
    }

    /// One at an address.
    pub(crate) fn at(space: &Namespace, address: &str, name: &str) -> Self {
        Self::serve(space, address.parse().expect("an address with a port"), name)
    }

    fn serve(space: &Namespace, mut address: SocketAddr, name: &str) -> Self {
        let listener = space.within(|| TcpListener::bind(address)).expect("the port is free");
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv6Addr::LOCALHOST.into());
        }
        let name = name.to_owned();
        let thread = std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Only whoever is in the namespace itself has the server's own address.
                let (peer, own) = (client.peer_addr(), client.local_addr());
                if peer.is_ok_and(|peer| own.is_ok_and(|own| own.ip() == peer.ip())) {
                    return;
                }
                let name = name.clone();
                std::thread::spawn(move || drop(answer(client, &name)));
            }
        });
        let space = space.try_clone().expect("descriptors are there");
        Self { address, space, thread: Some(thread) }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A connection from its own namespace ends it.
        let end = self.space.within(|| TcpStream::connect_timeout(&self.address, PATIENCE));
        if let (Ok(_), Some(thread)) = (end, self.thread.take()) {
            drop(thread.join());
        }
    }
}

/// Answers requests of one client until it ends.
fn answer(mut client: TcpStream, name: &str) -> io::Result<()> {
    let peer = client.peer_addr()?.ip().to_canonical();
    let mut request = Vec::new();
    let mut part = [0; 1024];
    loop {
        let length = client.read(&mut part)?;
        if length == 0 {
            return Ok(());
        }
        request.extend(&part[..length]);
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            let body = format!("{name} {peer}");
            write!(client, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
        }
    }
}

/// A client's connection.
pub(crate) struct Client(TcpStream);

impl Client {
    pub(crate) fn connect(
        space: &Namespace,
        to: SocketAddr,
        patience: Duration,
    ) -> io::Result<Self> {
        let stream = space.within(|| TcpStream::connect_timeout(&to, patience))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        Ok(Self(stream))
    }

    /// What a request is answered with.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<String> {
        write!(self.0, "GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")?;
        let mut answer = Vec::new();
        let mut part = [0; 1024];
        loop {
            let length = self.0.read(&mut part)?;
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            answer.extend(&part[..length]);
            let text = String::from_utf8_lossy(&answer).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if length.is_some_and(|length| length.parse() == Ok(body.len())) {
                return Ok(body.to_owned());
            }
        }
    }
}

/// What one request to an address is answered with.
pub(crate) fn get(space: &Namespace, to: SocketAddr, patience: Duration) -> io::Result<String> {
    Client::connect(space, to, patience)?.get("/")
}
