//! All packets of a capture in their order, one at a time, so that a file of any size needs the memory of one packet.
//! What a packet means is the caller's.

use std::io::{Read, Seek};
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::{PcapReader, PcapTsResolution};
use pcap_file::pcapng::PcapNgReader;
use pcap_file::pcapng::blocks::block_common::Block;

use super::read::{LARGEST_BLOCK, PCAP, PCAPNG, Unreadable, damaged, no_capture, reason};

/// A packet as it was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Captured {
    /// Its number, from 1 over all of the file's interfaces.
    pub(crate) number: u64,
    /// When, since 1970; `None` where the file does not say.
    pub(crate) time: Option<Duration>,
    /// The interface's number in the file.
    pub(crate) interface: u32,
    /// How the interface frames packets.
    pub(crate) link: Option<DataLink>,
    /// What was kept of it.
    pub(crate) data: Vec<u8>,
    /// Whether more of it was on the wire.
    pub(crate) is_cut: bool,
}

/// A capture that is being read.
pub(crate) struct Stream<R: Read> {
    format: Format<R>,
    number: u64,
    is_over: bool,
}

enum Format<R: Read> {
    Pcap(Box<PcapReader<R>>),
    PcapNg(Box<PcapNgReader<R>>),
}

impl<R: Read + Seek> Stream<R> {
    /// Of whatever holds a capture.
    pub(crate) fn of(mut file: R) -> Result<Self, Unreadable> {
        let mut magic = [0; 4];
        if file.read_exact(&mut magic).and_then(|()| file.rewind()).is_err() {
            return Err(no_capture());
        }
        let format = if magic == PCAPNG {
            let reader = PcapNgReader::with_capacity(file, LARGEST_BLOCK)
                .map_err(|error| damaged(0, &reason(&error)))?;
            Format::PcapNg(Box::new(reader))
        } else if PCAP.contains(&magic) {
            let reader = PcapReader::with_capacity(file, LARGEST_BLOCK)
                .map_err(|error| damaged(0, &reason(&error)))?;
            Format::Pcap(Box::new(reader))
        } else {
            return Err(no_capture());
        };
        Ok(Self { format, number: 0, is_over: false })
    }
}

impl<R: Read> Iterator for Stream<R> {
    type Item = Result<Captured, Unreadable>;

    /// After damage nothing more is read: nothing tells where the next packet begins.
    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let number = self.number;
        let read = match &mut self.format {
            Format::Pcap(reader) => of_pcap(reader, number),
            Format::PcapNg(reader) => of_pcapng(reader, number),
        };
        self.number += 1;
        self.is_over = !matches!(read, Some(Ok(_)));
        read
    }
}

fn of_pcap<R: Read>(
    reader: &mut PcapReader<R>,
    behind: u64,
) -> Option<Result<Captured, Unreadable>> {
    let header = reader.header();
    let nanoseconds = match header.ts_resolution {
        PcapTsResolution::NanoSecond => 1,
        PcapTsResolution::MicroSecond => 1000,
    };
    let packet = match reader.next_raw_packet()? {
        Ok(packet) => packet,
        Err(error) => return Some(Err(damaged(behind, &reason(&error)))),
    };
    let fraction = u64::from(packet.ts_frac) * nanoseconds;
    Some(Ok(Captured {
        number: behind + 1,
        time: Some(Duration::from_secs(packet.ts_sec.into()) + Duration::from_nanos(fraction)),
        interface: 0,
        link: Some(header.datalink),
        is_cut: is_cut(&packet.data, packet.orig_len),
        data: packet.data.into_owned(),
    }))
}

fn of_pcapng<R: Read>(
    reader: &mut PcapNgReader<R>,
    behind: u64,
) -> Option<Result<Captured, Unreadable>> {
    loop {
        let (block, state) = match reader.next_block()? {
            Ok(read) => read,
            Err(error) => return Some(Err(damaged(behind, &reason(&error)))),
        };
        let (data, length, time, interface) = match block {
            Block::EnhancedPacket(packet) => {
                (packet.data, packet.original_len, Some(packet.timestamp), packet.interface_id)
            }
            Block::SimplePacket(packet) => (packet.data, packet.original_len, None, 0),
            Block::Packet(packet) => {
                let interface = u32::from(packet.interface_id);
                (packet.data, packet.original_len, Some(packet.timestamp), interface)
            }
            _ => continue,
        };
        let interfaces = state.interfaces();
        let link = interfaces.get(usize::try_from(interface).unwrap_or(usize::MAX));
        return Some(Ok(Captured {
            number: behind + 1,
            time,
            interface,
            link: link.map(|interface| interface.linktype),
            is_cut: is_cut(&data, length),
            data: data.into_owned(),
        }));
    }
}

fn is_cut(data: &[u8], length: u32) -> bool {
    usize::try_from(length).is_ok_and(|length| data.len() < length)
}
