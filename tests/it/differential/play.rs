//! What a scenario is: a world, and what happens in it one thing after the other. Owns how the packets of a step follow from
//! what became of earlier ones; what is random is `random`'s.

use std::collections::BTreeMap;
use std::net::IpAddr;

use engine::eval::{Asked, Choices, Judgement, Memory};
use engine::net::{Fragment, Packet, TcpFlags, Transport};
use engine::policy::{Policy, PolicySet};
use engine::question::{Question, error_about, reply};
use engine::topology::{Party, Readiness, World};
use repl::session::Sides;

use crate::oracle::{decide, sides};

/// Flows one after the other on one conntrack, in a random world.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(super) world: World,
    pub(super) policies: Vec<Policy>,
    pub(super) steps: Vec<Step>,
}

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Time passes.
    Wait(u64),
    /// A policy goes away.
    Remove(String),
    /// A service goes away.
    Gone(String),
    /// A pod begins or ends to be one that services send to.
    Ready(String, Readiness),
    /// A packet of a flow of its own, or an error with what it quotes. By its number others follow it.
    Send { number: usize, question: Box<Question>, about: Option<Box<Question>> },
    /// A packet that follows another one.
    Follow { number: usize, of: usize, turn: Turn, change: Change },
}

impl Step {
    /// The number of a packet.
    pub(super) fn number(&self) -> Option<usize> {
        match self {
            Self::Send { number, .. } | Self::Follow { number, .. } => Some(*number),
            Self::Wait(_) | Self::Remove(_) | Self::Gone(_) | Self::Ready(..) => None,
        }
    }
}

/// How a packet follows another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Whoever got it answers.
    Answer,
    /// The same side speaks again, with these flags if it is TCP.
    Again(TcpFlags),
    /// Somebody else speaks under its addresses and ports.
    Forged(IpAddr),
    /// Whoever got it complains.
    Error(u8, u8),
    /// Somebody on the way complains.
    Router(IpAddr, u8, u8),
}

/// What is out of the ordinary about a packet.
#[derive(Clone, Debug, Default)]
pub(super) struct Change {
    pub(super) ttl: Option<u8>,
    pub(super) id: Option<u32>,
    pub(super) fragment: Option<Fragment>,
    pub(super) options: Vec<u8>,
    pub(super) extensions: Vec<(u8, Vec<u8>)>,
}

impl Change {
    /// Only what the packet's family has.
    pub(super) fn apply(&self, packet: &mut Packet) {
        let v6 = packet.ip.source.is_ipv6();
        let ip = &mut packet.ip;
        ip.ttl = self.ttl.unwrap_or(ip.ttl);
        ip.id = self.id.unwrap_or(ip.id);
        ip.fragment = self.fragment.unwrap_or(ip.fragment);
        if v6 {
            ip.extensions.clone_from(&self.extensions);
        } else {
            ip.options.clone_from(&self.options);
        }
    }
}

/// The state of a scenario before a step.
pub(super) struct Stage {
    pub(super) now: u64,
    pub(super) world: World,
    pub(super) policies: PolicySet,
    /// Goes up whenever world or policies change.
    pub(super) version: usize,
}

/// A packet as it is sent.
pub(super) struct Sent {
    pub(super) question: Box<Question>,
    /// What an error quotes, as its sender saw it.
    pub(super) about: Option<Box<Question>>,
}

/// A packet that was sent, and how it arrived.
struct Known {
    question: Box<Question>,
    sides: Option<Sides>,
    may_be_followed: bool,
}

impl Scenario {
    /// Goes through the steps. What each packet came to is given back by `ask`, until that has nothing more to say.
    pub(super) fn play(
        &self,
        mut ask: impl FnMut(&Stage, &Step, Option<&Sent>) -> Option<Judgement>,
    ) {
        let policies = PolicySet::new(self.policies.clone());
        let mut stage = Stage { now: 0, world: self.world.clone(), policies, version: 0 };
        let mut known: BTreeMap<usize, Known> = BTreeMap::new();
        for step in &self.steps {
            let (number, sent) = match step {
                Step::Wait(_) | Step::Remove(_) | Step::Gone(_) | Step::Ready(..) => {
                    ask(&stage, step, None);
                    stage.change(step);
                    continue;
                }
                Step::Send { number, question, about } => {
                    (*number, Sent { question: question.clone(), about: about.clone() })
                }
                Step::Follow { number, of, turn, change } => {
                    let sent =
                        known.get(of).and_then(|known| known.follow(&stage.world, *turn, change));
                    let Some(sent) = sent else { continue };
                    (*number, sent)
                }
            };
            if is_nobody(&stage.world, sent.question.source) {
                continue;
            }
            let Some(came) = ask(&stage, step, Some(&sent)) else { return };
            let may_be_followed = sent.about.is_none() && is_honest(&sent.question);
            let sides = sides(&sent.question.packet, &came);
            known.insert(number, Known { question: sent.question, sides, may_be_followed });
        }
    }

