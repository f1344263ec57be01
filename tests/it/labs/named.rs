//! Labs with names by the command line: made, listed, used, changed and removed, and every way in which that cannot be done.

use std::path::PathBuf;
use std::process::Command;

use crate::binary::{hopwise, seen};
use crate::cli::{Folder, document};
use crate::documents::{strict, validate};
use crate::kernel;
use crate::lab::is_possible;

const WORLD: &str = "fixtures/worlds/two-nodes.hop";

/// A place for installations of a test's own; whatever is left there is removed with it.
pub(crate) struct Home(PathBuf);

impl Home {
    pub(crate) fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("hwt{}{name}", std::process::id())))
    }

    /// The program, with its installations here.
    pub(crate) fn hopwise(&self, arguments: &[&str]) -> Command {
        let mut command = hopwise();
        command.env("HOPWISE_STATE", &self.0).args(arguments);
        command
    }

    fn stem(&self) -> String {
        self.0.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        &self.0
    }

    /// Where programs are pinned.
    pub(crate) fn pins(&self) -> PathBuf {
        PathBuf::from(format!("/sys/fs/bpf/{}", self.stem()))
    }

    /// What is left of labs: namespaces, pins and what is written down.
    pub(crate) fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        let names = |directory: &str| {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
        };
        let begin = format!("{}-", self.stem());
        left.extend(names("/run/netns").filter(|name| name.starts_with(&begin)));
        left.extend(names(&format!("/sys/fs/bpf/{}", self.stem())));
        left.extend(names(&self.0.display().to_string()));
        left
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !self.left().is_empty() {
            drop(self.hopwise(&["lab", "down", "--all"]).output());
        }
        drop(std::fs::remove_dir_all(&self.0));
        drop(std::fs::remove_dir(format!("/sys/fs/bpf/{}", self.stem())));
    }
}

/// Runs the program; fails where it does not end so and say so.
fn says(home: &Home, arguments: &[&str], code: i32, said: &str) -> String {
    let output = home.hopwise(arguments).output().expect("hopwise starts");
    let (text, came) = seen(&output);
    assert_eq!(came, code, "{arguments:?}:\n{text}");
    assert!(text.contains(said), "{arguments:?}: no `{said}` in\n{text}");
    text
}

#[test]
fn a_lab_is_made_used_changed_and_removed() {
    if !is_possible() {
        return;
    }
    let home = Home::new("made");
    let text = crate::tree::read(&crate::tree::root().join(WORLD));
    let changed =
        text.replace("pod shop/stranger", "pod shop/late").replace("10.1.0.11", "10.1.0.12");
    assert!(text.contains("shop/stranger") && text.contains("10.1.0.11"), "{text}");
    let moved = text.replace("ip 192.168.1.2", "ip 192.168.1.3");
    let folder = Folder::new(
        "labs",
        &[
            ("changed.hop", changed.as_bytes()),
            ("moved.hop", moved.as_bytes()),
            (
                "geneve.hop",
                text.replace("cluster lab {", "cluster lab {\n  tunnel geneve").as_bytes(),
            ),
            ("bad.hop", b"pod x"),
        ],
    );
    let [changed, moved, geneve, bad] =
        ["changed.hop", "moved.hop", "geneve.hop", "bad.hop"].map(|name| folder.path(name));

    says(&home, &["lab", "exec", "shop/client", "--", "true"], 3, "error: ");
    says(&home, &["lab", "up", "demo", "-f", WORLD], 0, "lab demo is up: 2 nodes, 3 pods");
    says(&home, &["lab", "up", "demo", "-f", WORLD], 3, "`demo` is there already");
    says(&home, &["lab", "up", "a/b", "-f", WORLD], 3, "`a/b` is no name");
    says(&home, &["lab", "up", "other", "-f", &geneve], 3, "the cluster's tunnel is geneve");
    says(&home, &["lab", "up", "other", "-f", &bad], 3, "error[HW");
    says(&home, &["lab", "list"], 0, "demo   up ");
    let addresses = ["lab", "exec", "--lab", "demo", "client", "--", "cat", "/proc/net/fib_trie"];
    assert!(says(&home, &addresses, 0, "10.1.0.10").contains("/32 host LOCAL"));
    says(&home, &["lab", "exec", "shop/client", "--", "sh", "-c", "exit 7"], 7, "");
    says(&home, &["lab", "exec", "node01", "cat", "/proc/net/dev"], 0, "cilium_host");
    says(&home, &["lab", "exec", "world", "cat", "/proc/net/dev"], 0, "underlay");
    says(&home, &["lab", "exec", "nobody", "--", "true"], 3, "nothing is named `nobody`");
    says(
        &home,
        &["lab", "exec", "client", "--", "no-such-program"],
        4,
        "cannot run `no-such-program`",
    );
    says(&home, &["lab", "exec", "--lab", "x", "client", "--", "true"], 3, "of the name `x`");

    says(
        &home,
        &["lab", "apply", "-f", &changed],
        0,
        "lab demo has changed; came: shop/late; went: shop/stranger",
    );
    says(&home, &["lab", "exec", "late", "--", "cat", "/proc/net/fib_trie"], 0, "10.1.0.12");
    says(&home, &["lab", "exec", "stranger", "--", "true"], 3, "nothing is named `stranger`");
    says(
        &home,
        &["lab", "apply", "-f", &moved],
        3,
        "take the lab down, and up again with this file",
    );
    says(&home, &["lab", "apply", "x", "-f", WORLD], 3, "of the name `x`");
    let list = document(&mut home.hopwise(&["lab", "list", "-o", "json"]), 0);
    assert_eq!(list["items"][0]["generation"], 2, "{list}");
    validate(&strict(), "lab list", &list);
    for (arguments, code) in [
        (&["lab", "apply", "demo", "-f", WORLD, "-o", "json"][..], 0),
        (&["lab", "down", "x", "-o", "json"], 3),
        (&["lab", "down", "demo", "-o", "json"], 0),
    ] {
        validate(&strict(), &arguments.join(" "), &document(&mut home.hopwise(arguments), code));
    }
    assert_eq!(home.left(), Vec::<String>::new());
    says(&home, &["lab", "down", "--all"], 0, "there was no lab");
}

