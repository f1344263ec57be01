//! The stack: 512 bytes for each function, in which pointers that are stored whole survive.

use super::fault::Why;
use super::instruction::Width;
use super::value::{Region, Value};

/// Bytes of a function's frame.
pub const FRAME_SIZE: usize = 512;
/// The same as an offset.
const END: i64 = 512;
const _: () = assert!(END.cast_unsigned() == FRAME_SIZE as u64);
/// Functions of one program that can call each other. A program that one of them goes on in has as many again.
pub const FRAMES: usize = 8;

/// One function's frame.
#[derive(Clone, Debug)]
struct Frame {
    bytes: [u8; FRAME_SIZE],
    /// By 8 bytes: what the pointer that lies there points into; [`Region::Number`] where none does.
    regions: [Region; FRAME_SIZE / 8],
    /// One bit for each of those that is a pointer.
    pointers: u64,
}

impl Frame {
    const EMPTY: Self =
        Self { bytes: [0; FRAME_SIZE], regions: [Region::Number; FRAME_SIZE / 8], pointers: 0 };
}

/// The frames of a run. What was not written reads as 0.
#[derive(Clone, Debug)]
pub struct Stack {
    frames: Vec<Frame>,
}

impl Stack {
    pub(super) fn new() -> Self {
        Self { frames: Vec::with_capacity(FRAMES) }
    }

    /// Makes a frame new.
    pub(super) fn open(&mut self, frame: u8) {
        match self.frames.get_mut(usize::from(frame)) {
            Some(frame) => {
                frame.bytes.fill(0);
                frame.pointers = 0;
            }
            // Frames are opened one after the other.
            None => self.frames.push(Frame::EMPTY),
        }
    }

    fn frame(&self, frame: u8, at: i64, length: usize) -> Result<(&Frame, usize), Why> {
        let start = start(frame, at, length)?;
        let frame = self.frames.get(usize::from(frame)).ok_or(Why::TooManyFrames)?;
        Ok((frame, start))
    }

    /// Bytes from an offset on, none of which belongs to a pointer.
    pub(super) fn bytes(&self, frame: u8, at: i64, length: usize) -> Result<&[u8], Why> {
        let (frame, start) = self.frame(frame, at, length)?;
        if frame.pointers != 0 && frame.pointers & span(start, length) != 0 {
            return Err(Why::PartOfPointer);
        }
        Ok(&frame.bytes[start..start + length])
    }

    /// The same to overwrite; pointers there are gone.
    pub(super) fn bytes_mut(
        &mut self,
        frame: u8,
        at: i64,
        length: usize,
    ) -> Result<&mut [u8], Why> {
        let start = start(frame, at, length)?;
        let frame = self.frames.get_mut(usize::from(frame)).ok_or(Why::TooManyFrames)?;
        frame.pointers &= !span(start, length);
        Ok(&mut frame.bytes[start..start + length])
    }

    /// Where an aligned access at an offset from the end begins; `None` where it is none.
    #[inline]
    fn whole<const N: usize>(at: usize) -> Option<usize> {
        let start = at.wrapping_add(FRAME_SIZE);
        (start <= FRAME_SIZE - N && start.is_multiple_of(N)).then_some(start)
    }

    /// Reads a number or a pointer at an offset from the end; `None` where neither lies there whole and aligned.
    #[inline]
    pub(super) fn fetch<const N: usize>(&self, frame: u8, at: usize) -> Option<Value> {
        let start = Self::whole::<N>(at)?;
        let frame = self.frames.get(usize::from(frame))?;
        let bits = widened(frame.bytes[start..].first_chunk::<N>()?);
        match frame.pointers >> (start / 8) & 1 {
            0 => Some(Value::number(bits)),
            _ if N == 8 => Some(Value::new(frame.regions[start / 8], bits)),
            _ => None,
        }
    }

