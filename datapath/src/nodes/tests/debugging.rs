//! Questions under the debugger: the same answers as without it, the same state whichever way a point in time is
//! reached, and changes that hold from their time on.

use super::*;
use crate::vm::Vm;
use crate::vm::debug::{At, Change, Debugger, End, Happening, Progress};
use crate::vm::instruction::Instruction;

type Seen = Vec<Observation>;

/// Pod B may receive TCP 80 from anyone, pods may send anything; nothing else.
fn one_way() -> Tables {
    let ingress = vec![allow(Identity::ANY, Some(Protocol::Tcp), 80, 16)];
    tables(1, everything(), ingress)
}

fn to_port(port: u16) -> Injection {
    from_a(&packet("10.0.0.1", "10.0.0.2", tcp(40_000, port, TcpFlags::SYN)))
}

/// What asks for packets one after the other.
fn plan(packets: Vec<Injection>) -> crate::vm::debug::Plan<Seen> {
    Box::new(move |backend| {
        backend.load(&one_way())?;
        backend.forget()?;
        packets.iter().map(|packet| backend.inject(packet)).collect()
    })
}

fn debugger(ports: &[u16]) -> Debugger<Seen> {
    let packets = ports.iter().map(|port| to_port(*port)).collect();
    Debugger::begin(Vm::find().unwrap(), plan(packets)).unwrap()
}

fn run_out(debugger: &mut Debugger<Seen>) {
    while debugger.step().unwrap() != Progress::Over {}
}

fn action(seen: &Observation) -> Option<Action> {
    seen.events.iter().find_map(|stamped| match stamped.event {
        Event::Outcome(action) => Some(action),
        _ => None,
    })
}

fn answer(debugger: &Debugger<Seen>) -> &Seen {
    debugger.answer().unwrap().as_ref().unwrap()
}

#[test]
fn a_debugged_question_has_the_answer_of_one_that_is_not() {
    let mut debugger = debugger(&[80, 81, 80]);
    run_out(&mut debugger);
    let mut alone = Vm::find().unwrap();
    let expected = plan([80, 81, 80].map(to_port).to_vec())(&mut alone).unwrap();
    assert_eq!(answer(&debugger), &expected);
    assert_eq!(debugger.at().hop, 2);
    assert_eq!(debugger.step().unwrap(), Progress::Over);
}

/// Everything that can be looked at.
fn picture(debugger: &Debugger<Seen>) -> String {
    let machine = debugger.machine().unwrap();
    let maps: Vec<_> = machine.maps().iter().map(crate::vm::map::Map::entries).collect();
    let (registers, place) = (machine.registers(), (machine.program(), machine.pc()));
    format!("{place:?} {registers:?} {:?} {maps:?}", machine.skb().bytes())
}

#[test]
fn a_point_in_time_is_the_same_whichever_way_it_is_reached() {
    let mut debugger = debugger(&[80, 80]);
    let points = [(0, 0), (0, 1), (0, 333), (1, 0), (1, 77)];
    let points = points.map(|(hop, executed)| At { hop, executed });
    let forward: Vec<String> = points
        .iter()
        .map(|at| {
            debugger.go(*at).unwrap();
            assert_eq!(debugger.at(), *at);
            picture(&debugger)
        })
        .collect();
    for (at, expected) in points.iter().zip(&forward).rev() {
        debugger.go(*at).unwrap();
        assert_eq!(&picture(&debugger), expected, "{at:?}");
    }
    let counted = debugger.instructions();
    assert_eq!(counted, 0);
    debugger.go(points[4]).unwrap();
    assert_eq!(picture(&debugger), forward[4]);
    assert!(debugger.instructions() > 77 + 333);
}

#[test]
fn what_happens_is_told_once_by_the_instruction_that_does_it() {
    let mut debugger = debugger(&[80]);
    let (mut reported, mut wrote, mut updated) = (Vec::new(), 0, 0);
    while debugger.step().unwrap() != Progress::Over {
        for happening in debugger.happened() {
            match happening {
                Happening::Reported(stamped) => reported.push(stamped.event),
                Happening::Wrote { from, bytes } => {
                    assert_eq!(debugger.machine().unwrap().skb().bytes()[*from], bytes[0]);
                    wrote += bytes.len();
                }
                Happening::Updated { value, .. } => {
                    assert!(value.is_some());
                    updated += 1;
                }
                _ => {}
            }
        }
    }
    let expected: Vec<_> = answer(&debugger)[0].events.iter().map(|s| s.event).collect();
    assert_eq!(reported, expected);
    assert!(wrote >= 13, "two addresses and a TTL, not {wrote} bytes");
    assert_eq!(updated, 1, "conntrack");
}