/// A lab without a name ends with what it is given to read.
#[test]
fn a_lab_without_a_name_leaves_nothing() {
    if !is_possible() {
        return;
    }
    let home = Home::new("nameless");
    let mut command = home.hopwise(&["lab", "up", "-f", WORLD]);
    let output = command.stdin(std::process::Stdio::null()).output().expect("hopwise starts");
    let (text, code) = seen(&output);
    let said = "a lab is up: 2 nodes, 3 pods; it ends with Ctrl-C or the end of standard input";
    assert_eq!((code, text.trim()), (0, said));
    assert_eq!(home.left(), Vec::<String>::new());
}

/// What a maker that was killed left is said to be so, and removed.
#[test]
fn an_unfinished_lab_is_removed_by_name() {
    if !is_possible() {
        return;
    }
    let home = Home::new("unfinished");
    std::fs::create_dir_all(home.path().join("demo")).expect("a directory");
    says(&home, &["lab", "list"], 0, "unfinished");
    let remedy = "only parts of `demo` are there: whoever made or removed it was killed; remove what is there of it: `hopwise lab down demo`";
    says(&home, &["lab", "list"], 0, remedy);
    says(&home, &["lab", "apply", "-f", WORLD], 3, "hopwise lab down demo");
    says(&home, &["lab", "exec", "client", "--", "true"], 3, "hopwise lab down demo");
    says(&home, &["lab", "up", "demo", "-f", WORLD], 3, "`demo` is there already");
    says(&home, &["lab", "down"], 0, "lab demo is down");
    assert_eq!(home.left(), Vec::<String>::new());
}

#[test]
fn without_privileges_it_is_said_what_they_are() {
    let home = Home::new("nobody");
    let program = hopwise();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all"]);
    command.arg(program.get_program()).args(["lab", "up", "demo", "-f", WORLD]);
    command.current_dir(crate::tree::root()).env("HOPWISE_STATE", "/run/hopwise-nobody");
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return kernel::skip(&format!("setpriv: {error}")),
    };
    let (text, code) = seen(&output);
    if text.starts_with("setpriv") {
        return kernel::skip(&text);
    }
    assert_eq!(code, 4, "{text}");
    assert!(text.contains("needs root"), "{text}");
    assert_eq!(home.left(), Vec::<String>::new());
}

