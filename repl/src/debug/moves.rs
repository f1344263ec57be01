//! Going through the question's time, forward and back, with a look at every stop after each instruction. Back is
//! forward again from a hop's beginning: what happened there is seen anew, the same as before.

use datapath::vm::debug::{At, End, Happening, Progress};
use datapath::vm::machine::Machine;
use lang::debug::{Level, Moment as Target, Thing, Unit};

use super::events::PolicyEvent;
use super::info::counted;
use super::stops::{Moment, Stop, What};
use super::{Debugging, LookUp, Problem, Stumble, code, events, stops};
use crate::reply::Reply;

type Reasons = Vec<String>;

impl Debugging {
    /// `step [UNIT] [N]`
    pub(super) fn step(&mut self, unit: Option<Unit>, count: u32) -> Result<Reply, Stumble> {
        let unit = unit.unwrap_or(self.unit());
        self.times(count, |this| {
            let seen = this.events.len();
            this.run_until(|this, progress| match unit {
                Unit::Instruction => true,
                Unit::Line => this.new_line || progress == Progress::Ended,
                Unit::Event => this.events.len() > seen,
                Unit::Hop => progress == Progress::Began,
            })
        })
    }

    /// `next [N]`: a source line, or an instruction, and the functions that it calls; on the policy level a hop.
    pub(super) fn next(&mut self, unit: Option<Unit>, count: u32) -> Result<Reply, Stumble> {
        let unit = unit.unwrap_or(match self.level {
            Level::Policy => Unit::Hop,
            Level::Program => Unit::Line,
        });
        self.times(count, |this| {
            let depth = this.depth();
            this.run_until(|this, progress| match unit {
                Unit::Hop | Unit::Event => progress == Progress::Ended,
                Unit::Line => this.new_line && this.depth() <= depth || progress == Progress::Ended,
                Unit::Instruction => this.depth() <= depth || progress == Progress::Ended,
            })
        })
    }

    /// `finish`
    pub(super) fn finish(&mut self) -> Result<Reply, Stumble> {
        let (level, depth) = (self.level, self.depth());
        self.times(1, |this| {
            this.run_until(|this, progress| {
                progress == Progress::Ended || level == Level::Program && this.depth() < depth
            })
        })
    }

    /// `continue [N]`
    pub(super) fn go_on(&mut self, count: u32) -> Result<Reply, Stumble> {
        let mut reasons = Vec::new();
        for _ in 0..count.max(1) {
            reasons = self.run_until(|_, _| false)?;
            if self.debugger.answer().is_some() || self.interrupt.is_set() {
                break;
            }
        }
        Ok(self.halted(reasons))
    }

    /// A move so many times, or until something stops it.
    fn times(
        &mut self,
        count: u32,
        mut once: impl FnMut(&mut Self) -> Result<Reasons, Stumble>,
    ) -> Result<Reply, Stumble> {
        for _ in 0..count {
            let reasons = once(self)?;
            if !reasons.is_empty() || self.debugger.answer().is_some() {
                return Ok(self.halted(reasons));
            }
        }
        Ok(self.halted(Vec::new()))
    }

    /// What a step is where nothing is said.
    fn unit(&self) -> Unit {
        match self.level {
            Level::Policy => Unit::Event,
            Level::Program => Unit::Line,
        }
    }

    fn depth(&self) -> usize {
        self.debugger.machine().map_or(0, Machine::depth)
    }

    /// Runs on until something stops it, and says what; nothing where the condition was met or all is over.
    fn run_until(&mut self, done: impl Fn(&Self, Progress) -> bool) -> Result<Reasons, Stumble> {
        if !self.armed {
            self.arm_watches();
            self.armed = true;
        }
        loop {
            if self.interrupt.is_set() {
                return Ok(vec!["interrupted".to_owned()]);
            }
            let progress = self.advance()?;
            if progress == Progress::Over {
                return Ok(Vec::new());
            }
            let reasons = self.stops_here(progress);
            if !reasons.is_empty() || done(self, progress) || self.debugger.answer().is_some() {
                return Ok(reasons);
            }
        }
    }

