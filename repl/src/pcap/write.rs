//! The frames of an answer as pcapng: the one that enters and those that leave each hop, on an interface for each
//! device of a node, with what is told about each as its comment. Times tell the order only.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::time::Duration;

use engine::explain::{Explanation, HopReport, Step};
use engine::topology::World;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgReader, PcapNgWriteError, PcapNgWriter};
use pcap_file::{DataLink, Endianness};

use crate::render;

/// What a capture of ours says of its writer begins so.
const WRITER: &str = "hopwise ";

/// The most bytes of a comment: its length has 16 bits, and it is filled up to a multiple of 4.
const LONGEST_COMMENT: usize = 65_532;

/// A frame on a device of a node, and what is told about it.
struct Frame<'a> {
    interface: String,
    bytes: &'a [u8],
    comment: Vec<String>,
}

/// The answer's frames, those of its reply behind them.
pub(crate) fn capture(answer: &Explanation, world: &World) -> Result<Vec<u8>, PcapNgWriteError> {
    let mut all = frames(answer, world);
    if let Some(reply) = &answer.reply {
        all.extend(frames(reply, world));
    }
    written(&all)
}

fn frames<'a>(answer: &'a Explanation, world: &World) -> Vec<Frame<'a>> {
    let Some(first) = answer.hops.first() else { return Vec::new() };
    let mut comment = render::summary_lines(answer);
    comment.push(format!("enters {} {} {}", first.node, first.device, first.hook));
    let interface = name(&first.node, &first.device);
    let mut frames = vec![Frame { interface, bytes: &first.frame_in, comment }];
    for hop in &answer.hops {
        let told = render::hop_lines(hop);
        if !hop.frame.is_empty() {
            let interface = name(&hop.node, &device(hop, world));
            frames.push(Frame { interface, bytes: &hop.frame, comment: told });
        } else if let Some(last) = frames.last_mut() {
            // Nothing leaves: what became of the frame is told where it was seen last.
            last.comment.extend(told);
        }
    }
    frames
}

fn name(node: &str, device: &str) -> String {
    format!("{node} {device}")
}

/// The device that a frame leaves a hop by.
fn device(hop: &HopReport, world: &World) -> String {
    let by = hop.steps.iter().rev().find_map(|step| match step {
        Step::Deliver { interface, .. } => Some(interface.clone()),
        Step::Network { device, .. } | Step::Left { device, .. } => Some(device.clone()),
        Step::Tunnel { .. } => {
            let node = world.nodes.iter().find(|node| node.name == hop.node)?;
            Some(node.device.clone())
        }
        _ => None,
    });
    by.unwrap_or_else(|| hop.device.clone())
}

fn written(frames: &[Frame<'_>]) -> Result<Vec<u8>, PcapNgWriteError> {
    let mut writer = Writer::new(Vec::new())?;
    // The interfaces stand before the frames.
    for frame in frames {
        writer.interface(&frame.interface)?;
    }
    for (order, frame) in (0..).zip(frames) {
        let length = frame.bytes.len();
        let time = Duration::from_micros(order);
        writer.frame((&frame.interface, time), (frame.bytes, length), &frame.comment)?;
    }
    Ok(writer.into_inner())
}

/// A capture that is written frame by frame.
pub(crate) struct Writer<W: Write> {
    to: PcapNgWriter<W>,
    interfaces: Vec<String>,
}

impl<W: Write> Writer<W> {
    /// Begins it.
    pub(crate) fn new(to: W) -> Result<Self, PcapNgWriteError> {
        let program = format!("{WRITER}{}", env!("CARGO_PKG_VERSION"));
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            options: vec![SectionHeaderOption::UserApplication(program.into())],
            ..SectionHeaderBlock::default()
        };
        Ok(Self { to: PcapNgWriter::with_section_header(to, section)?, interfaces: Vec::new() })
    }

    /// The number of an interface, which is declared where it was not yet.
    fn interface(&mut self, name: &str) -> Result<u32, PcapNgWriteError> {
        let at = match self.interfaces.iter().position(|known| known == name) {
            Some(at) => at,
            None => {
                self.to.write_pcapng_block(InterfaceDescriptionBlock {
                    linktype: DataLink::ETHERNET,
                    snaplen: 0,
                    options: vec![InterfaceDescriptionOption::IfName(name.into())],
                })?;
                self.interfaces.push(name.to_owned());
                self.interfaces.len() - 1
            }
        };
        Ok(u32::try_from(at).unwrap_or(0))
    }

    /// Writes a frame that was seen on an interface at a time since 1970: its bytes, of how many there are in all, with a comment.
    pub(crate) fn frame(
        &mut self,
        (interface, timestamp): (&str, Duration),
        (bytes, length): (&[u8], usize),
        lines: &[String],
    ) -> Result<(), PcapNgWriteError> {
        let interface_id = self.interface(interface)?;
        let comment = CommonOption::Comment(comment(lines).into());
        self.to.write_pcapng_block(EnhancedPacketBlock {
            interface_id,
            timestamp,
            original_len: u32::try_from(length).unwrap_or(u32::MAX),
            data: Cow::Borrowed(bytes),
            options: vec![EnhancedPacketOption::Common(comment)],
        })?;
        Ok(())
    }

    /// What it is written to.
    pub(crate) fn into_inner(self) -> W {
        self.to.into_inner()
    }
}

fn comment(lines: &[String]) -> String {
    let mut text = lines.join("\n");
    // Lines are ASCII, but names need not be for ever.
    let end = (0..=LONGEST_COMMENT.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(end.unwrap_or(0));
    text
}

/// Whether it is a capture that this program wrote, and may be written anew.
pub(crate) fn is_ours(file: impl Read) -> bool {
    let Ok(reader) = PcapNgReader::new(file) else { return false };
    reader.section().options.iter().any(|option| {
        matches!(option, SectionHeaderOption::UserApplication(program) if program.starts_with(WRITER))
    })
}
