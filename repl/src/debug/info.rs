//! `info`, `help`, and the lists of breakpoints and displays with what changes them.

use std::fmt::Write;

use datapath::vm::map::Kind;
use engine::backend::Injection;
use engine::source::Span;
use lang::ast::Spanned;
use lang::debug::{Condition, Info, Place, TABLE, Thing, find};

use super::stops::{self, Stop, What};
use super::{Debugging, Problem, Stumble, code, events, text_of};
use crate::reply::{Reply, Status};

impl Debugging {
    /// `info WHAT`
    pub(super) fn info(&self, what: Info) -> Result<Reply, Stumble> {
        let machine = self.machine()?;
        let lines = match what {
            Info::Hops => self.hops(),
            Info::Events => self.event_lines(),
            Info::Maps => maps(machine),
            Info::Registers => self.print(&Thing::Registers)?,
            Info::Breakpoints => self.breakpoints(),
            Info::Functions => {
                code::functions(machine.image()).into_iter().map(str::to_owned).collect()
            }
            Info::Sources => code::sources(machine.image())
                .into_iter()
                .map(|(file, lines)| format!("{file}, {lines} lines known"))
                .collect(),
            Info::Programs => programs(machine),
            Info::Edits => {
                let mut edits = self.statements_in_words();
                edits.extend(self.edits_in_words());
                if edits.is_empty() { vec!["nothing was edited".to_owned()] } else { edits }
            }
        };
        Ok(text_of(&lines))
    }

    fn hops(&self) -> Vec<String> {
        let now = self.debugger.at().hop;
        let line = |(number, injection): (usize, &Injection)| {
            let mark = if number == now { "->" } else { "  " };
            let mut events = self.events.iter().filter(|event| event.at.hop == number);
            let end = events.find(|event| event.keyword == "end");
            let end = end.map_or_else(|| "in it".to_owned(), |end| end.text.clone());
            format!("{mark} {}  {}: {end}", number + 1, events::hop(&self.scene, injection))
        };
        self.debugger.injections().enumerate().map(line).collect()
    }

    fn event_lines(&self) -> Vec<String> {
        let at = self.debugger.at();
        let last = self.events.len();
        let line = |(number, event): (usize, &super::PolicyEvent)| {
            let is_here = number == last && event.at == at;
            let mark = if is_here { "->" } else { "  " };
            format!("{mark} {number:>3}  {:<9} {}", event.keyword, event.text)
        };
        (1..).zip(&self.events).map(line).collect()
    }

    fn breakpoints(&self) -> Vec<String> {
        if self.stops.is_empty() {
            return vec!["there are no breakpoints; `break` and `watch` make some".to_owned()];
        }
        self.stops.iter().map(|stop| self.stop_line(stop)).collect()
    }

    /// `break PLACE [if CONDITION]`
    pub(super) fn add_breakpoint(
        &mut self,
        place: &Spanned<Place>,
        condition: Option<Condition>,
        once: bool,
        text: &str,
    ) -> Result<Reply, Stumble> {
        let what = stops::resolve(&self.scene, self.machine()?, self.line, &place.node)?;
        let name = snippet(text, place.span);
        Ok(self.add_stop(name, what, condition_of(condition, text), once))
    }

    /// `watch THING [if CONDITION]`
    pub(super) fn add_watch(
        &mut self,
        thing: Spanned<Thing>,
        condition: Option<Condition>,
        text: &str,
    ) -> Result<Reply, Stumble> {
        // What cannot be printed now may come to be, but a map that there is not will not.
        if let Thing::Map { name, .. } = &thing.node {
            stops::map(self.machine()?, name)?;
        }
        let name = snippet(text, thing.span);
        let what = What::Watch(thing.node, None);
        Ok(self.add_stop(name, what, condition_of(condition, text), false))
    }

