//! `trace --live` about what is installed: a probe sent inside a lab of a name, or packets that others send, waited for. The world is the
//! installation's own. Owns which packets are meant; following is `datapath::follow`'s, watching `monitor`'s.

#[cfg(feature = "lab")]
use std::time::Duration;

#[cfg(feature = "lab")]
use engine::topology::{Party, Pod, Service, TargetPort, World};
use lang::ast;

use super::super::Session;
use super::trace::Live;
#[cfg(feature = "lab")]
use crate::monitor::Asked;
use crate::reply::{Reply, Status};

/// How long packets of others are waited for.
#[cfg(feature = "lab")]
const PATIENCE: Duration = Duration::from_secs(10);

impl Live {
    /// Whether packets of others are waited for, and nothing is sent.
    pub(super) fn waits(&self) -> bool {
        self.wait || self.drops || self.timeout.is_some()
    }

    /// The same as a monitor is asked for it.
    #[cfg(feature = "lab")]
    fn watch(&self, world: &World, question: Option<&engine::question::Question>) -> Asked {
        let mut asked = Asked { on: self.on.clone(), ..Asked::default() };
        asked.filter.all = true;
        let is_endless = self.follow;
        asked.count = self.count.or((!is_endless).then_some(1));
        asked.time = self.timeout.or((!is_endless).then_some(PATIENCE));
        let Some(question) = question else { return asked };
        let packet = &question.packet;
        let source = name(world, question.source, packet.ip.source);
        let mut to = vec![name(world, question.destination, packet.ip.destination)];
        if let Party::Service(id) = question.destination
            && let Some(service) = world.service(id)
        {
            let behind = world.pods.iter().filter(|pod| {
                pod.namespace == service.namespace && service.selector.matches(&pod.labels)
            });
            to.extend(behind.map(Pod::qualified));
        }
        asked.filter.talk = Some((source, to));
        asked.filter.ports = ports(world, question);
        asked
    }
}

/// The port that is asked for, and those of pods that a service leads it to; none where a protocol has no ports.
#[cfg(feature = "lab")]
fn ports(world: &World, question: &engine::question::Question) -> Vec<u16> {
    let (_, asked) = question.packet.ports();
    let mut ports: Vec<u16> = (asked != 0).then_some(asked).into_iter().collect();
    let Party::Service(id) = question.destination else { return ports };
    let led = world.service(id).into_iter().flat_map(|service| &service.ports);
    for port in led.filter(|port| port.port == asked) {
        match &port.target {
            TargetPort::Number(number) => ports.push(*number),
            TargetPort::Name(name) => ports.extend(
                world
                    .pods
                    .iter()
                    .flat_map(|pod| &pod.ports)
                    .filter(|p| p.name == *name)
                    .map(|p| p.port),
            ),
        }
    }
    ports
}

/// A party as sightings name it.
#[cfg(feature = "lab")]
fn name(world: &World, party: Party, address: std::net::IpAddr) -> String {
    let known = match party {
        Party::Pod(id) => world.pod(id).map(Pod::qualified),
        Party::Service(id) => world.service(id).map(Service::qualified),
        _ => None,
    };
    known.unwrap_or_else(|| address.to_string())
}

#[cfg(not(feature = "lab"))]
impl Session {
    #[expect(clippy::unused_self, reason = "with labs it is the session that answers")]
    pub(super) fn trace_installed(&mut self, _: &Live, _: &ast::Question) -> Reply {
        without("no lab can be made")
    }

    #[expect(clippy::unused_self, reason = "with labs it is the session that answers")]
    pub(super) fn wait_installed(&mut self, _: &Live, _: Option<&ast::Question>) -> Reply {
        without("nothing can be attached")
    }
}

#[cfg(not(feature = "lab"))]
fn without(message: &str) -> Reply {
    let message = format!("{message} (this hopwise was built without labs)");
    Reply::failure(Status::Environment, message, "build with the feature `lab`")
}

#[cfg(feature = "lab")]
pub(super) use probe::{OWN, refuse, refuse_simulated};

#[cfg(feature = "lab")]
mod probe {
    use datapath::follow::follow;
    use datapath::lab::{self, LabWires, Scene as LabScene};
    use datapath::live::install;
    use datapath::live::{self, Backed, Mode, filter};
    use engine::backend::BackendError;
    use engine::diag::Diagnostic;
    use engine::explain::{Context, explain};
    use engine::net::Transport;
    use engine::question::Question;
    use engine::topology::{NodeId, World};
    use engine::trace::Trace;
    use lang::ast::PacketOption;

