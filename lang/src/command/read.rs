//! Reads a line into a command: commands by their first word, then statements of the language, then a
//! question with an arrow. Files and names are not looked up here.

use std::ops::Range;

use engine::diag::Diagnostic;
use engine::source::{FileId, Span};

use super::table::{self, CommandInfo, NOUNS, TABLE};
use super::{ATTACH_FLAGS, Attach, Command, Flag, LIVE_FLAGS, MONITOR_FLAGS, Noun, Replay};
use crate::ast::{Name, Question};
use crate::codes;
use crate::names::nearest;
use crate::outline::Outline;
use crate::parse;

mod lab;
mod shell;

/// The kinds that `remove` knows: those of [`crate::ast::Item::key`].
const KINDS: &[&str] = &[
    "policy",
    "pod",
    "service",
    "node",
    "namespace",
    "external",
    "alias",
    "identity",
    "test",
    "include",
    "cluster",
];

/// How the name of a recorded answer ends.
const RECORDINGS: &[&str] = &[".hoptrace", ".trace"];

pub(super) fn command(text: &str, file: FileId) -> Result<Command, Vec<Diagnostic>> {
    let line = Line::new(text, file);
    let word = parse::first_word(&line.blanked);
    if line.blanked.trim().is_empty() {
        return Ok(Command::Empty);
    }
    if is_statement(word, &line.blanked) {
        let start = line.blanked.len() - line.blanked.trim_start().len();
        return Ok(Command::Statement(line.span(&(start..line.blanked.trim_end().len()))));
    }
    if let Some(problem) = line.misplaced_capture(word) {
        return Err(vec![problem]);
    }
    match table::find(word).filter(|_| line.first_is(word)) {
        Some(info) => line.command(info),
        None if line.blanked.contains("->") => asked(text, 0..text.len(), file),
        None => Err(vec![line.unknown(word)]),
    }
}

pub(super) fn question(text: &str, file: FileId) -> Result<Question, Vec<Diagnostic>> {
    question_in(text, 0..text.len(), file)
}

fn asked(text: &str, range: Range<usize>, file: FileId) -> Result<Command, Vec<Diagnostic>> {
    question_in(text, range, file).map(|question| Command::Trace(Box::new(question)))
}

fn question_in(text: &str, range: Range<usize>, file: FileId) -> Result<Question, Vec<Diagnostic>> {
    let written = text.get(range.clone()).unwrap_or("").trim_end();
    if let Some(before) = written.strip_suffix('-')
        && (before.is_empty() || before.ends_with([' ', '\t']))
    {
        let end = range.start + written.len();
        return Err(vec![eaten_arrow(parse::span_of(file, &(end - 1..end)))]);
    }
    parse::question_in(text, range, file)
}

/// A shell takes `> b:80` of an unquoted arrow for the name of a file to write.
fn eaten_arrow(span: Span) -> Diagnostic {
    Diagnostic::error(codes::SYNTAX, "the receiver is missing behind `-`", span)
        .note("a shell that sees `a -> b:80` unquoted writes to a file named `b:80`; look for it and remove it")
        .help("quote the question: 'a -> b:80'; or leave the arrow out: a b:80")
}

/// Whether a text is statements of the language. Words that also begin a question (`pod a -> b`) or a
/// command (`test NAME`) do where a block follows.
pub(crate) fn is_statement(word: &str, text: &str) -> bool {
    let head = text.split('{').next().unwrap_or(text);
    match word {
        "test" => text.contains('{'),
        "pod" | "service" | "node" | "external" => !head.contains("->"),
        _ => parse::begins_statement(word),
    }
}

/// A line with its comments blanked.
struct Line {
    blanked: String,
    /// The same as it was written.
    written: String,
    file: FileId,
}

/// An argument: its text without quotes, its place with them.
type Argument = Name;

impl Line {
    fn new(text: &str, file: FileId) -> Self {
        Self { blanked: Outline::new(text).blanked, written: text.to_owned(), file }
    }

    fn span(&self, range: &Range<usize>) -> Span {
        parse::span_of(self.file, range)
    }

    /// Whether the whole first word is this, and not the beginning of `time/x` or `help.me`.
    fn first_is(&self, word: &str) -> bool {
        self.blanked.split_whitespace().next() == Some(word)
    }

    /// The place of the first word.
    fn first(&self) -> Range<usize> {
        let start = self.blanked.len() - self.blanked.trim_start().len();
        let rest = self.blanked.get(start..).unwrap_or("");
        start..start + rest.find(char::is_whitespace).unwrap_or(rest.len())
    }

