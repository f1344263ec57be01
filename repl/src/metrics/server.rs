//! A server of metrics: `GET /metrics` and nothing else, on a thread of its own that goes with its value, and one for each client, of
//! whom there are so many at once and no more.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::Metrics;

/// How long a client may take to say what it wants, and as long again to take it.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Clients that are listened to at once; each has little to say, and its thread little to remember.
const MOST_CLIENTS: usize = 256;
const STACK: usize = 1 << 18;
/// Bytes of a request that are read at most.
const LONGEST_REQUEST: u64 = 8192;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

/// Why metrics cannot be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address is none.
    #[error("`{0}` is no address to serve metrics at")]
    Address(String),
    /// Nobody can be heard there.
    #[error("metrics cannot be served at {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The kernel's answer.
        error: io::Error,
    },
}

impl ServeError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Address(_) => {
                "for example `127.0.0.1:9650`, `[::1]:9650`, `:9650` (every address) or `9650` (this machine only)"
            }
            Self::Listen { error, .. } if error.kind() == io::ErrorKind::AddrInUse => {
                "another process has that port; choose another one"
            }
            Self::Listen { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
                "ports below 1024 are root's; choose a higher one"
            }
            Self::Listen { .. } => "choose an address of this machine",
        }
    }
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Serves metrics at an address until the result is dropped.
pub fn serve(address: &str, metrics: Metrics) -> Result<Server, ServeError> {
    let (address, listener) = listen(address)?;
    let stopping = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stopping);
    let clients = Arc::new(());
    let thread = std::thread::spawn(move || {
        for stream in listener.incoming() {
            if told.load(Ordering::Acquire) {
                return;
            }
            // A client that goes away is no concern of the others.
            let Ok(stream) = stream else { continue };
            let (client, metrics) = (Arc::clone(&clients), metrics.clone());
            if Arc::strong_count(&client) > MOST_CLIENTS {
                continue;
            }
            let one = move || {
                let _ = answer(&stream, &metrics);
                drop(client);
            };
            // Where no thread can be had the client is hung up on.
            let _ = std::thread::Builder::new().stack_size(STACK).spawn(one);
        }
    });
    Ok(Server { address, stopping, thread: Some(thread) })
}

/// Whether metrics could be served at an address.
///
/// # Errors
/// Why they cannot.
pub fn check(address: &str) -> Result<(), ServeError> {
    listen(address).map(drop)
}

fn listen(address: &str) -> Result<(SocketAddr, TcpListener), ServeError> {
    let addresses = parse(address);
    let listening = TcpListener::bind(&addresses[..]).and_then(|l| Ok((l.local_addr()?, l)));
    match (listening, addresses.last()) {
        (Ok(listening), _) => Ok(listening),
        (Err(_), None) => Err(ServeError::Address(address.to_owned())),
        (Err(error), Some(address)) => Err(ServeError::Listen { address: *address, error }),
    }
}

impl Server {
    /// Where it listens; of port 0 the one that the kernel chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        let port = self.address.port();
        let own = if self.address.ip().is_unspecified() {
            vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
        } else {
            vec![self.address]
        };
        // Wakes the thread, which then sees that it is to stop.
        if own.iter().any(|own| TcpStream::connect_timeout(own, PATIENCE).is_ok())
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// The addresses of which the first is taken that this machine has; every address is that of both families where it has both.
fn parse(text: &str) -> Vec<SocketAddr> {
    if let Ok(port) = text.parse::<u16>() {
        return vec![(Ipv4Addr::LOCALHOST, port).into()];
    }
    match text.strip_prefix(':').map(str::parse) {
        Some(Ok(port)) => {
            vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
        }
        Some(Err(_)) => Vec::new(),
        None => text.parse().into_iter().collect(),
    }
}

/// A client with the time until which it is listened to and answered, however slow it is.
struct Hurried<'s> {
    stream: &'s TcpStream,
    until: Instant,
}

impl Hurried<'_> {
    /// What is left of its time.
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Hurried<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(bytes)
    }
}

impl Write for Hurried<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn answer(stream: &TcpStream, metrics: &Metrics) -> io::Result<()> {
    let mut client = Hurried { stream, until: Instant::now() + PATIENCE };
    let mut lines = BufReader::new(Read::by_ref(&mut client).take(LONGEST_REQUEST)).lines();
    let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut wants_open = false;
    for line in lines {
        let line = line?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        wants_open |= line.starts_with("accept:") && line.contains("application/openmetrics-text");
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let path = target.split('?').next().unwrap_or("");
    let (status, kind, body) = match (method, path) {
        ("GET", "/metrics") if wants_open => ("200 OK", OPEN_METRICS, metrics.open_metrics()),
        ("GET", "/metrics") => ("200 OK", TEXT, metrics.text()),
        ("GET", _) => ("404 Not Found", PLAIN, "metrics are at /metrics\n".to_owned()),
        _ => ("405 Method Not Allowed", PLAIN, "only GET is answered\n".to_owned()),
    };
    let allow = if status.starts_with("405") { "Allow: GET\r\n" } else { "" };
    let length = body.len();
    client.until = Instant::now() + PATIENCE;
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{allow}Connection: close\r\n\r\n{body}"
    )?;
    client.flush()
}
