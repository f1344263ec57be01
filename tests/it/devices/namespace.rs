//! What tests of devices do in namespaces: commands of `ip`, and frames that are waited for.

use std::process::Command;
use std::time::{Duration, Instant};

use datapath::lab::namespace::Namespace;
use datapath::lab::port;

/// How long a frame may take. Emulated machines are slow.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs `ip` in a namespace; what it says where it fails.
pub(super) fn ip(namespace: &Namespace, arguments: &str) -> Result<(), String> {
    let output =
        namespace.within(|| Command::new("ip").args(arguments.split_whitespace()).output());
    let output = output.map_err(|error| format!("`ip` (iproute2): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(format!("`ip {arguments}`: {said}"))
}

/// A device for whole frames.
pub(super) struct Port(port::Port);

impl Port {
    /// Opens one on a device of a namespace.
    pub(super) fn open(namespace: &Namespace, device: &str) -> Result<Self, String> {
        let opened = port::Port::open(namespace, device);
        opened.map(Self).map_err(|error| format!("a packet socket: {error}"))
    }

    /// Sends a frame.
    pub(super) fn send(&self, frame: &[u8]) {
        self.0.send(frame).expect("the frame is sent");
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

    /// The frames that come until none does for a while.
    pub(super) fn rest(&self) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| self.next()).collect()
    }

    fn next(&self) -> Option<Vec<u8>> {
        self.0.next().expect("the socket is read")
    }
}
