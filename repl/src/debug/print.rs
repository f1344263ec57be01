//! `print`: the packet, the machine and the maps as they are now, as lines.

use datapath::vm::machine::Machine;
use datapath::vm::value::{Region, Value};
use lang::debug::{Field, PacketPart, Thing};

use super::field::{self, Reading};
use super::maps::{Place, hex};
use super::scene::Ends;
use super::{Debugging, LookUp, Problem, Stumble, stops};

/// Bytes of a stack slot, and of a stack.
const SLOT: i64 = 8;
const STACK: i64 = 512;
/// Bytes in a line of a hex dump.
const ROW: usize = 16;

impl Debugging {
    /// What a thing is now.
    pub(super) fn print(&self, thing: &Thing) -> Result<Vec<String>, Stumble> {
        let machine = self.machine()?;
        match thing {
            Thing::Registers => Ok(registers(machine)),
            Thing::Register(number) => Ok(vec![register(machine, *number)]),
            Thing::Stack(frame) => Ok(stack(machine, *frame)?),
            Thing::Packet => Ok(packet(&self.reading()?)),
            Thing::Hex => Ok(dump(machine.skb().bytes(), 0)),
            Thing::Part(part) => Ok(vec![self.part(part)?]),
            Thing::Key => self.key(),
            Thing::Value => self.value(),
            Thing::Event => match self.events.last() {
                Some(event) => Ok(vec![format!("{:<9} {}", event.keyword, event.text)]),
                None => Ok(Vec::new()),
            },
            Thing::Context => self.context(),
            Thing::Map { name, key } => self.map(name, key.as_deref()),
        }
    }

    fn part(&self, part: &PacketPart) -> Result<String, Stumble> {
        let reading = self.reading()?;
        let name = field::part_word(part);
        match part {
            PacketPart::Field(which) => match reading.read(*which) {
                Some(value) => Ok(format!("{name} = {}", field::shown(*which, value))),
                None => Err(Problem::new(
                    format!("the packet has no `{name}`"),
                    "`print packet` shows what it has",
                )
                .into()),
            },
            PacketPart::Bytes { .. } => {
                let length = machine_length(&reading);
                let bytes = reading.part(part).and_then(|range| reading.bytes(range));
                let bytes = bytes.ok_or_else(|| {
                    let message = format!("`{name}` is not within the frame");
                    Problem::new(message, format!("it has {length} bytes, the first is 0"))
                })?;
                Ok(format!("{name} = {}", hex(bytes)))
            }
        }
    }

    fn last_look_up(&self) -> Result<&LookUp, Stumble> {
        self.looked_up.as_ref().ok_or_else(|| {
            let remedy = "`break lookup` and `continue` go to the next look-up";
            Problem::new("nothing was looked up in this hop yet", remedy).into()
        })
    }

    fn map_name(&self, map: u16) -> &str {
        let maps = self.debugger.machine().map(|machine| &machine.image().maps);
        maps.and_then(|maps| maps.get(usize::from(map))).map_or("?", |map| map.name.as_str())
    }

    /// The node whose maps are printed, and the packet.
    fn place(&self) -> Result<Place<'_>, Stumble> {
        let injection = self.injection()?;
        let ends = Some(Ends::of(injection, self.machine()?.skb().bytes()));
        Ok(Place { scene: &self.scene, node: injection.node, ends })
    }

    fn key(&self) -> Result<Vec<String>, Stumble> {
        let LookUp { map, key, .. } = self.last_look_up()?;
        let place = self.place()?;
        let name = self.map_name(*map);
        Ok(vec![format!("{name} {}", place.key(name, key)), format!("  {}", hex(key))])
    }

    fn value(&self) -> Result<Vec<String>, Stumble> {
        let LookUp { map, key, found } = self.last_look_up()?;
        let injection = self.injection()?;
        let place = self.place()?;
        let name = self.map_name(*map);
        let Some(found) = found else {
            return Ok(vec![format!("{name} {} -> nothing", place.key(name, key))]);
        };
        let words = place.value(name, key, found, injection.now);
        Ok(vec![words, format!("  {}", hex(found))])
    }

    fn context(&self) -> Result<Vec<String>, Stumble> {
        let injection = self.injection()?;
        let skb = self.machine()?.skb();
        let mut lines = vec![
            format!("node      {}", self.scene.node(injection.node)),
            format!("hook      {}", injection.hook),
            format!(
                "device    {} (index {})",
                self.scene.device(injection.node, injection.ifindex),
                injection.ifindex
            ),
            format!("clock     second {}", injection.now),
            format!("mark      {:#x}", skb.mark),
            format!("length    {} bytes", skb.bytes().len()),
        ];
        if let Some(key) = injection.tunnel {
            lines.push(format!("came by   the tunnel from {}, vni {}", key.source, key.vni));
        }
        if let Some(tunnel) = skb.tunnel.filter(|_| injection.tunnel.is_none()) {
            lines.push(format!("tunnel    vni {} to {}", tunnel.id, tunnel.remote));
        }
        if let Some(redirect) = &skb.redirect {
            let device = self.scene.device(injection.node, redirect.ifindex);
            lines.push(format!("redirect  to {device}"));
        }
        Ok(lines)
    }

    /// The generation that is active in the present node.
    pub(super) fn active(&self) -> u32 {
        let map = self.debugger.machine().and_then(|machine| machine.map("ACTIVE"));
        let value = map.and_then(|map| map.value(0)).and_then(|value| value.first_chunk());
        value.map_or(0, |value| u32::from_le_bytes(*value))
    }

    fn map(&self, name: &str, key: Option<&str>) -> Result<Vec<String>, Stumble> {
        let entries = self.entries(name, key)?;
        if entries.is_empty() {
            let name = name.to_uppercase();
            return Ok(vec![match key {
                Some(key) => format!("{name} has no entry with `{key}` in it"),
                None => format!("{name} is empty"),
            }]);
        }
        Ok(entries.into_iter().map(|(_, line)| line).collect())
    }

    /// Entries of a map of the present node, with their keys: all, or those that the text is a part of. A key in hex
    /// is that key.
    pub(super) fn entries(
        &self,
        name: &str,
        key: Option<&str>,
    ) -> Result<Vec<(Vec<u8>, String)>, Stumble> {
        let (machine, injection) = (self.machine()?, self.injection()?);
        let map = stops::map(machine, name)?;
        let place = self.place()?;
        let Some(map) = machine.maps().get(usize::from(map)) else { return Ok(Vec::new()) };
        let entries = place.entries(map, self.active(), injection.now);
        let Some(wanted) = key else { return Ok(entries) };
        let fits = |(key, line): &(Vec<u8>, String)| match wanted.strip_prefix("0x") {
            Some(_) => hex(key).eq_ignore_ascii_case(wanted),
            None => line.split(" -> ").next().is_some_and(|key| key.contains(wanted)),
        };
        Ok(entries.into_iter().filter(fits).collect())
    }
}

