//! Records of live programs put together to runs. Records of several CPUs are mixed in a ring buffer; on one CPU they come run by
//! run, and each run's last one is its outcome. Records that were lost leave runs without an end, or a beginning.

use std::collections::BTreeMap;

use datapath_abi as abi;
use engine::backend::BackendError;
use engine::net::Hook;
use engine::reason::DropReason;
use engine::tables::Generation;
use engine::trace::{Event, Stamped};
use zerocopy::FromBytes;

use super::{event, hook, read, reason, unreadable};

/// The beginning of a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Bytes of the whole frame.
    pub length: u32,
    /// Its first bytes: all of it, or the first [`abi::SNAP_LENGTH`].
    pub bytes: Vec<u8>,
}

/// What the end of a run says beside its outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Nanoseconds of the kernel's monotonic clock.
    pub time: u64,
    /// The device that the program hangs on.
    pub ifindex: u32,
    /// Bytes of the frame.
    pub length: u32,
    /// The packet's mark afterwards.
    pub mark: u32,
    /// What programs that observe would drop it for if its flow began with it, which nobody knows: it may be older than they are.
    pub unknown: Option<DropReason>,
}

/// One run of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Where.
    pub cpu: u16,
    /// The program.
    pub hook: Hook,
    /// The number that the program read from [`abi::maps::ACTIVE`].
    pub generation: Generation,
    /// What it said, in order.
    pub events: Vec<Stamped>,
    /// The frame as it came, if frames are captured.
    pub came: Option<Snapshot>,
    /// The frame as it left, if frames are captured and it was not dropped.
    pub left: Option<Snapshot>,
    /// `None` where the last record was lost.
    pub end: Option<End>,
}

/// Runs that have begun, by CPU.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    open: BTreeMap<u16, Open>,
}

/// A run that has begun.
#[derive(Clone, Debug)]
struct Open {
    run: Run,
    /// What its first records say that was lost before them.
    lost: Option<Lost>,
}

/// How many events a CPU had lost when it wrote a record, as far as the record says.
#[derive(Clone, Copy, Debug)]
struct Lost {
    count: u32,
    /// The bits of the count that it says.
    known: u32,
}

impl Lost {
    fn of(kind: u8, record: &[u8]) -> Result<Option<Self>, BackendError> {
        let whole = |count| Some(Self { count, known: u32::MAX });
        Ok(match kind {
            abi::kind::PARSED => whole(read::<abi::ParsedEvent>(record)?.lost),
            abi::kind::OUTCOME => whole(read::<abi::OutcomeEvent>(record)?.lost),
            abi::kind::FRAME => {
                let count = read::<abi::FrameEvent>(record)?.lost.into();
                Some(Self { count, known: u8::MAX.into() })
            }
            _ => None,
        })
    }

    /// Whether nothing was lost between two records.
    fn is(self, other: Self) -> bool {
        (self.count ^ other.count) & self.known & other.known == 0
    }
}

impl Runs {
    /// Takes the next record. Gives out the run that it ends, or before that one that has lost its end.
    ///
    /// # Errors
    /// [`BackendError::BadEvent`] for bytes that no program of this version writes; what was taken before stays.
    pub fn take(&mut self, record: &[u8]) -> Result<Vec<Run>, BackendError> {
        let (header, _) = abi::EventHeader::read_from_prefix(record)
            .map_err(|_| unreadable("a record without a header".to_owned()))?;
        let (program, generation) = (hook(header.hook)?, Generation(header.generation));
        let lost = Lost::of(header.kind, record)?;
        let mut given = Vec::new();
        let begins = |Open { run, lost: before }: &Open| {
            run.hook != program
                || run.generation != generation
                || run.is_behind(header.kind, record)
                || lost.zip(*before).is_some_and(|(lost, before)| !lost.is(before))
        };
        let is_cut = self.open.get(&header.cpu).is_some_and(begins);
        if is_cut {
            given.extend(self.open.remove(&header.cpu).map(|open| open.run));
        }
        let Open { run, lost: before } = self.open.entry(header.cpu).or_insert_with(|| Open {
            run: Run {
                cpu: header.cpu,
                hook: program,
                generation,
                events: Vec::new(),
                came: None,
                left: None,
                end: None,
            },
            lost: None,
        });
        if header.kind != abi::kind::FRAME || before.is_none() {
            *before = lost.or(*before);
        }
        match header.kind {
            abi::kind::FRAME => run.keep(&read(record)?)?,
            abi::kind::OUTCOME => {
                run.events.push(event(record)?);
                let end: abi::OutcomeEvent = read(record)?;
                // An end without its beginning is of a packet that nobody knows.
                run.end = (!is_cut).then_some(End {
                    time: end.time,
                    ifindex: end.at,
                    length: end.length,
                    mark: end.mark,
                    unknown: may_be_dropped(&end)?,
                });
                given.extend(self.open.remove(&header.cpu).map(|open| open.run));
            }
            _ => run.events.push(event(record)?),
        }
        Ok(given)
    }

