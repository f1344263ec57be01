//! `--pcap FILE`: frames as they came to programs, as pcapng with the verdict as each one's comment. The beginning of long ones.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use datapath::decode::Run;
use engine::backend::BackendError;

use super::Sighting;
use crate::pcap::Writer;
use crate::render;

/// A file that is written frame by frame.
pub(super) struct Capture {
    to: Writer<BufWriter<File>>,
    path: PathBuf,
}

impl Capture {
    /// Begins a file; that it may be replaced was seen to before.
    pub(super) fn create(path: &Path) -> Result<Self, BackendError> {
        let failed = |error: &dyn std::fmt::Display| failed(path, error);
        let file = File::create(path).map_err(|error| failed(&error))?;
        let to = Writer::new(BufWriter::new(file)).map_err(|error| failed(&error))?;
        Ok(Self { to, path: path.to_owned() })
    }

    /// Adds a run's frame, where it told one.
    pub(super) fn add(&mut self, seen: &Sighting, run: &Run) -> Result<(), BackendError> {
        let Some(came) = &run.came else { return Ok(()) };
        let interface = format!("{} {}", seen.node, seen.device);
        let lines = [render::sighting_line(seen, false)];
        let frame = (came.bytes.as_slice(), came.length as usize);
        self.to
            .frame((&interface, Duration::from_nanos(seen.time)), frame, &lines)
            .map_err(|error| failed(&self.path, &error))
    }

    /// Writes what is left.
    pub(super) fn finish(self) -> Result<(), BackendError> {
        let Self { to, path } = self;
        to.into_inner().flush().map_err(|error| failed(&path, &error))
    }
}

fn failed(path: &Path, error: &dyn std::fmt::Display) -> BackendError {
    BackendError::System { call: format!("writing `{}`", path.display()), error: error.to_string() }
}
