//! Fields of the packet that is being run, read from its bytes as they are now, and the bytes that a change of one
//! comes to. Checksums are left as they are: the datapath reads none.

use std::net::IpAddr;
use std::ops::Range;

use datapath::frame::layout::{self, Layout};
use datapath::vm::machine::Machine;
use engine::net::{Mac, Protocol, TcpFlags};
use lang::debug::{Field, PacketPart, Value};

/// Where the packet is read: its machine, and what is counted beside it.
#[derive(Clone, Copy)]
pub(super) struct Reading<'a> {
    /// The machine.
    pub(super) machine: &'a Machine,
    /// Hops up to now, from 1.
    pub(super) hop: usize,
    /// Instructions of the question that have run.
    pub(super) instructions: u64,
    /// VNI of the tunnel that the packet came by.
    pub(super) vni: Option<u32>,
}

/// Fields of the packet in the order in which they are printed.
pub(super) const FIELDS: [Field; 14] = [
    Field::SourceMac,
    Field::DestinationMac,
    Field::Source,
    Field::Destination,
    Field::Protocol,
    Field::Ttl,
    Field::SourcePort,
    Field::DestinationPort,
    Field::TcpFlags,
    Field::IcmpType,
    Field::IcmpCode,
    Field::Length,
    Field::Mark,
    Field::Vni,
];

/// A part of the packet as it is named.
pub(super) fn part_word(part: &PacketPart) -> String {
    match part {
        PacketPart::Field(field) => field.word().to_owned(),
        PacketPart::Bytes { from, to } if *to == from + 1 => format!("packet[{from}]"),
        PacketPart::Bytes { from, to } => format!("packet[{from}..{to}]"),
    }
}

/// A field's value as it is written; a protocol and flags with their names.
pub(super) fn shown(field: Field, value: Value) -> String {
    let byte = match value {
        Value::Number(number) => u8::try_from(number).ok(),
        _ => None,
    };
    match (field, byte) {
        (Field::Protocol, Some(byte)) => match Protocol::from_number(byte) {
            Protocol::Other(number) => number.to_string(),
            known => format!("{byte} ({known})"),
        },
        (Field::TcpFlags, Some(byte)) => format!("{byte} ({})", TcpFlags(byte)),
        _ => plain(value),
    }
}

fn plain(value: Value) -> String {
    match value {
        Value::Number(number) if number < 10 => number.to_string(),
        Value::Number(number) => format!("{number} ({number:#x})"),
        Value::Address(address) => address.to_string(),
        Value::Mac(mac) => mac.to_string(),
    }
}

/// The header field that a field is, if it is one.
fn header_field(field: Field) -> Option<layout::Field> {
    Some(match field {
        Field::Source => layout::Field::Source,
        Field::Destination => layout::Field::Destination,
        Field::SourcePort => layout::Field::SourcePort,
        Field::DestinationPort => layout::Field::DestinationPort,
        Field::Protocol => layout::Field::Protocol,
        Field::Ttl => layout::Field::Ttl,
        Field::TcpFlags => layout::Field::TcpFlags,
        Field::IcmpType => layout::Field::IcmpType,
        Field::IcmpCode => layout::Field::IcmpCode,
        Field::SourceMac => layout::Field::SourceMac,
        Field::DestinationMac => layout::Field::DestinationMac,
        Field::Length | Field::Mark | Field::Vni | Field::Hop | Field::Instruction => return None,
    })
}