fn machine_length(reading: &Reading<'_>) -> usize {
    reading.machine.skb().bytes().len()
}

/// A register's or stack slot's content: a number in both bases, or what a pointer points into.
pub(super) fn content(machine: &Machine, value: Value) -> String {
    let map =
        |map: u16| machine.image().maps.get(usize::from(map)).map_or("?", |m| m.name.as_str());
    let offset = value.offset();
    let at = match offset {
        0 => String::new(),
        offset if offset < 0 => format!(" - {}", offset.unsigned_abs()),
        offset => format!(" + {offset}"),
    };
    match value.region {
        Region::Unset => "not set".to_owned(),
        Region::Number if value.bits < 10 => value.bits.to_string(),
        Region::Number => format!("{} ({:#x})", value.bits, value.bits),
        Region::Stack { frame } => format!("stack of frame {frame}{at}"),
        Region::Context => format!("context{at}"),
        Region::Packet { .. } => format!("packet{at}"),
        Region::PacketEnd { .. } => "end of the packet".to_owned(),
        Region::MapValue { map: number, slot } => {
            format!("value {slot} of map {}{at}", map(number))
        }
        Region::Map(number) => format!("map {}", map(number)),
        Region::Record { id, .. } => format!("record {id}{at}"),
    }
}

fn register(machine: &Machine, number: u8) -> String {
    let value = machine.registers().get(usize::from(number)).copied();
    let value = value.unwrap_or(Value::UNSET);
    format!("{:<4} {}", format!("r{number}"), content(machine, value))
}

fn registers(machine: &Machine) -> Vec<String> {
    (0..11).map(|number| register(machine, number)).collect()
}

/// Slots of a function's stack that hold anything; `outward` counts from the running function's.
fn stack(machine: &Machine, frame: Option<u32>) -> Result<Vec<String>, Problem> {
    let depth = machine.depth();
    let outward = frame.unwrap_or_default();
    let frame = depth.checked_sub(outward as usize).ok_or_else(|| {
        let message = format!("there is no frame {outward}");
        Problem::new(message, format!("the outermost is {depth}; `backtrace` lists them"))
    })?;
    let frame = u8::try_from(frame).unwrap_or(u8::MAX);
    let slots = (1..=STACK / SLOT).map(|number| -number * SLOT);
    let mut lines = Vec::new();
    for offset in slots {
        match machine.stack_slot(frame, offset) {
            Ok(value) if value != Value::UNSET && value != Value::number(0) => {
                lines.push(format!("{:<8} {}", format!("r10{offset}"), content(machine, value)));
            }
            _ => {}
        }
    }
    lines.push(if lines.is_empty() { "all of it is 0" } else { "the rest is 0" }.to_owned());
    Ok(lines)
}

fn packet(reading: &Reading<'_>) -> Vec<String> {
    let line = |field: &Field| {
        let value = reading.read(*field)?;
        Some(format!("{:<10} {}", field.word(), field::shown(*field, value)))
    };
    field::FIELDS.iter().filter_map(line).collect()
}

/// Bytes as rows of sixteen, with their place and as text.
fn dump(bytes: &[u8], first: usize) -> Vec<String> {
    let row = |(number, row): (usize, &[u8])| {
        let hex: Vec<String> = row.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = |byte: &u8| if byte.is_ascii_graphic() { char::from(*byte) } else { '.' };
        let text: String = row.iter().map(text).collect();
        format!("{:04x}  {:<47}  {text}", first + number * ROW, hex.join(" "))
    };
    bytes.chunks(ROW).enumerate().map(row).collect()
}
