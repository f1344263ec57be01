//! One packet out of a capture. Whatever the file holds, it is read or refused with a remedy.

use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use pcap_file::DataLink;
use pcap_file::pcap::{PcapReadError, PcapReader};
use pcap_file::pcapng::blocks::block_common::Block;
use pcap_file::pcapng::{
    BlockContentParseError as Content, ContentValidationError as Validation, PcapNgReader,
    PcapNgState,
};

/// The type of a section header, with which pcapng begins in either byte order.
pub(super) const PCAPNG: [u8; 4] = [0x0A, 0x0D, 0x0D, 0x0A];
/// How pcap begins: with microseconds or nanoseconds, in either byte order.
pub(super) const PCAP: [[u8; 4]; 4] = [
    [0xA1, 0xB2, 0xC3, 0xD4],
    [0xD4, 0xC3, 0xB2, 0xA1],
    [0xA1, 0xB2, 0x3C, 0x4D],
    [0x4D, 0x3C, 0xB2, 0xA1],
];

/// The largest block that is read; a packet that fits the datapath is far smaller.
pub(super) const LARGEST_BLOCK: usize = 1 << 20;

/// Why there is no such packet, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// What is wrong with the file or the packet, without the file's name.
    pub(crate) message: String,
    /// What to do.
    pub(crate) remedy: String,
}

pub(super) fn unreadable(message: impl Into<String>, remedy: impl Into<String>) -> Unreadable {
    Unreadable { message: message.into(), remedy: remedy.into() }
}

/// The frame of a packet, counted from 1 over all of the file's interfaces, as other programs number them.
pub(crate) fn packet(path: &Path, number: u32) -> Result<Vec<u8>, Unreadable> {
    let file = open(path)?;
    from(file, number)
}

/// The same of whatever holds a capture.
pub(super) fn from(mut file: impl Read + Seek, number: u32) -> Result<Vec<u8>, Unreadable> {
    let mut magic = [0; 4];
    let begun = file.read_exact(&mut magic).and_then(|()| file.rewind());
    let format = begun.is_ok().then_some(magic);
    match format {
        Some(PCAPNG) => of_pcapng(file, number),
        Some(magic) if PCAP.contains(&magic) => of_pcap(file, number),
        _ => Err(no_capture()),
    }
}

/// What is neither format.
pub(super) fn no_capture() -> Unreadable {
    unreadable(
        "it is no capture: it begins neither as pcap nor as pcapng",
        "`tcpdump -w FILE` and `hopwise trace --pcap FILE` write captures",
    )
}

pub(super) fn open(path: &Path) -> Result<File, Unreadable> {
    let cannot = |error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::PermissionDenied => "permission is denied".to_owned(),
            _ => error.to_string(),
        };
        unreadable(why, "name a capture that is there; a path begins where hopwise was started")
    };
    // A pipe or device may never end.
    let kind = std::fs::metadata(path).map_err(cannot)?;
    if !kind.is_file() {
        return Err(unreadable("it is no file", "name a capture: a file in pcap or pcapng format"));
    }
    File::open(path).map_err(cannot)
}

fn of_pcap(file: impl Read, number: u32) -> Result<Vec<u8>, Unreadable> {
    let damaged = |at: u32, error: &PcapReadError| damaged(u64::from(at), &reason(error));
    let mut reader =
        PcapReader::with_capacity(file, LARGEST_BLOCK).map_err(|error| damaged(0, &error))?;
    let link = reader.header().datalink;
    let mut at = 0;
    while let Some(read) = reader.next_raw_packet() {
        let packet = read.map_err(|error| damaged(at, &error))?;
        at += 1;
        if at == number {
            return whole(&packet.data, packet.orig_len, Some(link));
        }
    }
    Err(no_such(number, at))
}

fn of_pcapng(file: impl Read, number: u32) -> Result<Vec<u8>, Unreadable> {
    let mut reader = PcapNgReader::with_capacity(file, LARGEST_BLOCK)
        .map_err(|error| damaged(0, &reason(&error)))?;
    let mut at = 0;
    while let Some(read) = reader.next_block() {
        let (block, state) = read.map_err(|error| damaged(u64::from(at), &reason(&error)))?;
        let link = |interface: usize| link_of(state, interface);
        let (data, length, link) = match &block {
            Block::EnhancedPacket(packet) => {
                (&packet.data, packet.original_len, link(packet.interface_id as usize))
            }
            Block::SimplePacket(packet) => (&packet.data, packet.original_len, link(0)),
            Block::Packet(packet) => {
                (&packet.data, packet.original_len, link(usize::from(packet.interface_id)))
            }
            _ => continue,
        };
        at += 1;
        if at == number {
            return whole(data, length, link);
        }
    }
    Err(no_such(number, at))
}

fn link_of(state: &PcapNgState, interface: usize) -> Option<DataLink> {
    state.interfaces().get(interface).map(|interface| interface.linktype)
}

/// The packet's bytes, if they are all of an Ethernet frame.
fn whole(data: &[u8], length: u32, link: Option<DataLink>) -> Result<Vec<u8>, Unreadable> {
    if link != Some(DataLink::ETHERNET) {
        let link = link.map_or_else(|| "unknown".to_owned(), |link| format!("{link:?}"));
        return Err(unreadable(
            format!("its link type is {link}, not Ethernet"),
            "capture on one Ethernet interface; `any` and tun devices give no Ethernet frames",
        ));
    }
    if usize::try_from(length).is_ok_and(|length| data.len() < length) {
        return Err(unreadable(
            format!("the packet was cut: {} of its {length} bytes are there", data.len()),
            "capture whole packets, as `tcpdump -s 0` does",
        ));
    }
    Ok(data.to_vec())
}

fn no_such(number: u32, there_are: u32) -> Unreadable {
    let message = match there_are {
        0 => "it holds no packets".to_owned(),
        1 => format!("it holds 1 packet, and no number {number}"),
        _ => format!("it holds {there_are} packets, and no number {number}"),
    };
    unreadable(message, "the first packet has the number 1")
}

pub(super) fn damaged(behind: u64, why: &str) -> Unreadable {
    let place = match behind {
        0 => "at its beginning".to_owned(),
        n => format!("behind packet {n}"),
    };
    let why = why.trim_end_matches('.');
    unreadable(
        format!("it is damaged {place}: {why}"),
        "a packet in front of the damage can be taken; the rest needs to be captured again",
    )
}

/// What is wrong, as the innermost of a chain of errors knows it.
pub(super) fn reason(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    let is_end = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
    if innermost.downcast_ref::<io::Error>().is_some_and(is_end) {
        return "it ends in the middle of a packet".to_owned();
    }
    match innermost.downcast_ref() {
        Some(Content::Validation(Validation::InvalidInterfaceId(id))) => {
            format!("a packet is of interface {id}, which the file does not have")
        }
        Some(Content::Validation(Validation::NoInterface)) => {
            "a packet is of an interface, and the file has none".to_owned()
        }
        _ => innermost.to_string(),
    }
}