#[test]
fn a_change_holds_from_its_time_on_and_one_before_takes_it_back() {
    let mut debugger = debugger(&[81]);
    let early = At { hop: 0, executed: 40 };
    debugger.go(early).unwrap();
    // The destination port of TCP over IPv4 without options.
    let port = |port: u16| Change::Packet(14 + 20 + 2, port.to_be_bytes().to_vec());
    assert!(debugger.edit(port(80)).unwrap());
    run_out(&mut debugger);
    assert!(matches!(action(&answer(&debugger)[0]), Some(Action::Deliver { .. })));
    assert!(!debugger.edit(port(82)).unwrap(), "the hop has ended");
    // Running the same way again meets the change again.
    debugger.go(At::default()).unwrap();
    run_out(&mut debugger);
    assert!(matches!(action(&answer(&debugger)[0]), Some(Action::Deliver { .. })));
    debugger.go(At { hop: 0, executed: 20 }).unwrap();
    assert!(debugger.edit(Change::Mark(7)).unwrap());
    assert_eq!(debugger.edits().len(), 1);
    run_out(&mut debugger);
    let dropped = Some(Action::Drop(DropReason::PolicyDenied));
    assert_eq!(action(&answer(&debugger)[0]), dropped);
    for refused in [Change::Packet(60, vec![1]), Change::Register(10, 1)] {
        debugger.go(early).unwrap();
        assert!(!debugger.edit(refused).unwrap());
    }
}

#[test]
fn a_program_that_is_made_to_fail_ends_the_question_with_its_line() {
    let mut debugger = debugger(&[80]);
    debugger.go(At { hop: 0, executed: 60 }).unwrap();
    let base = loop {
        debugger.step().unwrap();
        let machine = debugger.machine().unwrap();
        let place = machine.image().place(machine.program(), machine.pc());
        let is_own = place.source.starts_with("datapath/ebpf/src/");
        match machine.next_instruction() {
            Some(Instruction::Load { base, .. }) if base < 10 && is_own => break base,
            _ => {}
        }
    };
    assert!(debugger.edit(Change::Register(base, 1)).unwrap());
    run_out(&mut debugger);
    let Some(End::Faulted(fault)) = debugger.end() else { panic!("{:?}", debugger.end()) };
    let words = fault.to_string();
    assert!(words.contains("datapath/ebpf/src/") && words.contains("is followed"), "{words}");
    assert!(debugger.answer().unwrap().is_err());
    debugger.go(At::default()).unwrap();
    assert!(debugger.end().is_none());
}

#[test]
fn flows_are_brought_to_another_backend_with_what_they_remember() {
    let mut old = backend();
    old.load(&one_way()).unwrap();
    old.say(&to_port(80));
    let Ok(flows) = old.remembered(NODE) else { panic!("the backend tells its flows") };
    assert_eq!(flows.len(), 1);
    let mut new = Vm::find().unwrap();
    new.load(&one_way()).unwrap();
    new.remember(NODE, &flows).unwrap();
    let seen = new.inject(&to_port(80)).unwrap();
    let remembered = seen.events.iter().any(|s| {
        matches!(s.event, Event::Policy { remembered: true, direction: Direction::Ingress, .. })
    });
    assert!(remembered, "{:?}", seen.events);
    assert_eq!(old.conntrack(NODE, 10).unwrap().len(), new.conntrack(NODE, 10).unwrap().len());
    // Under other tables the verdict counts no more.
    let mut other = Vm::find().unwrap();
    other.load(&Tables { generation: Generation(9), ..one_way() }).unwrap();
    other.remember(NODE, &flows).unwrap();
    let seen = other.inject(&to_port(80)).unwrap();
    let asked = |s: &engine::trace::Stamped| matches!(s.event, Event::Policy { remembered, .. } if !remembered);
    assert!(seen.events.iter().any(asked), "{:?}", seen.events);
}
