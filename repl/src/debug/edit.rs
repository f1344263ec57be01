//! `edit`: changes at a stop. Packet, registers and maps are changed where the run stands, and it goes on with them.
//! A change of the text is one of what is enforced from the start: no run sees a mix of two policies, so the question
//! is run again under the new one, to the same instruction.

use std::rc::Rc;

use datapath::vm::debug::{At, Change, Debugger};
use lang::debug::{Edit, Field, Value};

use super::info::snippet;
use super::maps::{Place, hex};
use super::{Debugging, Problem, Stumble, stops};
use crate::reply::Reply;

impl Debugging {
    /// `edit ...`
    pub(super) fn edit(&mut self, edit: Edit, text: &str) -> Result<Reply, Stumble> {
        match edit {
            Edit::Field(field, value) => self.edit_field(field.node, value.node),
            Edit::Bytes { from, bytes } => {
                let length = self.machine()?.skb().bytes().len();
                let change = Change::Packet(from as usize, bytes.node);
                self.change_or(change, || {
                    let message = format!("the bytes from {from} on are not within the frame");
                    Problem::new(message, format!("it has {length} bytes, the first is 0"))
                })
            }
            Edit::Register(number, value) => {
                self.change_or(Change::Register(number, value), || {
                    Problem::new(
                        format!("r{number} cannot be set"),
                        "r0 to r9 can; r10 is the frame's own",
                    )
                })
            }
            Edit::Entry { map, key, value } => {
                let (name, key) = self.entry_key(&map.node, &key.node)?;
                let size = self.machine()?.map(&name).map_or(0, |map| map.definition().value_size);
                if value.node.len() != size {
                    let message = format!("`{}` is no value of {name}", hex(&value.node));
                    return Err(
                        Problem::new(message, format!("its values have {size} bytes")).into()
                    );
                }
                self.change_entry(&name, key, Some(value.node))
            }
            Edit::RemoveEntry { map, key } => {
                let (name, key) = self.entry_key(&map.node, &key.node)?;
                self.change_entry(&name, key, None)
            }
            Edit::Statement(span) => self.edit_text(&snippet(text, span)),
        }
    }

    fn edit_field(&mut self, field: Field, value: Value) -> Result<Reply, Stumble> {
        if field == Field::Mark {
            let Value::Number(number) = value else {
                return Err(Problem::new("`mark` takes a number", "edit mark = 0x200").into());
            };
            let mark = u32::try_from(number)
                .map_err(|_| Problem::new("`mark` has 32 bits", "edit mark = 0x200"))?;
            return self.change_or(Change::Mark(mark), || Problem::new("there is no packet", ""));
        }
        let reading = self.reading()?;
        let bytes = reading.encode(field, value).map_err(|message| {
            let what = reading.read(field).map_or("packet", |_| field.word());
            Problem::new(message, format!("`print {what}` shows what there is"))
        })?;
        let from = reading.place(field).map_or(0, |place| place.start);
        self.change_or(Change::Packet(from, bytes), || Problem::new("there is no packet", ""))
    }

