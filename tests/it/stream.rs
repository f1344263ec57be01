//! Numbered packets from one namespace to another and back, so that each one that is lost is known.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use datapath::lab::namespace::Namespace;

/// Datagrams are sent so often.
const STEP: Duration = Duration::from_micros(500);
/// How long an answer may take at most.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that may wait for a thread that is not running.
const ROOM: usize = 1 << 24;
/// Bytes that a number is sent with by TCP.
const CHUNK: usize = 256;

/// What came of them.
#[derive(Debug)]
pub(crate) struct Streamed {
    /// Datagrams that were sent, each to be answered.
    pub(crate) sent: u64,
    /// Those whose answer never came.
    pub(crate) lost: BTreeSet<u64>,
    /// Numbers that came in order by TCP.
    pub(crate) in_order: u64,
    /// Segments that had to be sent again.
    pub(crate) resent: u64,
}

impl Streamed {
    /// Every single packet came, and many were sent.
    #[track_caller]
    pub(crate) fn is_whole(&self) {
        assert!(self.sent > 500 && self.in_order > 100, "{self:?}");
        assert_eq!((self.lost.len(), self.resent), (0, 0), "{self:?}");
    }
}

fn datagrams(space: &Namespace, port: u16) -> UdpSocket {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    let socket = space.within(|| UdpSocket::bind(any)).expect("a socket");
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ROOM).expect("root may");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("it can be told");
    socket
}

/// Runs something while datagrams, and numbers by TCP, go to ports of an address of `to`.
pub(crate) fn meanwhile(
    (from, to): (&Namespace, &Namespace),
    address: IpAddr,
    (udp, tcp): (u16, u16),
    work: impl FnOnce(),
) -> Streamed {
    let (end, over) = (AtomicBool::new(false), AtomicBool::new(false));
    let (sent, streamed) = (AtomicU64::new(0), AtomicU64::new(0));
    let waiting = Mutex::new(BTreeSet::new());
    let (server, client) = (datagrams(to, udp), datagrams(from, 0));
    client.connect((address, udp)).expect("it can be told");
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, tcp));
    let listener = to.within(|| TcpListener::bind(any)).expect("a port");
    let before = resent(from);
    let there = SocketAddr::new(address, tcp);
    let mut stream =
        from.within(|| TcpStream::connect_timeout(&there, PATIENCE)).expect("it is allowed");
    stream.set_nodelay(true).expect("it sends at once");
    stream.set_write_timeout(Some(PATIENCE * 5)).expect("it can be told");
    let (mut accepted, _) = listener.accept().expect("it is there");
    accepted.set_read_timeout(Some(PATIENCE * 5)).expect("it can be told");
    std::thread::scope(|scope| {
        scope.spawn(|| answer(&server, &over));
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let mut bytes = [0; 8];
                if matches!(client.recv(&mut bytes), Ok(8)) {
                    waiting.lock().expect("no panic").remove(&u64::from_be_bytes(bytes));
                }
            }
        });
        scope.spawn(|| {
            let begun = Instant::now();
            for number in 0_u64.. {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                waiting.lock().expect("no panic").insert(number);
                // A program that drops it at the sender's device says so to the sender.
                let _ = client.send(&number.to_be_bytes());
                sent.store(number + 1, Ordering::Relaxed);
                let due = STEP * u32::try_from(number).unwrap_or(u32::MAX);
                std::thread::sleep(due.saturating_sub(begun.elapsed()).min(STEP));
            }
        });
        scope.spawn(|| count(&mut accepted, &streamed));
        scope.spawn(|| {
            for number in 0_u64.. {
                if end.load(Ordering::Relaxed) {
                    break;
                }
                let mut chunk = [0; CHUNK];
                chunk[..8].copy_from_slice(&number.to_be_bytes());
                if let Err(error) = stream.write_all(&chunk) {
                    panic!("number {number} by TCP: {error}");
                }
                std::thread::sleep(STEP * 2);
            }
            stream.shutdown(std::net::Shutdown::Write).expect("it ends");
        });
        // However it ends, the others end too.
        let _over = Over([&end, &over]);
        work();
        end.store(true, Ordering::Relaxed);
        let ended = Instant::now();
        while !waiting.lock().expect("no panic").is_empty() && ended.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    Streamed {
        sent: sent.into_inner(),
        lost: waiting.into_inner().expect("no panic"),
        in_order: streamed.into_inner(),
        resent: resent(from) - before,
    }
}

/// Sets what others look at when it goes.
struct Over<'a>([&'a AtomicBool; 2]);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|over| over.store(true, Ordering::Relaxed));
    }
}

/// Sends back what comes.
fn answer(server: &UdpSocket, over: &AtomicBool) {
    let mut bytes = [0; 64];
    while !over.load(Ordering::Relaxed) {
        if let Ok((length, peer)) = server.recv_from(&mut bytes) {
            let _ = server.send_to(&bytes[..length], peer);
        }
    }
}

/// Counts numbers that come in order.
fn count(stream: &mut TcpStream, streamed: &AtomicU64) {
    let mut chunk = [0; CHUNK];
    while stream.read_exact(&mut chunk).is_ok() {
        let number = chunk.first_chunk().copied().map(u64::from_be_bytes);
        assert_eq!(number, Some(streamed.fetch_add(1, Ordering::Relaxed)));
    }
}

/// Segments that a namespace had to send again.
pub(crate) fn resent(space: &Namespace) -> u64 {
    let count = || std::fs::read_to_string("/proc/thread-self/net/snmp");
    let text = space.within(count).expect("the kernel counts");
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let at = names.split(' ').position(|name| name == "RetransSegs").expect("it is counted");
    values.split(' ').nth(at).and_then(|value| value.parse().ok()).expect("a number")
}
