//! What a person asks of labs, done.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use datapath::lab::namespace::Namespace;
use datapath::lab::{self, LabError, Moved, Running};
use datapath::live::install::{InstallError, Kind, Stage, State, Summary};

use super::running::{Held, Meant, Own, space_in, texts, told};
use crate::reply::{Content, Listing, Reply, Status};
use crate::session::Session;
use crate::session::attach::{UNHEARD, expire_all, over};

/// The reply of what went wrong, or of what was done.
fn either(done: Result<Reply, Box<Reply>>) -> Reply {
    done.unwrap_or_else(|reply| *reply)
}

fn failed(error: impl Into<LabError>) -> Box<Reply> {
    told(&error.into())
}

impl Session {
    /// Makes a lab of what `of` means (what the session does): one with a name, or one that the session holds.
    pub(crate) fn lab_up(&mut self, name: Option<&str>, of: Option<&Self>) -> Reply {
        either(self.bring_up(name, of, "the session"))
    }

    /// The same for the command line, where one without a name ends with what is read.
    pub(crate) fn lab_up_for_now(&mut self, name: Option<&str>) -> Reply {
        either(self.bring_up(name, None, "Ctrl-C or the end of standard input"))
    }

    fn bring_up(
        &mut self,
        name: Option<&str>,
        of: Option<&Self>,
        end: &str,
    ) -> Result<Reply, Box<Reply>> {
        let of = of.unwrap_or(self);
        if of.state.world.nodes.is_empty() {
            let message = "there is no node to make a lab of";
            return Err(Box::new(Reply::failure(
                Status::Input,
                message,
                "load a file that has a cluster",
            )));
        }
        let meant = Meant::of(of, 1)?;
        let counts = meant.counts();
        if let Some(name) = name {
            lab::up(&State::standard(), name, meant.scene(), texts(of)).map_err(failed)?;
            return Ok(Reply::text(format!("lab {name} is up: {counts}")));
        }
        if self.lab.0.is_some() {
            let message = "the session holds a lab already";
            return Err(Box::new(Reply::failure(
                Status::Input,
                message,
                "`lab apply` changes it, `lab down` ends it",
            )));
        }
        let running = Running::make(meant.scene()).map_err(failed)?;
        self.lab.0 = Some(Box::new(Own { running, meant }));
        Ok(Reply::text(format!("a lab is up: {counts}; it ends with {end}")))
    }

    /// Makes a lab what `of` means (what the session does), while packets pass.
    pub(crate) fn lab_apply(&mut self, name: Option<&str>, of: Option<&Self>) -> Reply {
        either(self.apply_to(name, of))
    }

    fn apply_to(&mut self, name: Option<&str>, of: Option<&Self>) -> Result<Reply, Box<Reply>> {
        if name.is_none()
            && let Some(mut own) = self.lab.0.take()
        {
            let number = own.meant.tables.generation.0 + 1;
            let changed = Meant::of(of.unwrap_or(self), number).and_then(|meant| {
                let moved = own.running.change(meant.scene()).map_err(failed)?;
                own.meant = meant;
                Ok(Reply::text(format!("the lab has changed{}", words(&moved))))
            });
            self.lab.0 = Some(own);
            return changed;
        }
        let of = of.unwrap_or(self);
        let state = State::standard();
        let name = state.meant(name, Some(Kind::Lab)).map_err(failed)?;
        let mut said = go_on(&state, &name)?;
        let record = state.open(&name).map_err(failed)?;
        if record.kind == Kind::Attached {
            return Err(failed(LabError::NotALab(name)));
        }
        if state.hush(&name, &record) {
            said.extend(["lab ", &name, ": ", UNHEARD, "\n"]);
        }
        let before = Meant::recorded(&name, &record)?;
        let after = Meant::of(of, record.number + 1)?;
        let (scenes, new) = ((before.scene(), after.scene()), texts(of));
        let is_same = (&new.sources, &new.entries) == (&record.sources, &record.entries);
        let moved = lab::apply(&state, &name, scenes, new).map_err(failed)?;
        let what = if is_same { "is what the files say already" } else { "has changed" };
        let broken = match &broken(&state, &name, &after)[..] {
            [] => String::new(),
            broken => {
                format!("\nit is broken: {}; `lab down` it and make it again", broken.join("; "))
            }
        };
        Ok(Reply::text(format!("{said}lab {name} {what}{}{broken}", words(&moved))))
    }