    /// Everything behind the first word.
    fn rest(&self) -> Range<usize> {
        self.first().end..self.blanked.trim_end().len().max(self.first().end)
    }

    /// The words behind the first one; what is in quotes is one.
    fn arguments(&self) -> Vec<Argument> {
        let mut arguments = Vec::new();
        let Range { start: mut at, end } = self.rest();
        while let Some(rest) = self.blanked.get(at..end).filter(|r| !r.trim().is_empty()) {
            let from = at + (rest.len() - rest.trim_start().len());
            let word = self.blanked.get(from..end).unwrap_or("");
            let quoted = word.strip_prefix('"').and_then(|inner| Some((inner, inner.find('"')?)));
            let (content, length) = match quoted {
                Some((inner, close)) => (inner.get(..close).unwrap_or(""), close + 2),
                None => {
                    let length = word.find(char::is_whitespace).unwrap_or(word.len());
                    (word.get(..length).unwrap_or(""), length)
                }
            };
            let span = self.span(&(from..from + length));
            arguments.push(Name { node: content.to_owned(), span });
            at = from + length;
        }
        arguments
    }

    fn command(&self, info: &'static CommandInfo) -> Result<Command, Vec<Diagnostic>> {
        match info.name {
            "trace" => self.trace(info),
            "debug" => self.debug(info),
            "record" => self.record(info),
            _ => self.plain(info).map_err(|problem| vec![problem]),
        }
    }

    /// `--pcap FILE` is taken off the end of a question before it is read; any other is out of its place.
    fn misplaced_capture(&self, word: &str) -> Option<Diagnostic> {
        const FLAG: &str = "--pcap";
        let at = self.blanked.find(FLAG)?;
        let is_quoted = self.blanked.get(..at)?.matches('"').count() % 2 == 1;
        if is_quoted || (word != "trace" && !self.blanked.contains("->")) {
            return None;
        }
        let message = "`--pcap` stands at the end of a question, with the file to write behind it";
        let span = self.span(&(at..at + FLAG.len()));
        Some(
            Diagnostic::error(codes::COMMAND_ARGUMENT, message, span)
                .help("for example `trace a -> b:80 --pcap drop.pcapng`"),
        )
    }

    fn trace(&self, info: &'static CommandInfo) -> Result<Command, Vec<Diagnostic>> {
        let rest = self.rest();
        if self.blanked.get(rest.clone()).is_none_or(|r| r.trim().is_empty()) {
            return Err(vec![self.needs(info, "a question")]);
        }
        if self.is_at_hook() {
            return parse::raw_in(&self.blanked, rest, self.file)
                .map(|packet| Command::TraceAt(Box::new(packet)));
        }
        if self.is_live() {
            return self.live(info);
        }
        asked(&self.blanked, rest, self.file)
    }

    /// Whether the question is about real packets.
    fn is_live(&self) -> bool {
        let rest = self.blanked.get(self.rest()).unwrap_or("");
        rest.split_whitespace().next().is_some_and(|word| word.starts_with("--"))
    }

    /// Flags, then a question.
    fn live(&self, info: &'static CommandInfo) -> Result<Command, Vec<Diagnostic>> {
        let mut given = Given { line: self, info, arguments: self.arguments(), taken: 0 };
        let flags = given.flags(LIVE_FLAGS).map_err(|problem| vec![problem])?;
        if !flags.iter().any(|flag| flag.name.node == "live") {
            let first = given.arguments.first().map_or(self.span(&self.first()), |word| word.span);
            let message = "flags of a question about real packets come with `--live`".to_owned();
            return Err(vec![usage(message, info, first)]);
        }
        let Some(first) = given.next() else {
            // Whatever is dropped.
            let is_any = flags.iter().any(|flag| flag.name.node == "drops");
            return if is_any {
                Ok(Command::TraceLive(flags, None))
            } else {
                Err(vec![self.needs(info, "a question")])
            };
        };
        let range = first.span.start as usize..self.rest().end;
        let question = question_in(&self.blanked, range, self.file)?;
        Ok(Command::TraceLive(flags, Some(Box::new(question))))
    }

    /// Whether a packet enters at a hook; a party may have the name `at` too.
    fn is_at_hook(&self) -> bool {
        let rest = self.blanked.get(self.rest()).unwrap_or("");
        match rest.split_whitespace().next() {
            Some("--at") => true,
            Some("at") => !rest.contains("->"),
            _ => false,
        }
    }