/// Which right is missing is said, and not that something else is wrong.
#[test]
fn a_missing_capability_is_named() {
    if !is_possible() {
        return;
    }
    let home = Home::new("rights");
    says(&home, &["lab", "up", "demo", "-f", WORLD], 0, "lab demo is up");
    let question = ["trace", "--live", "--on", "demo", "shop/client -> shop/server:80"];
    let command = ["lab", "exec", "shop/client", "--", "true"];
    for (without, arguments, said) in [
        ("-net_raw", &question[..], "this process lacks CAP_NET_RAW (sending and reading"),
        ("-sys_admin", &command[..], "cannot enter the network of `shop/client`: "),
        ("-sys_admin", &command[..], "this process lacks CAP_SYS_ADMIN ("),
    ] {
        let program = home.hopwise(arguments);
        let mut stripped = Command::new("setpriv");
        stripped.arg(format!("--bounding-set={without}")).arg(program.get_program());
        stripped.args(program.get_args()).current_dir(crate::tree::root());
        stripped.env("HOPWISE_STATE", home.path());
        let (text, code) = match stripped.output() {
            Ok(output) => seen(&output),
            Err(error) => return kernel::skip(&format!("setpriv: {error}")),
        };
        if text.starts_with("setpriv") {
            return kernel::skip(&text);
        }
        assert_eq!((code, text.contains(said)), (4, true), "{said}: {text}");
    }
}

/// The session holds a lab of its own, which goes with it.
#[test]
fn a_session_holds_a_lab() {
    if !is_possible() {
        return;
    }
    let mut session = kernel::session();
    let mut says = |line: &str, said: &str| {
        let text = kernel::text(&session.execute(line));
        assert!(text.contains(said), "{line}: {text}");
    };
    says("lab up", "there is no node to make a lab of");
    says(&format!("load {WORLD}"), "");
    says("lab up", "a lab is up: 2 nodes, 3 pods; it ends with the session");
    says("lab up", "the session holds a lab already");
    says("lab exec client -- sh -c \"grep -q eth0 /proc/net/dev\"", "");
    says(
        "lab exec client -- sh -c 'grep -q eth0 /proc/net/dev && (exit 3) # \"'",
        "`sh` ended with 3",
    );
    says("lab exec client -- sh -c 'true", "nothing closes this quote");
    says(
        "lab exec client -- true | cat",
        "there is no shell here that `|` would mean something to",
    );
    says("lab exec client -- false", "`false` ended with 1");
    says("pod shop/late on node01 { ip 10.1.0.12 }", "");
    says("lab apply", "the lab has changed; came: shop/late");
    says("lab exec late -- true", "");
    says("lab list", "the session holds one: 2 nodes, 4 pods");
    says("lab down", "the lab is down");
    says("lab nonsense", "is not something to do with labs");
    says("lab exec client", "a command to run, behind `--`");
    says("lab up a b", "does not take `b` as well");
}

/// A failing test of a lab is seen again in a lab.
#[test]
fn tests_run_on_a_lab_and_say_how_to_see_them_again() {
    if !is_possible() {
        return;
    }
    let world = crate::tree::read(&crate::tree::root().join(WORLD));
    let text_of = |verdict: &str| {
        format!("{world}test \"t\" {{\n  shop/client -> shop/server:80/tcp => {verdict}\n}}\n")
    };
    let text = text_of("dropped");
    let folder = Folder::new("on-lab", &[("t.hop", text.as_bytes())]);
    let home = Home::new("on");
    let file = folder.path("t.hop");
    let text = says(&home, &["test", "--on", "lab", &file], 1, "lab, kernel");
    let again = format!("see it again: hopwise trace -f {file} --backend lab ");
    assert!(text.contains(&again), "{text}");
    // A file whose world no lab hosts spoils its own cases only.
    let passing = text_of("allowed");
    let other = passing.replace("cluster lab {", "cluster lab {\n  tunnel geneve");
    let files = [("a.hop", other.as_bytes()), ("b.hop", passing.as_bytes())];
    let folder = Folder::new("on-lab-two", &files);
    let text = says(&home, &["test", "--on", "lab", &folder.path("")], 3, "1 passed");
    assert!(text.contains("1 broken") && text.contains("a.hop:"), "{text}");
    let reason = "this world cannot be made here: the cluster's tunnel is geneve";
    assert!(text.contains(reason) && text.contains("b.hop::t"), "{text}");
    says(&home, &["test", "--on", "lab", "--backend", "vm", &file], 2, "cannot be used with");
    says(&home, &["test", "--on", "mars", &file], 2, "[possible values: lab]");
}