    /// Gives out the runs that have no end yet.
    pub fn rest(&mut self) -> Vec<Run> {
        std::mem::take(&mut self.open).into_values().map(|open| open.run).collect()
    }

    /// Runs that have no end yet.
    pub fn open(&self) -> usize {
        self.open.len()
    }
}

/// Where a kind of event comes in the order of a run.
fn rank(kind: u8) -> Option<usize> {
    ORDER.iter().position(|known| *known == kind)
}

/// The order of a run's events behind its frames.
const ORDER: [u8; 8] = [
    abi::kind::PARSED,
    abi::kind::SERVICE,
    abi::kind::REWRITTEN,
    abi::kind::CONNTRACK,
    abi::kind::IDENTITY,
    abi::kind::POLICY,
    abi::kind::ENCRYPTED,
    abi::kind::OUTCOME,
];

fn kind_of(event: &Event) -> u8 {
    match event {
        Event::Parsed { .. } => abi::kind::PARSED,
        Event::Service { .. } => abi::kind::SERVICE,
        Event::Rewritten { .. } => abi::kind::REWRITTEN,
        Event::Conntrack { .. } => abi::kind::CONNTRACK,
        Event::Identity { .. } => abi::kind::IDENTITY,
        Event::Policy { .. } => abi::kind::POLICY,
        Event::Encrypted { .. } => abi::kind::ENCRYPTED,
        Event::Outcome(_) => abi::kind::OUTCOME,
    }
}

/// See [`End::unknown`].
fn may_be_dropped(last: &abi::OutcomeEvent) -> Result<Option<DropReason>, BackendError> {
    let is_unknown = last.action == abi::action::PASS && last.reason != abi::reason::FORWARDED;
    if is_unknown { reason(last.reason).map(Some) } else { Ok(None) }
}

impl Run {
    /// How many records it was told by.
    pub fn records(&self) -> usize {
        let frames = [&self.came, &self.left].into_iter().flatten();
        self.events.len() + frames.count()
    }

    /// Whether a record belongs to a later run than this one, going by the order that programs write in.
    fn is_behind(&self, kind: u8, record: &[u8]) -> bool {
        match kind {
            abi::kind::FRAME => {
                let leaves = read::<abi::FrameEvent>(record).is_ok_and(|frame| frame.leaves != 0);
                !self.events.is_empty() || self.left.is_some() || !leaves && self.came.is_some()
            }
            kind => self.events.last().is_some_and(|last| {
                let (last, next) = (rank(kind_of(&last.event)), rank(kind));
                let is_told_twice =
                    matches!(kind, abi::kind::REWRITTEN | abi::kind::IDENTITY | abi::kind::POLICY);
                next < last || next == last && !is_told_twice
            }),
        }
    }