    fn add_stop(
        &mut self,
        text: String,
        what: What,
        condition: Option<(Condition, String)>,
        once: bool,
    ) -> Reply {
        self.numbers += 1;
        let number = self.numbers;
        let stop = Stop { number, text, what, condition, once, enabled: true, hits: 0 };
        let line = self.stop_line(&stop);
        self.stops.push(stop);
        self.armed = false;
        Reply::text(line)
    }

    /// `condition N [CONDITION]`
    pub(super) fn set_condition(
        &mut self,
        number: u32,
        condition: Option<Condition>,
        text: &str,
    ) -> Result<Reply, Stumble> {
        // The condition is everything behind the number.
        let written = text.trim().splitn(3, char::is_whitespace).nth(2).unwrap_or_default();
        let stop = self.stop(number)?;
        stop.condition = condition.map(|condition| (condition, written.trim().to_owned()));
        let stop = stop.clone();
        Ok(Reply::text(self.stop_line(&stop)))
    }

    /// A breakpoint with the source line that it came to be at.
    fn stop_line(&self, stop: &Stop) -> String {
        let place = match &stop.what {
            What::Code(places) => places.first().and_then(|at| {
                let image = self.debugger.machine()?.image();
                code::place_of(image, *at)
            }),
            _ => None,
        };
        stop_line(stop, place.as_deref())
    }

    fn stop(&mut self, number: u32) -> Result<&mut Stop, Stumble> {
        let known: Vec<String> = self.stops.iter().map(|stop| stop.number.to_string()).collect();
        self.stops.iter_mut().find(|stop| stop.number == number).ok_or_else(|| {
            let remedy = if known.is_empty() {
                "there are none; `break` and `watch` make some".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            };
            Problem::new(format!("there is no breakpoint {number}"), remedy).into()
        })
    }

    /// `delete [N ...]`
    pub(super) fn delete(&mut self, numbers: &[Spanned<u32>]) -> Result<Reply, Stumble> {
        for number in numbers {
            self.stop(number.node)?;
        }
        let gone =
            |stop: &Stop| numbers.is_empty() || numbers.iter().any(|n| n.node == stop.number);
        self.stops.retain(|stop| !gone(stop));
        Ok(Reply::nothing())
    }

    /// `enable [N ...]`, `disable [N ...]`
    pub(super) fn enable(&mut self, numbers: &[Spanned<u32>], on: bool) -> Result<Reply, Stumble> {
        for number in numbers {
            self.stop(number.node)?;
        }
        self.armed = false;
        for stop in &mut self.stops {
            if numbers.is_empty() || numbers.iter().any(|number| number.node == stop.number) {
                stop.enabled = on;
            }
        }
        Ok(Reply::nothing())
    }

    /// `display [THING]`
    pub(super) fn add_display(
        &mut self,
        thing: Option<Spanned<Thing>>,
        text: &str,
    ) -> Result<Reply, Stumble> {
        let Some(thing) = thing else {
            let line = |(number, _, name): &(u32, Thing, String)| format!("{number}  {name}");
            let lines: Vec<String> = self.displays.iter().map(line).collect();
            let none = || vec!["nothing is displayed; `display THING` does".to_owned()];
            return Ok(text_of(&if lines.is_empty() { none() } else { lines }));
        };
        let lines = self.print(&thing.node)?;
        self.numbers += 1;
        self.displays.push((self.numbers, thing.node, snippet(text, thing.span)));
        Ok(text_of(&lines))
    }

    /// `undisplay [N ...]`
    pub(super) fn undisplay(&mut self, numbers: &[Spanned<u32>]) -> Result<Reply, Stumble> {
        for number in numbers {
            if !self.displays.iter().any(|(known, ..)| *known == number.node) {
                let message = format!("there is no display {}", number.node);
                return Err(Problem::new(message, "`display` lists them").into());
            }
        }
        let gone = |known: u32| numbers.is_empty() || numbers.iter().any(|n| n.node == known);
        self.displays.retain(|(known, ..)| !gone(*known));
        Ok(Reply::nothing())
    }
}