    use super::super::super::lab::{Own, told as refused_by_lab};
    use super::super::super::refused;
    use super::super::caught::Wanted;
    use super::super::http;
    use super::super::kind::Kind;
    use super::super::own::Listened;
    use super::super::source::Opened;
    use super::super::trace::{Drops, UNCOMPARED, request_of, told, unsendable};
    use super::{Live, Reply, Session, Status, ast};
    use crate::backend::{self, Choice};
    use crate::live::difference;
    use crate::monitor::Scene;
    use crate::reply::{Answer, Compared, Sent};

    /// What answers call the lab that a session holds.
    pub(in crate::session::live) const OWN: &str = "the session's lab";
    /// Ports that probes are sent from: such as no system gives by itself, another one each time, so that none goes on with the flow of
    /// an earlier one.
    const PORTS: std::ops::Range<u16> = 20_000..28_000;

    impl Session {
        /// Waits for packets of others.
        pub(in crate::session) fn wait_installed(
            &mut self,
            live: &Live,
            asked: Option<&ast::Question>,
        ) -> Reply {
            if live.compare {
                let message =
                    "a packet of others is not simulated: what its flow was before is not known";
                let remedy = "leave out `--compare`, or `--wait`, `--drops` and `--timeout`";
                return Reply::failure(Status::Usage, message, remedy);
            }
            if live.on.is_none()
                && let Some(mut own) = self.lab.0.take()
            {
                let reply = self.catch_own(&mut own, live, asked);
                self.lab.0 = Some(own);
                return reply;
            }
            let opened = match Opened::of(live.on.as_deref()) {
                Ok(opened) => opened,
                Err(reply) => return *reply,
            };
            match self.wanted(live, &opened.scene.world, asked) {
                Ok(wanted) => self.catch_installed(opened, &wanted),
                Err(problem) => self.complain(vec![problem]),
            }
        }

        /// Catches packets in the lab that the session holds.
        fn catch_own(
            &mut self,
            own: &mut Own,
            live: &Live,
            asked: Option<&ast::Question>,
        ) -> Reply {
            let scene = own.meant.scene_of_all();
            let wanted = match self.wanted(live, &scene.world, asked) {
                Ok(wanted) => wanted,
                Err(problem) => return self.complain(vec![problem]),
            };
            let mode = Mode { trace: true, capture: true, ..Mode::default() };
            match Listened::to(own, mode) {
                Ok(mut source) => self.catch(&mut source, &wanted),
                Err(error) => *refused(&error),
            }
        }