    /// What the oracle says of every packet, in the words of `tell`. Where the datapath chose before, the choices are taken from
    /// there.
    pub(super) fn told(
        &self,
        chosen: &[Choices],
        mut tell: impl FnMut(&Stage, &Step, Option<(&Sent, &Judgement)>),
    ) {
        let mut memory = Memory::default();
        let mut chosen = chosen.iter();
        self.play(|stage, step, sent| {
            let Some(sent) = sent else {
                tell(stage, step, None);
                return None;
            };
            let choices = chosen.next().copied().unwrap_or_default();
            let asked = asked(&sent.question, stage.now, choices);
            let (came, _) = decide(&stage.world, &stage.policies, &mut memory, &asked, None);
            tell(stage, step, Some((sent, &came)));
            Some(came)
        });
    }

    /// What the oracle says of every packet where it chooses itself.
    pub(super) fn judgements(&self) -> Vec<Judgement> {
        let mut judgements = Vec::new();
        self.told(&[], |_, _, sent| judgements.extend(sent.map(|(_, came)| came.clone())));
        judgements
    }

    /// Whether it happens in the world itself, which no dialogue can say.
    pub(super) fn changes_the_world(&self) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Gone(_) | Step::Ready(..)))
    }
}

/// A question to the oracle.
pub(super) fn asked(question: &Question, now: u64, choices: Choices) -> Asked<'_> {
    let (source, destination) = (question.source, question.destination);
    Asked { source, destination, packet: &question.packet, now, choices }
}

/// Whether a sender is an address among a node's pods that none of them has: nobody speaks from there.
fn is_nobody(world: &World, source: Party) -> bool {
    let Party::Address(address) = source else { return false };
    let mut prefixes = world.nodes.iter().flat_map(|n| &n.pod_cidrs);
    world.owner(address).is_none() && prefixes.any(|prefix| prefix.contains(&address))
}

/// Whether what the packet says of its sender is true, so that an answer goes back there.
fn is_honest(asked: &Question) -> bool {
    asked.source == Party::Address(asked.packet.ip.source)
}

impl Stage {
    fn change(&mut self, step: &Step) {
        match step {
            Step::Wait(seconds) => self.now += seconds,
            Step::Remove(handle) => {
                let kept = self.policies.iter().map(|(_, p)| p);
                let kept = kept.filter(|p| p.handle != *handle).cloned().collect();
                self.policies = PolicySet::new(kept);
                self.version += 1;
            }
            Step::Gone(service) => {
                self.world.services.retain(|s| s.qualified() != *service);
                self.version += 1;
            }
            Step::Ready(name, readiness) => {
                let pods = self.world.pods.iter_mut().filter(|p| p.qualified() == *name);
                pods.for_each(|pod| pod.readiness = *readiness);
                self.version += 1;
            }
            Step::Send { .. } | Step::Follow { .. } => {}
        }
    }
}

impl Known {
    /// The next packet, as whoever sends it sees the flow.
    fn follow(&self, world: &World, turn: Turn, change: &Change) -> Option<Sent> {
        if !self.may_be_followed {
            return None;
        }
        let last = &self.question.packet;
        let far = self.sides.map_or_else(|| last.clone(), |sides| sides.far(last));
        // Nobody is at the address of a service.
        let nobody = matches!(world.owner(far.ip.destination), Some(Party::Service(_)));
        let (mut packet, sender) = match turn {
            Turn::Answer => (reply(&far), far.ip.destination),
            Turn::Error(kind, code) => (error_about(&far, kind, code), far.ip.destination),
            Turn::Router(router, kind, code) => (error_from(router, &far, kind, code)?, router),
            Turn::Again(_) => (last.clone(), last.ip.source),
            Turn::Forged(sender) => (last.clone(), sender),
        };
        if nobody && sender == far.ip.destination || sender.is_ipv6() != last.ip.source.is_ipv6() {
            return None;
        }
        if let (Turn::Again(chosen), Transport::Tcp { flags, .. }) = (turn, &mut packet.transport) {
            *flags = chosen;
        }
        change.apply(&mut packet);
        let about = matches!(turn, Turn::Error(..) | Turn::Router(..))
            .then(|| question(far.ip.source, far));
        Some(Sent { question: question(sender, packet), about })
    }
}

fn error_from(router: IpAddr, packet: &Packet, kind: u8, code: u8) -> Option<Packet> {
    let mut error = error_about(packet, kind, code);
    error.ip.source = router;
    (router != packet.ip.source && router != packet.ip.destination).then_some(error)
}

/// A packet of a sender, to where it says.
pub(super) fn question(sender: IpAddr, packet: Packet) -> Box<Question> {
    Box::new(Question::of(Party::Address(sender), Party::Address(packet.ip.destination), packet))
}