    /// Runs to the end, whatever there is to stop at.
    pub(super) fn run_out(&mut self) -> Result<(), Stumble> {
        self.armed = false;
        while self.debugger.answer().is_none() {
            if self.advance()? == Progress::Over || self.interrupt.is_set() {
                break;
            }
        }
        Ok(())
    }

    /// One instruction, or into the next hop, with what happened noted.
    fn advance(&mut self) -> Result<Progress, Stumble> {
        let (line, depth) = (self.line, self.depth());
        let progress = self.debugger.step()?;
        match progress {
            Progress::Began => self.note_beginning(),
            Progress::Ran | Progress::Ended => self.note(progress == Progress::Ended),
            Progress::Over => return Ok(progress),
        }
        let here = self.debugger.machine().filter(|machine| machine.is_running());
        let here = here.and_then(|m| code::own_line(m.image(), m.program(), m.pc()));
        self.line = here.or(line);
        let moved = self.line != line || self.depth() != depth || progress == Progress::Began;
        self.new_line = here.is_some() && moved;
        Ok(progress)
    }

    /// The event of a hop's beginning.
    pub(super) fn note_beginning(&mut self) {
        self.looked_up = None;
        self.line = None;
        self.new_line = true;
        let Some(injection) = self.debugger.injection() else { return };
        let told = events::began(injection);
        self.add_event(told);
    }

    fn add_event(&mut self, (keyword, text): (String, String)) {
        let at = self.debugger.at();
        self.events.push(PolicyEvent { at, keyword, text });
    }

    /// The events of an instruction.
    fn note(&mut self, ended: bool) {
        let (Some(injection), Some(machine)) = (self.debugger.injection(), self.debugger.machine())
        else {
            return;
        };
        let mut told = Vec::new();
        for happening in self.debugger.happened() {
            if let Happening::Lookup { map, key, found } = happening {
                let (map, key, found) = (*map, key.clone(), found.clone());
                self.looked_up = Some(LookUp { map, key, found });
            }
            told.extend(events::tell(&self.scene, injection, machine, happening));
        }
        if let (true, Some(End::Returned(seen))) = (ended, self.debugger.end()) {
            told.push(events::ended(&self.scene, injection, seen));
        }
        for told in told {
            self.add_event(told);
        }
    }

    /// What stops after a step, in words. Counts it.
    fn stops_here(&mut self, progress: Progress) -> Reasons {
        if self.stops.is_empty() {
            return Vec::new();
        }
        let mut stops = std::mem::take(&mut self.stops);
        let mut reasons = Vec::new();
        if progress == Progress::Began {
            // Another packet is before the program; that it is another is no change of the one.
            for stop in &mut stops {
                self.arm(stop);
            }
        }
        for stop in &mut stops {
            let reason = self.reason(stop, progress);
            stop.hits += u64::from(reason.is_some());
            if stop.once && reason.is_some() {
                stop.enabled = false;
            }
            reasons.extend(reason);
        }
        stops.retain(|stop| !(stop.once && stop.hits > 0));
        self.stops = stops;
        reasons
    }

    /// Why a breakpoint or watchpoint stops here, if it does.
    fn reason(&self, stop: &mut Stop, progress: Progress) -> Option<String> {
        let reading = self.reading().ok()?;
        let moment = Moment {
            scene: &self.scene,
            injection: self.debugger.injection()?,
            reading,
            happened: self.debugger.happened(),
            began: progress == Progress::Began,
            new_line: self.new_line,
        };
        let (number, kind) = (stop.number, stop.kind());
        let changed = match &mut stop.what {
            What::Watch(thing, before) if stop.enabled => self.change(thing, before)?,
            _ => String::new(),
        };
        if let What::Watch(..) = stop.what {
            return stop.may(&moment).then(|| format!("{kind} {number}, {changed}"));
        }
        stop.hits(&moment).then(|| format!("{kind} {number}, {}", stop.text))
    }

