//! Whoever attaches, changes or detaches is killed at some moment: the next command goes on from there, and nothing is left.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::counted;
use super::machine::{Machine, until};
use crate::labs::killed::random;

/// Commands that are killed, of each kind.
const ROUNDS: u32 = 4;

/// Runs a command, and kills it after some share of the time that it takes.
fn kill(machine: &Machine, arguments: &[&str], took: Duration, seed: &mut u64) {
    let mut command = machine.command(arguments);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.expect("it runs");
    let most = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
    std::thread::sleep(Duration::from_micros(random(seed) % most));
    // It may have ended.
    let _ = child.kill();
    child.wait().expect("it ends");
}

fn timed(work: impl FnOnce()) -> Duration {
    let begun = Instant::now();
    work();
    begun.elapsed()
}

/// What hangs on the devices, and their qdiscs.
fn seen(machine: &Machine) -> (Vec<datapath::attach::Occupant>, String) {
    (machine.occupants(), machine.tc("qdisc show"))
}

#[track_caller]
fn is_gone(machine: &Machine, before: &(Vec<datapath::attach::Occupant>, String), what: &str) {
    // What a killed process held the kernel lets go of a little later.
    until("nothing hangs there", || seen(machine) == *before);
    assert!(!machine.state.exists(), "{what}");
    let pins = std::path::Path::new("/sys/fs/bpf");
    assert!(!pins.join(machine.state.file_name().expect("a name")).exists(), "{what}");
}

#[test]
fn a_killed_process_leaves_nothing_that_stays() {
    for (number, by) in [(7, ""), (70, "clsact")] {
        let Some(machine) = Machine::open(number, by) else { return };
        let before = seen(&machine);
        let (attach, detach) = (["attach", "one", "-f", &machine.world], ["detach", "one"]);
        let attached = timed(|| drop(machine.run(&attach, 0)));
        let detached = timed(|| drop(machine.run(&detach, 0)));
        is_gone(&machine, &before, "at first");
        let mut seed = 3;
        for round in 0..ROUNDS {
            for (victim, took) in [(&attach[..], attached), (&detach[..], detached)] {
                if victim[0] == "detach" {
                    machine.run(&attach, 0);
                }
                kill(&machine, victim, took, &mut seed);
                let what = format!("{by} {victim:?}, round {round}");
                if round % 2 == 0 {
                    machine.run(&attach, 0);
                    assert_eq!(counted(&machine).1, 0, "{what}");
                    let enforcing = ["attach", "one", "-f", &machine.world, "--enforce"];
                    machine.run(&enforcing, 0);
                }
                machine.run(&["status"], 0);
                machine.run(&["detach", "--all"], 0);
                is_gone(&machine, &before, &what);
            }
        }
    }
}

/// A process that is killed while it changes what is attached leaves what runs as it is, and the next one goes on from there: also where
/// programs with larger maps take the place of those that run.
#[test]
fn a_killed_change_is_gone_on_with() {
    for (number, by) in [(8, ""), (71, "clsact")] {
        let Some(machine) = Machine::open(number, by) else { return };
        let before = seen(&machine);
        let (ssh, web) = (machine.serve(22), machine.serve(80));
        machine.run(&["attach", "one", "-f", &machine.world, "--enforce"], 0);
        let large = machine.file("large.hop", &machine.large("on 80/tcp, 22/tcp"));
        let (open, shut) = (
            ["attach", "one", "-f", &large, "--enforce"],
            ["attach", "one", "-f", &machine.world, "--enforce"],
        );
        let mut seed = 5;
        let took = Duration::from_millis(400);
        let lost = machine.while_it_flows(web.port(), || {
            for round in 0..ROUNDS {
                kill(&machine, &open, took, &mut seed);
                machine.run(&shut, 0);
                assert!(machine.connect(ssh.port()).is_err(), "{by} round {round}");
            }
        });
        assert_eq!(lost, 0, "a connection flows on whatever is killed");
        assert!(counted(&machine).1 > 0, "what was denied is counted");
        machine.run(&["detach", "one"], 0);
        is_gone(&machine, &before, by);
    }
}

/// Processes that wait for the end of what this machine has attached for a time.
fn watchers(machine: &Machine) -> Vec<Pid> {
    let mine = format!("HOPWISE_STATE={}\0", machine.state.display());
    let is_mine = |pid: &i32| {
        let of = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let has = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|there| there == part);
        has(&of("cmdline"), b"--expire") && has(&of("environ"), mine.as_bytes())
    };
    let entries = fs::read_dir("/proc").expect("there is /proc").flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(is_mine).filter_map(Pid::from_raw).collect()
}

/// Attaches for a time, without anybody who waits for its end; then its time is over.
fn ended(machine: &Machine, rest: &[&str]) {
    let attach = ["attach", "one", "-f", &machine.world, "--for", "2s"];
    machine.run(&[&attach[..], rest].concat(), 0);
    until("somebody waits", || !watchers(machine).is_empty());
    for watcher in watchers(machine) {
        kill_process(watcher, Signal::KILL).expect("it runs");
    }
    until("nobody waits", || watchers(machine).is_empty());
    if rest.is_empty() {
        std::thread::sleep(Duration::from_millis(2200));
    }
}

#[test]
fn what_ends_by_itself_ends_without_its_watcher_and_is_cleared_by_the_next_command() {
    let Some(machine) = Machine::open(10, "") else { return };
    let before = seen(&machine);
    let ssh = machine.serve(22);
    let said = "the time of one is over: it is detached";
    ended(&machine, &["--enforce"]);
    assert!(machine.connect(ssh.port()).is_err(), "no rule allows it");
    until("everything passes", || machine.connect(ssh.port()).is_ok());
    assert!(machine.state.exists(), "nobody was there to remove it");
    assert!(machine.run(&["status"], 0).contains(said));
    is_gone(&machine, &before, "status");
    let next: [(&[&str], i32); 4] = [
        (&["monitor", "--on", "one", "--for", "1s"], 3),
        (&["trace", "--live", "--wait", "shop/client -> shop/server:22/tcp"], 3),
        (&["lab", "list"], 0),
        (&["status", "one"], 3),
    ];
    for (command, code) in next {
        ended(&machine, &[]);
        let text = machine.run(command, code);
        assert!(text.contains(said) || command[0] == "status", "{command:?}: {text}");
        is_gone(&machine, &before, command[0]);
    }
    ended(&machine, &[]);
    let attach = machine.run(&["attach", "one", "-f", &machine.world], 0);
    assert!(attach.contains(said) && attach.contains("attached as one"), "{attach}");
    ended(&machine, &[]);
    assert!(machine.run(&["detach", "one"], 0).contains("detached one"));
    is_gone(&machine, &before, "detach");
}