    /// A question has two ends, so one word is never one; it is a file where it looks like one.
    fn debug(&self, info: &'static CommandInfo) -> Result<Command, Vec<Diagnostic>> {
        let arguments = self.arguments();
        match arguments.as_slice() {
            [] => Err(vec![self.needs(info, "a question or the file of a recorded one")]),
            [only] if self.is_recording(only) => Ok(Command::DebugFile(only.clone())),
            _ if self.is_at_hook() => parse::raw_in(&self.blanked, self.rest(), self.file)
                .map(|packet| Command::DebugAt(Box::new(packet))),
            words => {
                let help = "the file of a recorded flow ends in `.hoptrace`, or stands in quotes";
                let advised = |problem: Diagnostic| match words {
                    [only] if !only.node.contains("->") => problem.help(help),
                    _ => problem,
                };
                question_in(&self.blanked, self.rest(), self.file)
                    .map(|question| Command::Debug(Box::new(question)))
                    .map_err(|problems| problems.into_iter().map(advised).collect())
            }
        }
    }

    /// Whether an argument names a file that `record` wrote: by its ending, or because it is quoted.
    fn is_recording(&self, argument: &Argument) -> bool {
        let range = argument.span.start as usize..argument.span.end as usize;
        let is_quoted = self.blanked.get(range).is_some_and(|text| text.starts_with('"'));
        is_quoted || RECORDINGS.iter().any(|ending| argument.node.ends_with(ending))
    }

    fn record(&self, info: &'static CommandInfo) -> Result<Command, Vec<Diagnostic>> {
        let arguments = self.arguments();
        let mut arguments = arguments.into_iter();
        let Some(file) = arguments.next() else {
            return Err(vec![self.needs(info, "a file and a question")]);
        };
        if arguments.next().is_none() {
            return Err(vec![self.needs(info, "a question behind the file")]);
        }
        let range = file.span.end as usize..self.rest().end;
        let question = question_in(&self.blanked, range, self.file)?;
        Ok(Command::Record(file, Box::new(question)))
    }

    fn plain(&self, info: &'static CommandInfo) -> Result<Command, Diagnostic> {
        let mut given = Given { line: self, info, arguments: self.arguments(), taken: 0 };
        let command = match info.name {
            "show" => given.show()?,
            "replay" => given.replay()?,
            "lab" => given.lab()?,
            "monitor" => Command::Monitor(given.flags(MONITOR_FLAGS)?),
            "attach" => given.attach()?,
            "status" => Command::Status(given.next()),
            "detach" => given.detach()?,
            "test" => Command::Test(given.all()),
            "check" => Command::Check,
            "fmt" => Command::Fmt,
            "load" => Command::Load(given.required("a file")?),
            "reload" => Command::Reload,
            "save" => Command::Save(given.next()),
            "undo" => Command::Undo,
            "diff" => Command::Diff,
            "set" => given.set()?,
            "wait" => given.wait()?,
            "time" => given.time()?,
            "why" => Command::Why,
            "explain" => Command::Explain(given.required("a code, such as HW0001 or 133")?),
            "doctor" => Command::Doctor,
            "help" => Command::Help(given.next()),
            "remove" => given.remove()?,
            _ => Command::Quit,
        };
        given.end()?;
        Ok(command)
    }

    fn needs(&self, info: &CommandInfo, what: &str) -> Diagnostic {
        let message = format!("`{}` needs {what}", info.name);
        usage(message, info, self.span(&self.first()))
    }

    /// A line that is neither a command nor a statement, and has no arrow.
    fn unknown(&self, word: &str) -> Diagnostic {
        let first = self.first();
        let span = self.span(&first);
        let found = self.blanked.get(first.clone()).unwrap_or(word);
        let message = format!("`{found}` is neither a command nor a statement");
        let diagnostic = Diagnostic::error(codes::UNKNOWN_COMMAND, message, span);
        let words = TABLE.iter().map(|c| c.name).chain(parse::STATEMENTS.iter().copied());
        if matches!(found, "send" | "reply") {
            return diagnostic
                .note(format!("`{found}` is a step of a `dialogue`, which a `test` block holds"))
                .help("with `set conntrack keep` a question goes on with the flow of an earlier one: `a -> b:80 ack`; its answer is `b -> a:PORT syn-ack from-port 80`");
        }
        if let Some(near) = nearest(found, words) {
            return diagnostic.fix(format!("did you mean `{near}`?"), span, near);
        }
        // Any two words could be a question; these look like one.
        let looks = self.blanked.contains([':', '/']);
        if looks && parse::question(self.blanked.trim_end(), self.file).is_ok() {
            let at = self.span(&(first.end..first.end));
            return diagnostic.fix("a question has an arrow", at, " ->");
        }
        diagnostic.help("`help` lists the commands; a question has an arrow: `client -> echo:80`")
    }
}