impl Reading<'_> {
    fn frame(&self) -> &[u8] {
        self.machine.skb().bytes()
    }

    fn layout(&self) -> Option<Layout> {
        layout::layout(self.frame())
    }

    /// Where a field's bytes lie, if the packet has it.
    pub(super) fn place(&self, field: Field) -> Option<Range<usize>> {
        match header_field(field)? {
            // Ethernet needs no network header.
            layout::Field::DestinationMac => Some(0..6),
            layout::Field::SourceMac => Some(6..12),
            other => self.layout()?.field(other),
        }
    }

    /// Where a part's bytes lie.
    pub(super) fn part(&self, part: &PacketPart) -> Option<Range<usize>> {
        match part {
            PacketPart::Field(field) => self.place(*field),
            PacketPart::Bytes { from, to } => {
                let range = usize::try_from(*from).ok()?..usize::try_from(*to).ok()?;
                (range.end <= self.frame().len()).then_some(range)
            }
        }
    }

    /// Bytes of the frame.
    pub(super) fn bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        self.frame().get(range)
    }

    /// A field's value, if the packet has it.
    pub(super) fn read(&self, field: Field) -> Option<Value> {
        let number = |number: usize| Some(Value::Number(number as u64));
        match field {
            Field::Length => number(self.frame().len()),
            Field::Hop => number(self.hop),
            Field::Mark => Some(Value::Number(self.machine.skb().mark.into())),
            Field::Vni => self.vni.map(|vni| Value::Number(vni.into())),
            Field::Instruction => Some(Value::Number(self.instructions)),
            Field::Source | Field::Destination => {
                let bytes = self.frame().get(self.place(field)?)?;
                address(bytes).map(Value::Address)
            }
            Field::SourceMac | Field::DestinationMac => {
                let bytes = self.frame().get(self.place(field)?)?;
                Some(Value::Mac(Mac(*bytes.first_chunk()?)))
            }
            // Extension headers of IPv6 hide the protocol from the header's own field.
            Field::Protocol => Some(Value::Number(self.layout()?.protocol.number().into())),
            _ => Some(Value::Number(big_endian(self.frame().get(self.place(field)?)?))),
        }
    }

    /// `dst-port = 80`: what bytes at an offset are as a field, if they are one.
    pub(super) fn field_of(&self, from: usize, bytes: &[u8]) -> Option<String> {
        let range = from..from + bytes.len();
        let is = |field: &Field| self.place(*field).is_some_and(|place| place == range);
        let field = FIELDS.into_iter().find(is)?;
        let value = match field {
            Field::Source | Field::Destination => Value::Address(address(bytes)?),
            Field::SourceMac | Field::DestinationMac => Value::Mac(Mac(*bytes.first_chunk()?)),
            _ => Value::Number(big_endian(bytes)),
        };
        Some(format!("{} = {}", field.word(), shown(field, value)))
    }

    /// The bytes that a field would have with a value; an error says what fits.
    pub(super) fn encode(&self, field: Field, value: Value) -> Result<Vec<u8>, String> {
        let name = field.word();
        let Some(place) = self.place(field) else {
            return Err(match field {
                Field::Length | Field::Hop | Field::Instruction | Field::Vni => {
                    format!("`{name}` cannot be changed")
                }
                _ => format!("the packet has no `{name}`"),
            });
        };
        let length = place.len();
        match (field, value) {
            (Field::Source | Field::Destination, Value::Address(address)) => {
                let bytes = match address {
                    IpAddr::V4(address) => address.octets().to_vec(),
                    IpAddr::V6(address) => address.octets().to_vec(),
                };
                if bytes.len() == length {
                    Ok(bytes)
                } else {
                    Err(format!("`{name}` is an address of the other family"))
                }
            }
            (Field::SourceMac | Field::DestinationMac, Value::Mac(mac)) => Ok(mac.0.to_vec()),
            (Field::Source | Field::Destination, _) => Err(format!("`{name}` takes an address")),
            (Field::SourceMac | Field::DestinationMac, _) => {
                Err(format!("`{name}` takes a MAC address, as 02:00:00:00:00:01"))
            }
            (_, Value::Number(number)) if length < 8 && number >> (8 * length) == 0 => {
                Ok(number.to_be_bytes()[8 - length..].to_vec())
            }
            (_, Value::Number(_)) => Err(format!("`{name}` has {} bits", 8 * length)),
            _ => Err(format!("`{name}` takes a number")),
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::from(*bytes.first_chunk::<4>()?)),
        16 => Some(IpAddr::from(*bytes.first_chunk::<16>()?)),
        _ => None,
    }
}

/// At most eight bytes as a number in network byte order.
pub(super) fn big_endian(bytes: &[u8]) -> u64 {
    bytes.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}