    /// How a watched thing has changed since it was looked at, if it has.
    fn change(&self, thing: &Thing, before: &mut Option<Vec<String>>) -> Option<String> {
        if let (Thing::Map { name, .. }, true) = (thing, before.is_some())
            && !self.touched(name)
        {
            return None;
        }
        let now = self.print(thing).ok();
        if *before == now {
            return None;
        }
        let old = std::mem::replace(before, now);
        let (old, new) = (old.unwrap_or_default(), before.clone().unwrap_or_default());
        let gone = old.iter().filter(|line| !new.contains(line));
        let come = new.iter().filter(|line| !old.contains(line));
        let words = |lines: Vec<&String>| match lines[..] {
            [] => "nothing".to_owned(),
            [one] => one.trim().to_owned(),
            [first, ..] => format!("{} and {} more lines", first.trim(), lines.len() - 1),
        };
        Some(format!("{} -> {}", words(gone.collect()), words(come.collect())))
    }

    /// Whether the last step wrote to a map.
    fn touched(&self, name: &str) -> bool {
        let Some(machine) = self.debugger.machine() else { return false };
        let Ok(watched) = stops::map(machine, name) else { return false };
        self.debugger.happened().iter().any(|happening| match happening {
            Happening::Updated { map, .. } | Happening::WroteValue { map } => *map == watched,
            _ => false,
        })
    }

    /// Notes what the watched things are now.
    pub(super) fn arm_watches(&mut self) {
        let mut stops = std::mem::take(&mut self.stops);
        for stop in &mut stops {
            self.arm(stop);
        }
        self.stops = stops;
    }

    fn arm(&self, stop: &mut Stop) {
        if let What::Watch(thing, before) = &mut stop.what {
            *before = self.print(thing).ok();
        }
    }

    /// Goes to a hop's beginning.
    fn rewind(&mut self, hop: usize) -> Result<(), Stumble> {
        self.armed = false;
        self.debugger.rewind(hop)?;
        self.events.retain(|event| event.at.hop < hop);
        self.note_beginning();
        Ok(())
    }

    /// Goes to a point in time, or to the end where it is beyond it.
    pub(super) fn go(&mut self, to: At) -> Result<(), Stumble> {
        self.armed = false;
        if to < self.debugger.at() {
            self.rewind(to.hop)?;
        }
        while self.debugger.at() < to {
            if self.advance()? == Progress::Over {
                break;
            }
        }
        Ok(())
    }

    /// `goto TIME`
    pub(super) fn go_to(&mut self, target: Target) -> Result<Reply, Stumble> {
        let start = self.debugger.at();
        let found = match target {
            Target::Start => {
                self.go(At::default())?;
                true
            }
            Target::End => {
                self.run_out()?;
                true
            }
            Target::Instruction(wanted) => {
                if wanted < self.debugger.instructions() {
                    self.rewind(0)?;
                }
                self.until(|this| this.debugger.instructions() >= wanted)?
            }
            Target::Hop(number) => match (number as usize).checked_sub(1) {
                Some(hop) if hop <= start.hop => {
                    self.go(At { hop, executed: 0 })?;
                    true
                }
                Some(hop) => self.until(|this| this.debugger.at().hop == hop)?,
                None => false,
            },
            Target::Event(number) => match (number as usize).checked_sub(1) {
                Some(index) => {
                    if let Some(event) = self.events.get(index) {
                        let at = event.at;
                        self.go(at)?;
                    }
                    self.until(|this| this.events.len() > index)?
                }
                None => false,
            },
        };
        if found {
            return Ok(self.halted(Vec::new()));
        }
        let hops = self.debugger.at().hop as u64 + 1;
        let (events, instructions) = (self.events.len() as u64, self.debugger.instructions());
        self.go(start)?;
        let remedy = format!(
            "it has {}, {} and {}; the first hop and event are 1, the first instruction is 0",
            counted(hops, "hop", "hops"),
            counted(events, "event", "events"),
            counted(instructions, "instruction", "instructions"),
        );
        Err(Problem::new("the question has no such moment", remedy).into())
    }