fn usage(message: String, info: &CommandInfo, span: Span) -> Diagnostic {
    let usage = match info {
        CommandInfo { usage, example, .. } if usage == example => format!("usage: {usage}"),
        CommandInfo { usage, example, .. } => format!("usage: {usage}, for example `{example}`"),
    };
    Diagnostic::error(codes::COMMAND_ARGUMENT, message, span).help(usage)
}

/// The arguments of a command, taken one by one.
struct Given<'l> {
    line: &'l Line,
    info: &'static CommandInfo,
    arguments: Vec<Argument>,
    taken: usize,
}

impl Given<'_> {
    fn next(&mut self) -> Option<Argument> {
        let next = self.arguments.get(self.taken).cloned();
        self.taken += usize::from(next.is_some());
        next
    }

    fn required(&mut self, what: &str) -> Result<Argument, Diagnostic> {
        self.next().ok_or_else(|| self.line.needs(self.info, what))
    }

    /// All words that are left as one, so that a name with spaces needs no quotes.
    fn all(&mut self) -> Option<Argument> {
        let rest = self.arguments.get(self.taken..).unwrap_or(&[]);
        let (first, last) = (rest.first()?, rest.last()?);
        let span = first.span.to(last.span);
        let words: Vec<&str> = rest.iter().map(|a| a.node.as_str()).collect();
        self.taken = self.arguments.len();
        Some(Name { node: words.join(" "), span })
    }

    /// Nothing may be left.
    fn end(&self) -> Result<(), Diagnostic> {
        let Some(extra) = self.arguments.get(self.taken) else { return Ok(()) };
        let last = self.arguments.last().unwrap_or(extra);
        let message = match self.taken {
            0 => format!("`{}` takes nothing", self.info.name),
            _ => format!("`{}` does not take `{}` as well", self.info.name, extra.node),
        };
        let span = extra.span.to(last.span);
        Err(usage(message, self.info, span))
    }

    /// The argument is none of the words that the command knows.
    fn wrong(&self, argument: &Argument, what: &str, words: &[&str]) -> Diagnostic {
        let message = format!("`{}` is not {what}", argument.node);
        let diagnostic = Diagnostic::error(codes::COMMAND_ARGUMENT, message, argument.span);
        match nearest(&argument.node, words.iter().copied()) {
            Some(near) => diagnostic.fix(format!("did you mean `{near}`?"), argument.span, near),
            None => diagnostic.help(format!("`{}` knows: {}", self.info.name, words.join(", "))),
        }
    }

    fn show(&mut self) -> Result<Command, Diagnostic> {
        let words: Vec<&str> = NOUNS.iter().map(|(_, word, ..)| *word).collect();
        let noun = self.required(&format!("one of {}", words.join(", ")))?;
        let Some((known, _, takes, _)) = NOUNS.iter().find(|(_, word, ..)| *word == noun.node)
        else {
            return Err(self.wrong(&noun, "something to show", &words));
        };
        let hits = self.hits(*known)?;
        let argument = self.next();
        if let (Some(extra), true) = (&argument, takes.is_empty()) {
            let message = format!("`show {}` lists all and takes no name", noun.node);
            return Err(usage(message, self.info, extra.span));
        }
        let known: Noun = *known;
        Ok(Command::Show { noun: known, argument, hits })
    }

    /// Takes `--hits` from wherever it stands; only a policy's entries are counted.
    fn hits(&mut self, noun: Noun) -> Result<bool, Diagnostic> {
        let rest = self.arguments.get(self.taken..).unwrap_or_default();
        let Some(at) = rest.iter().position(|argument| argument.node == "--hits") else {
            return Ok(false);
        };
        let word = self.arguments.remove(self.taken + at);
        if noun == Noun::Policy {
            return Ok(true);
        }
        let message = format!("`show {}` counts no hits", noun.word());
        Err(usage(message, self.info, word.span).help("`show policy --hits` does"))
    }

    /// Flags as far as there are any.
    fn flags(&mut self, known: &[(&str, &str)]) -> Result<Vec<Flag>, Diagnostic> {
        let mut flags = Vec::new();
        while let Some(word) = self.arguments.get(self.taken).cloned() {
            let Some(name) = word.node.strip_prefix("--") else { break };
            let Some((_, takes)) = known.iter().find(|(flag, _)| *flag == name) else {
                let words: Vec<String> =
                    known.iter().map(|(flag, _)| format!("--{flag}")).collect();
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                return Err(self.wrong(&word, "a flag of it", &words));
            };
            self.taken += 1;
            let value = if takes.is_empty() {
                None
            } else {
                let missing = || {
                    let message = format!("`--{name}` needs {takes}");
                    usage(message, self.info, word.span)
                };
                Some(self.arguments.get(self.taken).cloned().ok_or_else(missing)?)
            };
            self.taken += usize::from(value.is_some());
            flags.push(Flag { name: Name { node: name.to_owned(), span: word.span }, value });
        }
        Ok(flags)
    }

    fn replay(&mut self) -> Result<Command, Diagnostic> {
        let file = self.required("a capture")?;
        let (mut policy, mut strict) = (None, false);
        while let Some(word) = self.next() {
            match word.node.as_str() {
                "--strict" => strict = true,
                "--policy" if policy.is_none() => {
                    policy = Some(self.required("a file of policies")?);
                }
                _ => {
                    return Err(self.wrong(&word, "a flag of `replay`", &["--policy", "--strict"]));
                }
            }
        }
        Ok(Command::Replay(Replay { file, policy, strict }))
    }

    fn set(&mut self) -> Result<Command, Diagnostic> {
        let Some(key) = self.next() else { return Ok(Command::Set(None)) };
        let value = self.required(&format!("a value for `{}`", key.node))?;
        Ok(Command::Set(Some((key, value))))
    }

    fn time(&mut self) -> Result<Command, Diagnostic> {
        let word = self.required("`on` or `off`")?;
        match word.node.as_str() {
            "on" => Ok(Command::Time(true)),
            "off" => Ok(Command::Time(false)),
            _ => Err(self.wrong(&word, "`on` or `off`", &["on", "off"])),
        }
    }

    /// A time as in a dialogue: `61s`, `2m`, `1h`.
    fn wait(&mut self) -> Result<Command, Diagnostic> {
        let time = self.required("a time such as `61s`")?;
        self.seconds(&time).map(Command::Wait)
    }

    fn seconds(&self, time: &Argument) -> Result<u64, Diagnostic> {
        let unit = time.node.chars().next_back().filter(|unit| matches!(unit, 's' | 'm' | 'h'));
        let amount = unit.and_then(|unit| time.node.strip_suffix(unit)?.parse().ok());
        match (amount, unit) {
            (Some(amount), Some(unit)) => Ok(parse::seconds(amount, unit)),
            _ => {
                let message = format!("`{}` is not a time such as `61s`, `2m` or `1h`", time.node);
                Err(usage(message, self.info, time.span))
            }
        }
    }

    fn attach(&mut self) -> Result<Command, Diagnostic> {
        let mut attach = Attach::default();
        while let Some(word) = self.next() {
            match word.node.as_str() {
                "--enforce" => attach.enforce = true,
                "--confirm" => attach.confirm = true,
                "--for" => {
                    let time = self.required("a time such as `10m` behind `--for`")?;
                    attach.seconds = Some(self.seconds(&time)?);
                }
                name if !name.starts_with('-') && attach.name.is_none() => {
                    attach.name = Some(word);
                }
                _ => return Err(self.wrong(&word, "a flag of it", ATTACH_FLAGS)),
            }
        }
        Ok(Command::Attach(attach))
    }

    fn detach(&mut self) -> Result<Command, Diagnostic> {
        let word = self.next();
        match word {
            Some(word) if word.node == "--all" => Ok(Command::Detach { name: None, all: true }),
            Some(word) if word.node.starts_with('-') => {
                Err(self.wrong(&word, "a flag of it", &["--all"]))
            }
            name => Ok(Command::Detach { name, all: false }),
        }
    }

    fn remove(&mut self) -> Result<Command, Diagnostic> {
        let mut kind = self.required("the kind and the name of a statement")?;
        if kind.node == "clusterwide" {
            kind = self.required("`policy` behind `clusterwide`")?;
        }
        if !KINDS.contains(&kind.node.as_str()) {
            return Err(self.wrong(&kind, "a kind of statement", KINDS));
        }
        match self.all() {
            Some(name) => Ok(Command::Remove { kind, name }),
            None => Err(self.line.needs(self.info, &format!("the name of the {}", kind.node))),
        }
    }
}

#[cfg(test)]
mod tests;