    /// Runs a command in somebody's network, and waits for its end.
    pub(crate) fn lab_run(&mut self, lab: Option<&str>, place: &str, command: &[String]) -> Reply {
        either(self.run_in(lab, place, command))
    }

    fn run_in(
        &mut self,
        lab: Option<&str>,
        place: &str,
        command: &[String],
    ) -> Result<Reply, Box<Reply>> {
        let space = self.space(lab, place)?;
        let (mut run, name) = program(command);
        let spawned = space.within(|| Ok(run.spawn())).map_err(|error| no_entry(place, &error))?;
        let mut child = spawned.map_err(|error| cannot_run(&name, &error))?;
        match child.wait() {
            Ok(ended) if ended.success() => Ok(Reply::nothing()),
            Ok(ended) => Err(Box::new(Reply::failure(Status::Negative, end(&name, ended), ""))),
            Err(error) => Err(cannot_run(&name, &error)),
        }
    }

    /// Becomes a command in somebody's network; comes back only where that fails.
    pub(crate) fn lab_become(
        &mut self,
        lab: Option<&str>,
        place: &str,
        command: &[String],
    ) -> Reply {
        let space = match self.space(lab, place) {
            Ok(space) => space,
            Err(reply) => return *reply,
        };
        if let Err(error) = space.enter() {
            return *no_entry(place, &error);
        }
        let (mut run, name) = program(command);
        *cannot_run(&name, &run.exec())
    }

    fn space(&mut self, lab: Option<&str>, place: &str) -> Result<Namespace, Box<Reply>> {
        if let (None, Some(own)) = (lab, &mut self.lab.0) {
            let role = own.meant.role(place)?;
            return own.running.space(role).map_err(failed);
        }
        let state = State::standard();
        let name = state.meant(lab, Some(Kind::Lab)).map_err(failed)?;
        space_in(&state, &name, place)
    }

    /// The labs of this machine, and the session's.
    pub(crate) fn lab_list(&self) -> Reply {
        let columns = [
            ("name", "NAME"),
            ("state", "STATE"),
            ("nodes", "NODES"),
            ("spaces", "NAMESPACES"),
            ("generation", "GENERATION"),
            ("files", "FILES"),
        ];
        let mut listing = Listing::new("labs", &columns);
        let is_lab =
            |found: &Summary| found.record.as_ref().is_none_or(|record| record.kind == Kind::Lab);
        let installed = State::standard();
        let ended = expire_all(&installed);
        listing.notes.extend(ended.iter().map(|name| over(name)));
        for found in installed.list().into_iter().filter(is_lab) {
            let state = state_of(&found);
            listing.notes.extend(remark(&installed, &found.name));
            let record = found.record.as_ref();
            let up = record.filter(|record| record.stage == Stage::Up);
            let meant = up.and_then(|record| Meant::recorded(&found.name, record).ok());
            let broken = meant.map_or_else(Vec::new, |m| broken(&installed, &found.name, &m));
            if !broken.is_empty() {
                listing.notes.push(format!("{} is broken: {}", found.name, broken.join("; ")));
            }
            listing.rows.push(vec![
                found.name.into(),
                state.into(),
                record.map(|r| r.nodes.iter().map(|n| n.name.clone()).collect::<Vec<_>>()).into(),
                record.map(|r| r.spaces.len() as u64).into(),
                record.map(|r| r.number).into(),
                record.map(|r| r.entries.clone()).into(),
            ]);
        }
        if let Some(own) = &self.lab.0 {
            listing.notes.push(format!("the session holds one: {}", own.meant.counts()));
        }
        Reply::ok(Content::Listing(listing))
    }

    /// Removes a lab; without a name the session's, or the only one.
    pub(crate) fn lab_down(&mut self, name: Option<&str>) -> Reply {
        if name.is_none() && self.lab.0.take().is_some() {
            return Reply::text("the lab is down");
        }
        let state = State::standard();
        let done = state.meant(name, Some(Kind::Lab)).map_err(LabError::from).and_then(|name| {
            lab::down(&state, &name)?;
            Ok(Reply::text(format!("lab {name} is down")))
        });
        either(done.map_err(failed))
    }