    /// Runs on, past every stop, until a condition is met; false at the end.
    fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<bool, Stumble> {
        self.armed = false;
        while !done(self) {
            if self.advance()? == Progress::Over {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// `back [UNIT] [N]`
    pub(super) fn back(&mut self, unit: Option<Unit>, count: u32) -> Result<Reply, Stumble> {
        let unit = unit.unwrap_or(self.unit());
        let now = self.debugger.at();
        let to = match unit {
            Unit::Instruction => self.nth_before(now, count, |_, _| true)?,
            Unit::Line => self.nth_before(now, count, |this, _| this.new_line)?,
            Unit::Event | Unit::Hop => {
                let wanted = |event: &&PolicyEvent| unit == Unit::Event || event.at.executed == 0;
                let events = self.events.iter().rev().filter(wanted);
                let mut times: Vec<At> = events.map(|e| e.at).filter(|at| *at < now).collect();
                times.dedup();
                times.get(count.saturating_sub(1) as usize).copied()
            }
        };
        self.go_back(now, to)
    }

    /// `reverse-next [N]`
    pub(super) fn reverse_next(&mut self, count: u32) -> Result<Reply, Stumble> {
        if self.level == Level::Policy {
            return self.back(Some(Unit::Hop), count);
        }
        let (now, depth) = (self.debugger.at(), self.depth());
        let to = self.nth_before(now, count, |this, _| this.new_line && this.depth() <= depth)?;
        self.go_back(now, to)
    }

    /// Goes to a point before, or to the beginning where there is none. Whoever interrupts the search stays where he
    /// was.
    fn go_back(&mut self, now: At, to: Option<At>) -> Result<Reply, Stumble> {
        if self.interrupt.is_set() {
            return self.interrupted(now);
        }
        self.go(to.unwrap_or_default())?;
        Ok(if to.is_some() { self.halted(Vec::new()) } else { self.at_beginning() })
    }

    fn interrupted(&mut self, now: At) -> Result<Reply, Stumble> {
        self.go(now)?;
        Ok(self.halted(vec!["interrupted".to_owned()]))
    }

    fn at_beginning(&self) -> Reply {
        self.halted(vec!["beginning of the question".to_owned()])
    }

    /// The last point but so many before another at which a condition is met. Leaves the question somewhere.
    fn nth_before(
        &mut self,
        now: At,
        count: u32,
        fits: impl Fn(&Self, Progress) -> bool,
    ) -> Result<Option<At>, Stumble> {
        let mut wanted = count.max(1) as usize;
        for hop in (0..=now.hop).rev() {
            self.rewind(hop)?;
            let mut found = Vec::new();
            let mut progress = Progress::Began;
            while self.debugger.at() < now && self.debugger.at().hop == hop {
                if fits(self, progress) {
                    found.push(self.debugger.at());
                }
                progress = self.advance()?;
                if progress == Progress::Over || self.interrupt.is_set() {
                    break;
                }
            }
            if let Some(index) = found.len().checked_sub(wanted) {
                return Ok(found.get(index).copied());
            }
            wanted -= found.len();
        }
        Ok(None)
    }

    /// `reverse-continue [N]`
    pub(super) fn reverse_continue(&mut self, count: u32) -> Result<Reply, Stumble> {
        let mut reasons = Vec::new();
        for _ in 0..count.max(1) {
            let now = self.debugger.at();
            let latest = self.latest_stop(now)?;
            if self.interrupt.is_set() {
                return self.interrupted(now);
            }
            match latest {
                Some((at, why)) => {
                    self.go(at)?;
                    reasons = why;
                }
                None => {
                    self.go(At::default())?;
                    return Ok(self.at_beginning());
                }
            }
        }
        Ok(self.halted(reasons))
    }

    /// The latest point before another at which something stops, and why. Stops seen so are not
    /// counted: they were when they came.
    fn latest_stop(&mut self, now: At) -> Result<Option<(At, Reasons)>, Stumble> {
        for hop in (0..=now.hop).rev() {
            self.rewind(hop)?;
            let kept = self.stops.clone();
            self.arm_watches();
            let mut latest = None;
            let mut progress = Progress::Began;
            while self.debugger.at() < now && self.debugger.at().hop == hop {
                let mut stops = self.stops.clone();
                let reasons: Reasons =
                    stops.iter_mut().filter_map(|stop| self.reason(stop, progress)).collect();
                self.stops = stops;
                if !reasons.is_empty() {
                    latest = Some((self.debugger.at(), reasons));
                }
                progress = self.advance()?;
                if progress == Progress::Over || self.interrupt.is_set() {
                    break;
                }
            }
            self.stops = kept;
            if latest.is_some() {
                return Ok(latest);
            }
        }
        Ok(None)
    }
}