/// `2  break lookup POLICY if dst-port == 80, 1 stop`
fn stop_line(stop: &Stop, place: Option<&str>) -> String {
    let mut line = format!("{} {}  {}", stop.kind(), stop.number, stop.text);
    if let Some((_, text)) = &stop.condition {
        let _ = write!(line, " if {text}");
    }
    if let Some(place) = place {
        let _ = write!(line, ", {place}");
    }
    if stop.once {
        line.push_str(", once");
    }
    if !stop.enabled {
        line.push_str(", disabled");
    }
    if stop.hits > 0 {
        let _ = write!(line, ", {}", counted(stop.hits, "stop", "stops"));
    }
    line
}

pub(super) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// What is written at a place of the typed line.
pub(super) fn snippet(text: &str, span: Span) -> String {
    let range = span.start as usize..span.end as usize;
    text.get(range).unwrap_or_default().trim().to_owned()
}

/// A condition with its text: everything behind the word `if`.
fn condition_of(condition: Option<Condition>, text: &str) -> Option<(Condition, String)> {
    let text = text.split_once(" if ").map_or("", |(_, behind)| behind);
    condition.map(|condition| (condition, text.trim().to_owned()))
}

fn maps(machine: &datapath::vm::machine::Machine) -> Vec<String> {
    let line = |map: &datapath::vm::map::Map| {
        let definition = map.definition();
        let used = match definition.kind {
            Kind::Hash | Kind::LruHash | Kind::PerCpuHash | Kind::LpmTrie | Kind::HashOfMaps => {
                format!("{} of {}", map.count(), entries(definition.capacity))
            }
            Kind::RingBuffer => format!("{} bytes", definition.capacity),
            Kind::Array | Kind::PerCpuArray | Kind::ProgramArray => entries(definition.capacity),
        };
        let (kind, key, value) =
            (kind_word(definition.kind), definition.key_size, definition.value_size);
        format!("{:<12} {kind:<14} key {key}, value {value} bytes, {used}", definition.name)
    };
    machine.maps().iter().map(line).collect()
}

fn entries(number: u32) -> String {
    counted(number.into(), "entry", "entries")
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Hash => "hash",
        Kind::Array => "array",
        Kind::ProgramArray => "program array",
        Kind::PerCpuHash => "per-CPU hash",
        Kind::PerCpuArray => "per-CPU array",
        Kind::LruHash => "LRU hash",
        Kind::LpmTrie => "LPM trie",
        Kind::HashOfMaps => "hash of maps",
        Kind::RingBuffer => "ring buffer",
    }
}

fn programs(machine: &datapath::vm::machine::Machine) -> Vec<String> {
    let line = |(number, program): (u32, &datapath::vm::image::Program)| {
        let mark = if number == machine.program() { "->" } else { "  " };
        let (code, functions) = (program.code.len(), program.functions.len());
        let functions = counted(functions as u64, "function", "functions");
        format!("{mark} {:<16} {code} instructions, {functions}", program.name)
    };
    (0_u32..).zip(&machine.image().programs).map(line).collect()
}

/// `help [COMMAND]` at a stop.
pub(super) fn help(name: Option<&str>) -> Reply {
    let Some(name) = name else {
        let width = TABLE.iter().map(|info| info.name.len()).max().unwrap_or(0);
        let line = |info: &lang::debug::DebugInfo| format!("{:<width$}  {}", info.name, info.help);
        let mut lines: Vec<String> = TABLE.iter().map(line).collect();
        lines.push(String::new());
        lines.push(
            "`help COMMAND` shows its form. Unique beginnings of words do, and on a terminal an empty line \
             repeats."
                .to_owned(),
        );
        return text_of(&lines);
    };
    let Some(info) = find(name) else {
        let message = format!("there is no command `{name}` at a stop");
        return Reply::failure(Status::Usage, message, "`help` lists the commands");
    };
    let mut lines = vec![format!("{}: {}", info.usage, info.help)];
    if !info.aliases.is_empty() {
        lines.push(format!("also: {}", info.aliases.join(", ")));
    }
    lines.push(format!("for example: {}", info.example));
    text_of(&lines)
}