    /// Removes all labs, however far their makers came.
    pub(crate) fn lab_down_all(&mut self) -> Reply {
        self.lab = Held::default();
        let state = State::standard();
        either(lab::down_all(&state).map_err(failed).map(|names| {
            let what = match &names[..] {
                [] => "there was no lab".to_owned(),
                names => format!("down: {}", names.join(", ")),
            };
            Reply::text(what + &staying(&state))
        }))
    }
}

/// What is attached is no lab, and is not taken off with them.
fn staying(state: &State) -> String {
    let is_attached =
        |found: &Summary| found.record.as_ref().is_some_and(|record| record.kind == Kind::Attached);
    let attached = state.list().into_iter().filter(is_attached).map(|found| found.name);
    match &attached.collect::<Vec<_>>()[..] {
        [] => String::new(),
        names => format!("; attached: {} (`hopwise detach --all`)", names.join(", ")),
    }
}

/// Does the rest of a change that a process was killed over; what is to be said of that.
fn go_on(state: &State, name: &str) -> Result<String, Box<Reply>> {
    let Some((change, record)) = state.resume(name).map_err(failed)? else {
        return Ok(String::new());
    };
    let before = Meant::recorded(name, &record)?;
    let next = record.next.as_deref().unwrap_or(&record);
    let after = Meant::recorded(name, next)?;
    let scenes = (before.scene(), after.scene());
    lab::resume(state, (change, record), scenes).map_err(failed)?;
    Ok(format!("what a killed process had begun to change in lab {name} was done first\n"))
}

/// What is to be said of a lab: how to go on with one that is not whole, and that nobody listens to it any more.
fn remark(state: &State, name: &str) -> Option<String> {
    match state.open(name) {
        Ok(record) => state.hush(name, &record).then(|| format!("lab {name}: {UNHEARD}")),
        Err(InstallError::Busy { .. }) => None,
        Err(error) => Some(format!("{error}; {}", error.remedy())),
    }
}

/// What of a lab is no longer as it was made.
fn broken(state: &State, name: &str, meant: &Meant) -> Vec<String> {
    match lab::broken(state, name, meant.scene()) {
        Ok(broken) => broken.iter().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn state_of(found: &Summary) -> &'static str {
    match (&found.record, found.is_busy) {
        (Some(record), _) if record.stage == Stage::Up => "up",
        (Some(record), is_busy) if record.next.is_some() && record.stage != Stage::Leaving => {
            if is_busy {
                "changing"
            } else {
                "interrupted"
            }
        }
        (_, true) => "building",
        (_, false) => "unfinished",
    }
}

/// Who came and went.
fn words(moved: &Moved) -> String {
    let list = |what: &str, names: &[String]| match names {
        [] => String::new(),
        names => format!("; {what}: {}", names.join(", ")),
    };
    list("came", &moved.come) + &list("went", &moved.gone)
}

fn program(command: &[String]) -> (Command, String) {
    let name = command.first().cloned().unwrap_or_default();
    let mut run = Command::new(&name);
    run.args(command.get(1..).unwrap_or_default());
    (run, name)
}

/// That the network is not entered, before any program is run.
fn no_entry(place: &str, error: &std::io::Error) -> Box<Reply> {
    let message = format!("cannot enter the network of `{place}`: {error}");
    let remedy = datapath::lab::privileges().unwrap_or_else(|| {
        "somebody may have removed it: `hopwise lab list` says what is there".to_owned()
    });
    Box::new(Reply::failure(Status::Environment, message, remedy))
}

fn cannot_run(name: &str, error: &std::io::Error) -> Box<Reply> {
    let message = format!("cannot run `{name}`: {}", super::super::files::reason(error));
    let remedy = "programs are those of this machine; only the network is another";
    Box::new(Reply::failure(Status::Environment, message, remedy))
}

fn end(name: &str, ended: ExitStatus) -> String {
    match (ended.code(), ended.signal()) {
        (Some(code), _) => format!("`{name}` ended with {code}"),
        (None, Some(signal)) => format!("`{name}` was ended by signal {signal}"),
        (None, None) => format!("`{name}` ended"),
    }
}