    fn change_entry(
        &mut self,
        map: &str,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> Result<Reply, Stumble> {
        let change = Change::Entry { map: map.to_owned(), key, value };
        self.change_or(change, || {
            let message = format!("the map {map} refuses that");
            Problem::new(message, "an array's entries cannot be removed, only written")
        })
    }

    fn change_or(
        &mut self,
        change: Change,
        problem: impl FnOnce() -> Problem,
    ) -> Result<Reply, Stumble> {
        if self.debugger.end().is_some() {
            let remedy = "`back` goes to before its end";
            return Err(Problem::new("the program of this hop has ended", remedy).into());
        }
        let words = self.change_in_words(self.debugger.at(), &change);
        self.armed = false;
        if !self.debugger.edit(change)? {
            return Err(problem().into());
        }
        Ok(Reply::text(format!("edited {words}")))
    }

    /// The map's name and an entry's key: in hex, or a part of the only entry that it fits.
    fn entry_key(&self, map: &str, key: &str) -> Result<(String, Vec<u8>), Stumble> {
        let machine = self.machine()?;
        let number = stops::map(machine, map)?;
        let Some(definition) = machine.image().maps.get(usize::from(number)) else {
            return Err(Problem::new(format!("there is no map `{map}`"), "").into());
        };
        let name = definition.name.clone();
        if let Some(digits) = key.strip_prefix("0x") {
            let bytes = bytes_of(digits).filter(|bytes| bytes.len() == definition.key_size);
            let bytes = bytes.ok_or_else(|| {
                let message = format!("`{key}` is no key of {name}");
                Problem::new(message, format!("its keys have {} bytes", definition.key_size))
            })?;
            return Ok((name, bytes));
        }
        let found = self.entries(&name, Some(key))?;
        match &found[..] {
            [(key, _)] => Ok((name, key.clone())),
            [] => {
                let message = format!("{name} has no entry with `{key}` in it");
                Err(Problem::new(message, format!("`print map {name}` lists them")).into())
            }
            _ => {
                let message = format!("{} entries of {name} have `{key}` in them", found.len());
                let keys: Vec<String> = found.iter().map(|(key, _)| hex(key)).collect();
                Err(Problem::new(message, format!("give one by its bytes: {}", keys.join(", ")))
                    .into())
            }
        }
    }

    /// Applies statements to the copy and runs the question again, to the same instruction.
    fn edit_text(&mut self, text: &str) -> Result<Reply, Stumble> {
        let changed = self.scene.changed(text);
        let changed = changed.map_err(|(problems, s)| Stumble::Text(problems, Box::new(s)))?;
        let scene = Rc::new(changed);
        let mut debugger = Debugger::begin(self.start.clone(), scene.plan())?;
        debugger.expect_edits(self.debugger.edits().to_vec())?;
        let at = self.debugger.at();
        self.scene = scene;
        self.debugger = debugger;
        self.statements.push(text.to_owned());
        self.events.clear();
        self.note_beginning();
        self.go(at)?;
        let moved = self.debugger.at() != at;
        let mut reasons = vec!["run again from the start under the changed text".to_owned()];
        if moved {
            reasons.push("it ends before the instruction where it stood".to_owned());
        }
        Ok(self.halted(reasons))
    }

    /// Statements that were changed.
    pub(super) fn statements_in_words(&self) -> Vec<String> {
        let statement = |text: &String| {
            let first = text.lines().next().unwrap_or_default().trim().trim_end_matches('{');
            format!("edited before the start: {}", first.trim_end())
        };
        self.statements.iter().map(statement).collect()
    }

    /// Changes that were made on the way up to here.
    pub(super) fn edits_in_words(&self) -> Vec<String> {
        let now = self.debugger.at();
        let edits = self.debugger.edits().iter().filter(|(at, _)| *at <= now);
        let edits =
            edits.map(|(at, change)| format!("edited {}", self.change_in_words(*at, change)));
        edits.collect()
    }

    fn change_in_words(&self, at: At, change: &Change) -> String {
        let what = match change {
            Change::Register(number, value) => format!("r{number} = {value:#x}"),
            Change::Packet(from, bytes) => {
                let reading = self.reading().ok();
                let field = reading.and_then(|reading| reading.field_of(*from, bytes));
                let bytes_then =
                    || format!("packet[{from}..{}] = {}", from + bytes.len(), hex(bytes));
                field.unwrap_or_else(bytes_then)
            }
            Change::Mark(mark) => format!("mark = {mark:#x}"),
            Change::Entry { map, key, value } => {
                let node = self.debugger.injections().nth(at.hop).map(|known| known.node);
                let key = node.map_or_else(
                    || hex(key),
                    |node| Place { scene: &self.scene, node, ends: None }.key(map, key),
                );
                let value = value.as_ref().map(|value| format!(" = {}", hex(value)));
                format!("{map} {key}{}", value.as_deref().unwrap_or(" removed"))
            }
        };
        format!("at hop {}, instruction {} of it: {what}", at.hop + 1, at.executed)
    }
}

/// Bytes of an even number of hex digits.
pub(super) fn bytes_of(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    (0..digits.len()).step_by(2).map(pair).collect()
}