        /// What a question is about; without one, any packet.
        fn wanted<'l>(
            &self,
            live: &'l Live,
            world: &World,
            asked: Option<&ast::Question>,
        ) -> Result<Wanted<'l>, Diagnostic> {
            let level = self.settings.level;
            let Some(asked) = asked else {
                let (watch, kind) = (live.watch(world, None), Kind::default());
                return Ok(Wanted { live, watch, kind, level, from: None, begin: None });
            };
            let question = lang::resolve::question(world, &Kind::open(asked))?;
            let kind = Kind::of(asked, &question, world)?;
            let request = request_of(&question);
            let begin = request.map(|request| format!("{} {} ", request.method, request.path));
            let (begin, watch) =
                (begin.map(String::into_bytes), live.watch(world, Some(&question)));
            Ok(Wanted { live, watch, kind, level, from: None, begin })
        }

        /// Sends packets in a lab of a name, which may change between two of them; without a name in the one that the session holds.
        pub(in crate::session) fn trace_installed(
            &mut self,
            live: &Live,
            asked: &ast::Question,
        ) -> Reply {
            if live.on.is_none() {
                return self.again(live, |session| session.with_own(live, asked));
            }
            self.again(live, |session| session.probe_elsewhere(live, asked))
        }

        /// Sends one packet in the lab that the session holds.
        fn with_own(&mut self, live: &Live, asked: &ast::Question) -> Reply {
            let Some(mut own) = self.lab.0.take() else {
                let remedy = "`lab up` makes one";
                return Reply::failure(Status::Input, "the session holds no lab", remedy);
            };
            let reply = self.probe_own(&mut own, live, asked).unwrap_or_else(|reply| *reply);
            self.lab.0 = Some(own);
            reply
        }

        fn probe_own(
            &mut self,
            own: &mut Own,
            live: &Live,
            asked: &ast::Question,
        ) -> Result<Reply, Box<Reply>> {
            let scene = own.meant.scene_of_all();
            let question = match lang::resolve::question(&scene.world, asked) {
                Ok(question) => question,
                Err(problem) => return Err(Box::new(self.complain(vec![problem]))),
            };
            if let Some(reply) = unsendable(live, asked, &question) {
                return Err(reply);
            }
            if http::is_asked(&question) {
                let watch = live.watch(&scene.world, Some(&question));
                return self.request_own(own, live, (asked, &question), watch).map(told);
            }
            refuse_simulated(&question)?;
            let lab = own.running.live();
            lab.wires(LabWires::listen).map_err(|error| refused_by_lab(&error))?;
            let sent = self.sent(lab, (&scene, OWN), &marked(question, asked), live);
            lab.wires(LabWires::hang_up);
            sent.map(told)
        }

        /// Sends one packet in a lab of a name, or opens a connection there.
        fn probe_elsewhere(&mut self, live: &Live, asked: &ast::Question) -> Reply {
            let opened = match Opened::of(live.on.as_deref()) {
                Ok(opened) => opened,
                Err(reply) => return *reply,
            };
            let question = match lang::resolve::question(&opened.scene.world, asked) {
                Ok(question) => question,
                Err(problem) => return self.complain(vec![problem]),
            };
            if let Some(reply) = unsendable(live, asked, &question) {
                return *reply;
            }
            if http::is_asked(&question) {
                let watch = live.watch(&opened.scene.world, Some(&question));
                return self.request_installed(opened, live, (asked, &question), watch);
            }
            match self.probe_installed(&opened, &marked(question, asked), live) {
                Ok(answer) => told(answer),
                Err(reply) => *reply,
            }
        }

        fn probe_installed(
            &mut self,
            opened: &Opened,
            question: &Question,
            live: &Live,
        ) -> Result<Answer, Box<Reply>> {
            refuse(opened, question)?;
            let scene = &*opened.scene;
            let of_lab = LabScene { world: &scene.world, tables: &scene.tables };
            let entered = lab::enter(&opened.state, &opened.name, of_lab);
            let mut lab = entered.map_err(|error| refused_by_lab(&error))?;
            self.sent(&mut lab, (scene, &opened.title()), question, live)
        }

        /// Sends a question's packet in a lab, which answers are to call so, and explains what became of it.
        fn sent(
            &mut self,
            lab: &mut Backed<LabWires>,
            (scene, title): (&Scene, &str),
            question: &Question,
            live: &Live,
        ) -> Result<Answer, Box<Reply>> {
            let drops = Drops::of(&question.packet);
            let nodes: Vec<NodeId> = scene.tables.nodes.iter().map(|node| node.node).collect();
            let before = conduct(lab, &nodes);
            let told = tell(lab, &before, mode(&scene.world, question));
            let followed =
                told.and_then(|()| follow(lab, &scene.world, &scene.tables, question, 0));
            hush(lab, before);
            let mut trace = followed.map_err(|error| refused(&error))?;
            trace.backend = trace.backend.replacen("lab", title, 1);
            let context = Context {
                world: &scene.world,
                policies: &scene.policies,
                tables: &scene.tables,
                sources: &scene.sources,
            };
            let mut explanation = explain(&context, question, &trace, None).ok_or_else(|| {
                refused(&BackendError::BadEvent("the trace has no beginning".to_owned()))
            })?;
            let kernel = trace.unseen.is_some().then(|| drops.told(&trace, &scene.tables));
            let broken = match trace.unseen {
                Some(_) => lab.wires(|wires| wires.lab().broken()),
                None => Vec::new(),
            };
            let broken = broken.iter().map(ToString::to_string).collect();
            let is_whole = trace.lost == 0;
            if live.compare && !is_whole {
                explanation.assumed.push(UNCOMPARED.to_owned());
            }
            let compared = if live.compare && is_whole {
                Some(compared(scene, question, &trace).map_err(|error| refused(&error))?)
            } else {
                None
            };
            self.last_answer = Some(explanation.clone());
            let (level, unmet) = (self.settings.level, live.unmet(&explanation));
            let live = Some(Sent { compared, kernel, broken, http: None });
            Ok(Answer { explanation, level, unmet, came_with: None, live })
        }
    }

    /// What is not sent.
    pub(in crate::session::live) fn refuse(
        opened: &Opened,
        question: &Question,
    ) -> Result<(), Box<Reply>> {
        if opened.record.kind != install::Kind::Lab {
            let message = format!(
                "{} has pods that are not hopwise's, and nothing is sent from inside them",
                opened.title()
            );
            let remedy = "`--wait` catches the next packet that somebody else sends";
            return Err(Box::new(Reply::failure(Status::Input, message, remedy)));
        }
        refuse_simulated(question)
    }

    /// What is only asked of a simulation.
    pub(in crate::session::live) fn refuse_simulated(
        question: &Question,
    ) -> Result<(), Box<Reply>> {
        let is_simulated = question.known.is_some() && !http::is_asked(question);
        if question.with_reply || is_simulated || question.choose.is_some() {
            let message = "`with` and `choose backend` are about simulation: real pods answer, and real services choose";
            let reply = Reply::failure(Status::Input, message, "leave them out");
            return Err(Box::new(reply));
        }
        Ok(())
    }

    /// The question with a mark by which its packet is known among others (IPv4's identification, IPv6's flow label), and a source port
    /// of its own; what was asked for stays as it was.
    fn marked(mut question: Question, asked: &ast::Question) -> Question {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let moment = now.map_or(0, |now| now.as_micros());
        let mark = |most: u128| u32::try_from(moment % most).unwrap_or(0) + 1;
        let is_asked =
            |is_it: fn(&PacketOption) -> bool| asked.options.iter().any(|o| is_it(&o.node));
        let ip = &mut question.packet.ip;
        if ip.source.is_ipv4() {
            if !is_asked(|option| matches!(option, PacketOption::IpId(_))) {
                ip.id = mark(0xFFFE);
            }
        } else if !is_asked(|option| matches!(option, PacketOption::FlowLabel(_))) {
            ip.flow_label = mark(0xF_FFFE);
        }
        let span = u128::from(PORTS.end - PORTS.start);
        let port = PORTS.start + u16::try_from(moment / 7 % span).unwrap_or(0);
        if let Transport::Tcp { source, .. }
        | Transport::Udp { source, .. }
        | Transport::Sctp { source, .. } = &mut question.packet.transport
            && !is_asked(|option| matches!(option, PacketOption::FromPort(_)))
        {
            *source = port;
        }
        question
    }

    /// What programs tell meanwhile: all of the one packet. Where they have something to say about the underlay's own packets too, whose
    /// marks are others, all of every packet.
    fn mode(world: &World, question: &Question) -> Mode {
        let cluster = &world.cluster;
        let has_outer =
            cluster.encryption.is_some() || cluster.host_firewall || !cluster.prefilter.is_empty();
        let ip = &question.packet.ip;
        let is_v6 = ip.source.is_ipv6();
        let mark = if is_v6 { ip.flow_label } else { ip.id };
        let only = (!has_outer).then(|| filter::marked(mark, is_v6));
        Mode { trace: true, capture: true, filter: only, ..Mode::default() }
    }

    /// What programs do and tell now, by node.
    fn conduct(lab: &mut Backed<LabWires>, nodes: &[NodeId]) -> Vec<(NodeId, Mode)> {
        let mode = |node: &NodeId| Some((*node, lab.programs(*node)?.mode()));
        nodes.iter().filter_map(mode).collect()
    }

    /// Makes programs tell so.
    fn tell(
        lab: &mut Backed<LabWires>,
        before: &[(NodeId, Mode)],
        mode: Mode,
    ) -> Result<(), BackendError> {
        for (node, own) in before {
            let Some(programs) = lab.programs(*node) else { continue };
            // A reader that was ended may have left them talking, and its events where new ones have no room.
            programs.set_mode(own.telling(Mode::default()))?;
        }
        live::let_runs_end()?;
        for (node, own) in before {
            let Some(programs) = lab.programs(*node) else { continue };
            programs.runs()?;
            drop(programs.cut());
            programs.set_mode(own.telling(mode))?;
        }
        Ok(())
    }

    /// Makes programs tell nothing: whoever listens to what is installed is we.
    fn hush(lab: &mut Backed<LabWires>, before: Vec<(NodeId, Mode)>) {
        for (node, mode) in before {
            if let Some(programs) = lab.programs(node) {
                // What cannot be said to them now, the next reader says.
                drop(programs.set_mode(mode.telling(Mode::default())));
            }
        }
    }

    /// What simulation says to the same packet, on a fresh conntrack.
    fn compared(
        scene: &Scene,
        question: &Question,
        real: &Trace,
    ) -> Result<Compared, BackendError> {
        let mut simulated = backend::open(Choice::Auto)?;
        simulated.load_world(&scene.world, &scene.tables)?;
        let trace = follow(&mut *simulated, &scene.world, &scene.tables, question, 0)?;
        Ok(Compared {
            backend: simulated.name(),
            difference: difference(&trace, real, &scene.world),
        })
    }
}
