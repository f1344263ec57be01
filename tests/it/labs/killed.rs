//! Whatever becomes of whoever makes, changes or removes a lab, `lab down --all` leaves nothing of it; and many labs leave no more than one.

use std::process::Stdio;
use std::time::{Duration, Instant};

use datapath::lab::{self, Scene, Texts};
use datapath::live::install::State;

use super::named::Home;
use crate::lab::{is_possible, loaded, tables};

const WORLD: &str = "fixtures/worlds/two-nodes.hop";
/// How long makers are killed.
const TIME: Duration = Duration::from_secs(10);

/// Numbers that look random, the same every time.
fn random(state: &mut u64) -> u64 {
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
