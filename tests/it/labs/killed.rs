//! Whatever becomes of whoever makes, changes or removes a lab, `lab down --all` leaves nothing of it; and many labs leave no more than one.

use std::process::Stdio;
use std::time::{Duration, Instant};

use datapath::lab::namespace::Namespace;
use datapath::lab::{self, Scene, Texts};
use datapath::live::install::State;

use super::named::Home;
use crate::lab::{is_possible, loaded, tables};
use crate::stream::meanwhile;

const WORLD: &str = "fixtures/worlds/two-nodes.hop";
/// How long makers are killed.
const TIME: Duration = Duration::from_secs(10);

/// Numbers that look random, the same every time.
pub(crate) fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Devices of the host's own namespace.
fn devices() -> Vec<String> {
    let text = std::fs::read_to_string("/proc/net/dev").expect("there is /proc");
    text.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn killed_at_any_moment_a_lab_can_be_removed() {
    if !is_possible() {
        return;
    }
    let home = Home::new("killed");
    let ran = |arguments: &[&str]| {
        let output = home.hopwise(arguments).output().expect("hopwise starts");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output
    };
    let before = devices();
    let text = crate::tree::read(&crate::tree::root().join(WORLD));
    let changed = text.replace("pod shop/stranger", "pod shop/late");
    let folder = crate::cli::Folder::new("killed", &[("changed.hop", changed.as_bytes())]);
    let changed = folder.path("changed.hop");
    let begun = Instant::now();
    ran(&["lab", "up", "whole", "-f", WORLD]);
    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(1_000_000);
    ran(&["lab", "down", "whole"]);
    assert_eq!(home.left(), Vec::<String>::new());

    let (mut seed, mut rounds, begun) = (1, 0, Instant::now());
    while begun.elapsed() < TIME || rounds < 3 {
        let victims: &[&[&str]] = &[
            &["lab", "up", "victim", "-f", WORLD],
            &["lab", "apply", "victim", "-f", &changed],
            &["lab", "down", "victim"],
        ];
        let victim = victims[rounds % 3];
        if rounds % 3 != 0 {
            ran(&["lab", "up", "victim", "-f", WORLD]);
        }
        let share = if rounds % 3 == 0 { took } else { took / 4 };
        let mut child = home
            .hopwise(victim)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("hopwise starts");
        std::thread::sleep(Duration::from_micros(random(&mut seed) % share.max(1)));
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        ran(&["lab", "down", "--all"]);
        assert_eq!(home.left(), Vec::<String>::new(), "after {victim:?}, round {rounds}");
        rounds += 1;
    }
    assert_eq!(devices(), before);
}

/// A change that is killed at any moment is gone on with by the next one: pods that stay keep their networks, and not one of their packets is
/// lost.
#[test]
fn a_killed_change_of_a_lab_is_gone_on_with() {
    if !is_possible() {
        return;
    }
    let home = Home::new("resumed");
    let says = |arguments: &[&str]| {
        let (text, code) = crate::binary::seen(&home.hopwise(arguments).output().expect("it runs"));
        assert_eq!(code, 0, "{arguments:?}: {text}");
        text
    };
    let text = crate::tree::read(&crate::tree::root().join(WORLD));
    let with = |pods: &str| {
        let policy = "policy shop/server {\n  select { app = \"server\" }\n  allow ingress from pods { app = \"client\" } on 80/tcp, 53/udp\n}\n";
        format!("{}{pods}{policy}", text.replace("pod shop/stranger", "pod shop/late"))
    };
    // Pods that come, go, and move to the other node.
    let far =
        "pod shop/more on node02 { ip 10.2.0.20 }\npod shop/moves on node01 { ip 10.1.0.30 }\n";
    let near = "pod shop/moves on node02 { ip 10.2.0.30 }\n";
    let (one, other) = (with(far), with(near).replace("shop/late", "shop/stranger"));
    // So many rules that programs with larger maps take the place of those that run.
    let rules = (0..520).map(|n| {
        format!("\n  allow ingress from cidr 172.20.{}.{}/32 on 80/tcp", n / 250, n % 250 + 1)
    });
    let large = one
        .replace("on 80/tcp, 53/udp", &format!("on 80/tcp, 53/udp{}", rules.collect::<String>()));
    let names = ["one.hop", "other.hop", "large.hop"];
    let texts = [&one, &other, &large].map(String::as_bytes);
    let folder = crate::cli::Folder::new("resumed", &[0, 1, 2].map(|n| (names[n], texts[n])));
    let files = names.map(|name| folder.path(name));
    says(&["lab", "up", "demo", "-f", &files[1]]);
    let begun = Instant::now();
    says(&["lab", "apply", "demo", "-f", &files[0]]);
    let took = u64::try_from(begun.elapsed().as_micros()).unwrap_or(1_000_000);
    let state = State::at(home.path().to_owned());
    let space = |pod: &str| Namespace::open(&state.namespace("demo", pod)).expect(pod);
    let (client, server) = (space("shop/client"), space("shop/server"));
    let address = "10.2.0.10".parse().expect("an address");
    let (mut seed, mut interrupted) = (7, 0);
    let streamed = meanwhile((&client, &server), address, (53, 80), || {
        let (mut rounds, begun) = (0, Instant::now());
        while begun.elapsed() < TIME || rounds < 4 {
            let [next, back] = if rounds % 2 == 0 { [1, 0] } else { [0, 1] };
            let mut child = home.hopwise(&["lab", "apply", "demo", "-f", &files[next]]);
            let child = child.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            let mut child = child.expect("hopwise starts");
            std::thread::sleep(Duration::from_micros(random(&mut seed) % took));
            child.kill().expect("it can be killed");
            child.wait().expect("it ends");
            let list = says(&["lab", "list"]);
            if list.contains("interrupted") {
                interrupted += 1;
                let remedy = "`hopwise lab apply demo -f FILE` goes on from there";
                assert!(list.contains(remedy), "{list}");
            }
            // The same again, or back.
            let file = &files[if rounds % 3 == 0 { back } else { next }];
            let said = says(&["lab", "apply", "demo", "-f", file]);
            assert_eq!(list.contains("interrupted"), said.contains("was done first"), "{said}");
            for pod in if *file == files[0] {
                ["late", "more", "moves"]
            } else {
                ["stranger", "moves", "server"]
            } {
                says(&["lab", "exec", pod, "--", "true"]);
            }
            let list = says(&["lab", "list"]);
            assert!(!list.contains("interrupted") && !list.contains("unfinished"), "{list}");
            rounds += 1;
        }
        for file in [&files[2], &files[1]] {
            says(&["lab", "apply", "demo", "-f", file]);
        }
    });
    streamed.is_whole();
    assert!(interrupted > 0, "none was killed while it changed something");
    says(&["lab", "down", "demo"]);
    assert_eq!(home.left(), Vec::<String>::new());
}

/// One node with one pod.
const SMALL: &str = "
cluster small { node n { ip 192.168.1.1 pods 10.1.0.0/24 } }
namespace a {}
pod a/b on n { ip 10.1.0.10 }
";

/// Programs in the kernel, if it tells.
fn programs() -> Option<usize> {
    let text = std::fs::read_to_string("/sys/fs/bpf/progs.debug").ok()?;
    Some(text.lines().count())
}

/// Each has a name and programs.
#[test]
fn fifty_labs_leave_no_more_than_one() {
    if !is_possible() {
        return;
    }
    let home = Home::new("fifty");
    let state = State::at(home.path().to_owned());
    let loaded = loaded(SMALL);
    let tables = tables(&loaded);
    let scene = Scene { world: &loaded.world, tables: &tables };
    let open = || std::fs::read_dir("/proc/self/fd").expect("there is /proc").count();
    let once = || {
        lab::up(&state, "small", scene, Texts::default()).expect("it can be made");
        lab::down(&state, "small").expect("it can be removed");
    };
    once();
    let (files, before) = (open(), programs());
    for _ in 0..50 {
        once();
    }
    assert_eq!(home.left(), Vec::<String>::new());
    assert!(!home.pins().exists(), "a directory without pins is left");
    // Other tests of this process have labs and files of their own, which come and go; what leaks stays.
    let ends = Instant::now() + Duration::from_mins(1);
    let settles = |what: &str, count: &dyn Fn() -> usize, most: usize| {
        while count() > most {
            assert!(Instant::now() < ends, "{} {what}, of {most} at most", count());
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    settles("files", &open, files + 200);
    if let Some(before) = before {
        settles("programs", &|| programs().unwrap_or_default(), before + 250);
    }
}