    /// The place for a number, at an offset from the end; `None` where it is none. No pointer lies there any more.
    #[inline]
    pub(super) fn place<const N: usize>(&mut self, frame: u8, at: usize) -> Option<&mut [u8; N]> {
        let start = Self::whole::<N>(at)?;
        let frame = self.frames.get_mut(usize::from(frame))?;
        frame.pointers &= !(1 << (start / 8));
        frame.bytes[start..].first_chunk_mut()
    }

    /// The place for a pointer into a region, which is noted as lying there; `None` where it is none.
    pub(super) fn place_of_pointer(
        &mut self,
        frame: u8,
        at: usize,
        region: Region,
    ) -> Option<&mut [u8; 8]> {
        let start = Self::whole::<8>(at)?;
        let frame = self.frames.get_mut(usize::from(frame))?;
        if region == Region::Unset {
            return None;
        }
        frame.pointers |= 1 << (start / 8);
        frame.regions[start / 8] = region;
        frame.bytes[start..].first_chunk_mut()
    }

    /// Reads a number or a pointer.
    #[inline]
    pub(super) fn load(&self, depth: u8, at: i64, width: Width) -> Result<Value, Why> {
        let length = width.bytes();
        let (frame, start) = self.frame(depth, at, length)?;
        aligned(at, width)?;
        let touched = frame.pointers & span(start, length);
        let bits = super::memory::number(&frame.bytes[start..], width);
        match touched {
            0 => Ok(Value::number(bits)),
            _ if width == Width::W8 => Ok(Value::new(frame.regions[start / 8], bits)),
            _ => Err(Why::PartOfPointer),
        }
    }

    /// Writes a number or a pointer.
    #[inline]
    pub(super) fn store(
        &mut self,
        depth: u8,
        at: i64,
        width: Width,
        value: Value,
    ) -> Result<(), Why> {
        let length = width.bytes();
        let start = start(depth, at, length)?;
        aligned(at, width)?;
        let frame = self.frames.get_mut(usize::from(depth)).ok_or(Why::TooManyFrames)?;
        if value.is_number() {
            frame.pointers &= !span(start, length);
        } else if width == Width::W8 {
            frame.pointers |= span(start, length);
            frame.regions[start / 8] = value.region;
        } else {
            return Err(Why::PointerLeak(value));
        }
        super::memory::put_number(&mut frame.bytes[start..], width, value.bits);
        Ok(())
    }
}

/// The number that some bytes are.
#[inline]
pub(super) fn widened<const N: usize>(bytes: &[u8; N]) -> u64 {
    let mut all = [0; 8];
    all[..N].copy_from_slice(bytes);
    u64::from_le_bytes(all)
}

/// The lowest bytes of a number.
#[inline]
pub(super) fn narrowed<const N: usize>(number: u64) -> [u8; N] {
    let mut low = [0; N];
    low.copy_from_slice(&number.to_le_bytes()[..N]);
    low
}

/// Where in a frame an offset from its end is.
#[inline]
fn start(frame: u8, at: i64, length: usize) -> Result<usize, Why> {
    let start = at.wrapping_add(END);
    match usize::try_from(start) {
        Ok(start) if start <= FRAME_SIZE && length <= FRAME_SIZE - start => Ok(start),
        _ => Err(Why::OutOfBounds {
            pointer: Value::new(Region::Stack { frame }, at.cast_unsigned()),
            offset: at,
            length,
            size: FRAME_SIZE,
        }),
    }
}

#[inline]
fn aligned(at: i64, width: Width) -> Result<(), Why> {
    if width.divides(at) {
        return Ok(());
    }
    Err(Why::Misaligned { offset: at, length: width.bytes() })
}

/// The bits of the 8-byte places that some bytes touch.
#[inline]
fn span(start: usize, length: usize) -> u64 {
    if length == 0 {
        return 0;
    }
    let (first, last) = (start / 8, (start + length - 1) / 8);
    u64::MAX >> (63 - (last - first)) << first
}