    fn keep(&mut self, frame: &abi::FrameEvent) -> Result<(), BackendError> {
        let bytes = frame.data.get(..usize::from(frame.captured)).ok_or_else(|| {
            unreadable(format!("{} captured bytes of {}", frame.captured, abi::SNAP_LENGTH))
        })?;
        let snapshot = Some(Snapshot { length: frame.length, bytes: bytes.to_vec() });
        match frame.leaves {
            0 => self.came = snapshot,
            1 => self.left = snapshot,
            leaves => return Err(unreadable(format!("side {leaves} of a frame is unknown"))),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use engine::trace::Action;
    use zerocopy::{FromZeros, IntoBytes};

    use super::*;

    fn header(kind: u8, cpu: u16) -> abi::EventHeader {
        abi::EventHeader { kind, hook: abi::hook::FROM_CONTAINER, cpu, generation: 7 }
    }

    fn frame(cpu: u16, leaves: u8, byte: u8) -> Vec<u8> {
        let mut event = abi::FrameEvent::new_zeroed();
        event.header = header(abi::kind::FRAME, cpu);
        (event.length, event.captured, event.leaves) = (60, 2, leaves);
        event.data[..2].fill(byte);
        event.as_bytes().to_vec()
    }

    fn asked(cpu: u16) -> Vec<u8> {
        let header = header(abi::kind::CONNTRACK, cpu);
        abi::ConntrackEvent { header, ..Default::default() }.as_bytes().to_vec()
    }

    fn end(cpu: u16) -> Vec<u8> {
        let event = abi::OutcomeEvent {
            header: header(abi::kind::OUTCOME, cpu),
            action: abi::action::DROP,
            reason: abi::reason::POLICY_DENIED,
            time: 5,
            at: 12,
            length: 60,
            mark: 3,
            ..Default::default()
        };
        event.as_bytes().to_vec()
    }

    fn taken(records: &[Vec<u8>]) -> Vec<Run> {
        let mut runs = Runs::default();
        records.iter().flat_map(|record| runs.take(record).unwrap()).collect()
    }

    #[test]
    fn runs_of_several_cpus_come_apart() {
        let runs =
            taken(&[frame(0, 0, 1), frame(1, 0, 2), asked(0), end(1), frame(1, 0, 3), end(0)]);
        assert_eq!(runs.iter().map(|run| run.cpu).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(runs[0].came, Some(Snapshot { length: 60, bytes: vec![2, 2] }));
        let Event::Outcome(Action::Drop(reason)) = runs[1].events[1].event else { panic!() };
        assert_eq!(reason, DropReason::PolicyDenied);
        assert_eq!(
            runs[1].end,
            Some(End { time: 5, ifindex: 12, length: 60, mark: 3, unknown: None })
        );
    }

    #[test]
    fn a_run_that_lost_its_end_is_given_out_when_the_next_one_begins() {
        let runs = taken(&[frame(0, 0, 1), frame(0, 1, 2), asked(0), frame(0, 0, 3), end(0)]);
        assert_eq!(runs.len(), 2);
        assert_eq!((runs[0].end, runs[0].events.len()), (None, 1));
        assert_eq!(runs[0].left, Some(Snapshot { length: 60, bytes: vec![2, 2] }));
        assert_eq!(runs[1].came, Some(Snapshot { length: 60, bytes: vec![3, 3] }));
        assert!(runs[1].end.is_some());
    }

    #[test]
    fn what_comes_out_of_order_is_of_another_run() {
        // The first run lost its end and the second its beginning.
        let mut runs = Runs::default();
        let parsed = abi::ParsedEvent {
            header: header(abi::kind::PARSED, 0),
            family: abi::family::V4,
            ..Default::default()
        };
        let records = [parsed.as_bytes().to_vec(), asked(0), asked(0), end(0), asked(0)];
        let taken: Vec<Run> =
            records.iter().flat_map(|record| runs.take(record).unwrap()).collect();
        assert_eq!(taken.iter().map(Run::records).collect::<Vec<_>>(), [2, 2]);
        assert!(taken[0].end.is_none() && taken[1].end.is_some());
        assert_eq!(runs.rest().iter().map(Run::records).sum::<usize>(), 1);
        assert_eq!(runs.open(), 0);
    }

    #[test]
    fn the_beginning_of_one_run_and_the_end_of_another_are_no_run() {
        let parsed = |lost| {
            let header = header(abi::kind::PARSED, 0);
            let event =
                abi::ParsedEvent { header, family: abi::family::V4, lost, ..Default::default() };
            event.as_bytes().to_vec()
        };
        let ended = |lost| {
            let mut event = abi::OutcomeEvent::read_from_bytes(&end(0)).unwrap();
            event.lost = lost;
            event.as_bytes().to_vec()
        };
        let seen = |lost| {
            let mut event = abi::FrameEvent::read_from_bytes(&frame(0, 0, 1)).unwrap();
            event.lost = lost;
            event.as_bytes().to_vec()
        };
        let ends = |records: &[Vec<u8>]| {
            taken(records).iter().map(|run| (run.records(), run.end.is_some())).collect::<Vec<_>>()
        };
        // In order, but something was lost between.
        assert_eq!(ends(&[parsed(4), asked(0), ended(6)]), [(2, false), (1, false)]);
        assert_eq!(ends(&[seen(255), parsed(0x0201), ended(0x0201)]), [(1, false), (2, true)]);
        assert_eq!(ends(&[seen(255), ended(256)]), [(1, false), (1, false)]);
        // Nothing was lost, or before them only.
        assert_eq!(ends(&[seen(4), parsed(0x0104), asked(0), ended(0x0104)]), [(4, true)]);
        assert_eq!(ends(&[ended(3), parsed(9), ended(9)]), [(1, true), (2, true)]);
    }

    #[test]
    fn bytes_of_no_program_are_refused() {
        let mut runs = Runs::default();
        for record in [&[][..], &[9; 8], &[0; 64]] {
            assert!(matches!(runs.take(record), Err(BackendError::BadEvent(_))), "{record:?}");
        }
        let mut long = abi::FrameEvent::new_zeroed();
        (long.header, long.captured) = (header(abi::kind::FRAME, 0), 300);
        assert!(runs.take(long.as_bytes()).is_err());
    }
}
