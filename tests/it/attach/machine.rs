//! A machine of the test's own: a node's namespace that routes between two pods' by veths, as Calico's do, and commands of hopwise with
//! a state of their own.

use std::fs;
use std::io::{BufRead, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use datapath::attach;
use datapath::lab::namespace::Namespace;
use serde_json::Value;

use crate::binary::{hopwise, seen};
use crate::cli::document;
use crate::kernel;

/// How long a packet that is not dropped may take at most, and a dropped one is waited for.
const PATIENCE: Duration = Duration::from_millis(800);

/// See the module.
pub(crate) struct Machine {
    number: u8,
    by: &'static str,
    /// Where its installations are written down.
    pub(crate) state: PathBuf,
    folder: PathBuf,
    /// The file of the pods' world.
    pub(crate) world: String,
}

/// A server that answers what it gets, as long as it is held.
pub(crate) struct Served {
    port: u16,
    end: std::sync::Arc<AtomicBool>,
}

impl Served {
    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

fn ip(words: &str) {
    let said = Command::new("ip").args(words.split(' ')).output().expect("`ip` is here");
    assert!(said.status.success(), "ip {words}: {}", String::from_utf8_lossy(&said.stderr));
}

impl Machine {
    /// Makes one whose addresses no other has; `by`: how programs are to hang. `None`: this process may not.
    pub(crate) fn open(number: u8, by: &'static str) -> Option<Self> {
        if !kernel::require() {
            return None;
        }
        if let Err(error) = Namespace::make() {
            assert!(!kernel::is_required("lab"), "a lab is required: {error}");
            kernel::skip(&format!("namespaces: {error}"));
            return None;
        }
        let own = format!("hwtest{}m{number}", std::process::id());
        let folder = std::env::temp_dir().join(&own);
        fs::create_dir_all(&folder).expect("a folder");
        let state = Path::new("/run").join(&own);
        let mut machine = Self { number, by, state, folder, world: String::new() };
        machine.build();
        machine.world = machine.file("world.hop", &machine.text());
        Some(machine)
    }

    /// The name of a namespace.
    pub(crate) fn name(&self, space: &str) -> String {
        format!("hwtest{}m{}-{space}", std::process::id(), self.number)
    }

    /// What addresses begin with: other machines of other processes may be there at the same time.
    pub(crate) fn net(&self) -> String {
        format!("10.{}.{}", 64 + std::process::id() % 128, self.number)
    }

    /// The address of a pod by its last number.
    pub(crate) fn address(&self, last: u8) -> IpAddr {
        format!("{}.{last}", self.net()).parse().expect("an address")
    }

    /// The namespace of the node or a pod.
    pub(crate) fn space(&self, space: &str) -> Namespace {
        let path = Path::new("/run/netns").join(self.name(space));
        Namespace::open(&path).expect("it is made")
    }

    fn build(&self) {
        for space in ["host", "a", "b"] {
            ip(&format!("netns add {}", self.name(space)));
            ip(&format!("-n {} link set lo up", self.name(space)));
            // Kernels send by themselves what looks for routers and listeners, from addresses that no pod has.
            let quiet =
                ["all", "default"].map(|of| format!("/proc/sys/net/ipv6/conf/{of}/disable_ipv6"));
            let write = || quiet.iter().try_for_each(|path| fs::write(path, "1"));
            // A kernel without IPv6 is quiet.
            let _ = self.space(space).within(write);
        }
        let forwards =
            self.space("host").within(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"));
        forwards.expect("it forwards");
        for (pod, last) in [("a", 10), ("b", 11)] {
            self.join(pod, last);
        }
    }

    /// Its number, which its addresses have.
    pub(crate) fn number(&self) -> u8 {
        self.number
    }

    /// Gives a pod its device.
    fn join(&self, pod: &str, last: u8) {
        let (host, name, mac) =
            (self.name("host"), self.name(pod), format!("02:00:00:00:66:{last}"));
        ip(&format!(
            "-n {host} link add cali-{pod} address {mac} type veth peer name eth0 netns {name}"
        ));
        ip(&format!("-n {name} addr add {}.{last}/32 dev eth0", self.net()));
        ip(&format!("-n {name} link set eth0 up"));
        ip(&format!("-n {host} link set cali-{pod} up"));
        ip(&format!("-n {name} route add 169.254.1.1 dev eth0"));
        ip(&format!("-n {name} route add default via 169.254.1.1"));
        ip(&format!("-n {name} neigh add 169.254.1.1 lladdr {mac} dev eth0"));
        ip(&format!("-n {host} route add {}.{last} dev cali-{pod}", self.net()));
    }

    /// Takes a pod's device away and gives it another one of the same name.
    pub(crate) fn renew(&self, pod: &str, last: u8) {
        ip(&format!("-n {} link del cali-{pod}", self.name("host")));
        self.join(pod, last);
    }

    /// The world of the pods; only port 80 of the server is allowed.
    pub(crate) fn text(&self) -> String {
        let net = self.net();
        format!(
            "cluster lab {{ tunnel none host-routing stack node node01 {{ ip 192.168.66.1 pods {net}.0/24 }} }}\n\
             namespace shop {{}}\n\
             pod shop/client on node01 {{ ip {net}.10 labels {{ app = \"client\" }} }}\n\
             pod shop/server on node01 {{ ip {net}.11 labels {{ app = \"server\" }} }}\n\
             policy shop/server {{\n  select {{ app = \"server\" }}\n  allow ingress as web from pods {{ app = \"client\" }} on 80/tcp\n}}\n"
        )
    }

    /// The same with so many rules that it takes larger maps, and another end of the first one.
    pub(crate) fn large(&self, on: &str) -> String {
        let rules = (0..520).map(|n| {
            format!("  allow ingress from cidr 172.20.{}.{}/32 on 80/tcp\n", n / 250, n % 250 + 1)
        });
        let rules: String = rules.collect();
        self.text().replace("on 80/tcp\n}", &format!("{on}\n{rules}}}"))
    }

    /// Writes a file; its path.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.join(name);
        fs::write(&path, text).expect("it is written");
        path.display().to_string()
    }

    /// A command of hopwise.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = hopwise();
        command.args(arguments).env("HOPWISE_STATE", &self.state).env("HOPWISE_TC", self.by);
        command
    }

    /// What a command says, after it ended with a code.
    pub(crate) fn run(&self, arguments: &[&str], code: i32) -> String {
        let output = self.command(arguments).output().expect("hopwise runs");
        let (text, status) = seen(&output);
        assert_eq!(status, code, "{arguments:?}: {text}");
        text
    }

    /// The same as a document.
    pub(crate) fn json(&self, arguments: &[&str], code: i32) -> Value {
        document(self.command(arguments).args(["-o", "json"]), code)
    }

    /// What `tc` says on the node.
    pub(crate) fn tc(&self, words: &str) -> String {
        let host = self.name("host");
        let said = Command::new("tc")
            .args(["-n", &host])
            .args(words.split(' ').map(|word| word.replace('\u{a0}', " ")))
            .output();
        let said = said.expect("`tc` is here");
        assert!(said.status.success(), "tc {words}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// Lets `ip` change the node's devices.
    pub(crate) fn ip(&self, words: &str) {
        ip(&format!("-n {} {words}", self.name("host")));
    }

    /// Takes the name off a namespace, which goes unless something else holds it.
    pub(crate) fn unname(&self, space: &str) {
        ip(&format!("netns del {}", self.name(space)));
    }

    /// Lets `nft` change the node's tables.
    pub(crate) fn nft(&self, ruleset: &str) {
        let host = self.name("host");
        let said = Command::new("ip").args(["netns", "exec", &host, "nft", ruleset]).output();
        let said = said.expect("`ip` is here");
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// What hangs on the node's devices.
    pub(crate) fn occupants(&self) -> Vec<attach::Occupant> {
        let look = || {
            let of = |device: &str| {
                let index = attach::index(device).unwrap_or_default();
                attach::occupants(device, index)
            };
            Ok([of("cali-a")?, of("cali-b")?].concat())
        };
        self.space("host").within(look).expect("the kernel tells")
    }

    /// A server of the pod `server`.
    pub(crate) fn serve(&self, port: u16) -> Served {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let listener = self.space("b").within(|| TcpListener::bind(address)).expect("a port");
        listener.set_nonblocking(true).expect("it can be asked");
        let end = std::sync::Arc::new(AtomicBool::new(false));
        let told = std::sync::Arc::clone(&end);
        std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, _)) => {
                        std::thread::spawn(move || answer(stream));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Served { port, end }
    }

    /// A connection from the pod `client` to the pod `server`.
    pub(crate) fn connect(&self, port: u16) -> std::io::Result<TcpStream> {
        self.connect_from("a", SocketAddr::new(self.address(11), port))
    }

    /// A connection from a pod.
    pub(crate) fn connect_from(&self, pod: &str, to: SocketAddr) -> std::io::Result<TcpStream> {
        let stream = self.space(pod).within(|| TcpStream::connect_timeout(&to, PATIENCE))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        Ok(stream)
    }

    /// Sends something and waits for the answer.
    #[track_caller]
    pub(crate) fn echo(stream: &mut TcpStream) {
        let mut answer = [0; 4];
        stream.write_all(b"ping").expect("it is sent");
        stream.read_exact(&mut answer).expect("it is answered");
        assert_eq!(&answer, b"ping");
    }

    /// Runs something while packets go to and fro on a connection; how many segments had to be sent again.
    pub(crate) fn while_it_flows(&self, port: u16, work: impl FnOnce()) -> u64 {
        self.while_it_flows_on(&mut self.connect(port).expect("it is allowed"), work)
    }

    /// The same on a connection of the pod `client`.
    pub(crate) fn while_it_flows_on(&self, stream: &mut TcpStream, work: impl FnOnce()) -> u64 {
        stream.set_nodelay(true).expect("it sends at once");
        let retransmitted = || crate::stream::resent(&self.space("a"));
        let (before, end, rounds) = (retransmitted(), AtomicBool::new(false), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !end.load(Ordering::Relaxed) {
                    Self::echo(stream);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
            // Whatever becomes of the work: who waits for the other thread would wait for ever.
            let _ends = Ending(&end);
            work();
        });
        assert!(rounds.load(Ordering::Relaxed) > 100, "it flowed");
        retransmitted() - before
    }
}

/// Tells a thread to end as soon as this is gone.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits for something that comes by itself.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(10), "not in ten seconds: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.command(&["detach", "--all"]).output();
        for space in ["host", "a", "b"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(space)]).output();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn answer(mut stream: TcpStream) {
    let mut bytes = [0; 512];
    while let Ok(count) = stream.read(&mut bytes) {
        if count == 0 || stream.write_all(&bytes[..count]).is_err() {
            return;
        }
    }
}

/// Where a process says that it serves metrics.
pub(crate) fn url(said: &mut impl BufRead) -> String {
    let mut line = String::new();
    loop {
        line.clear();
        assert_ne!(said.read_line(&mut line).expect("it says so"), 0, "it ended");
        if let Some(url) = line.trim().strip_prefix("metrics are served at ") {
            return url.to_owned();
        }
    }
}

/// Asks a process to end, as Ctrl-C does.
pub(crate) fn interrupt(process: u32) {
    let number = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    let signal = rustix::process::Signal::INT;
    rustix::process::kill_process(number.expect("a process"), signal).expect("it runs");
}
