//! A capture that is read more than once: a file, or what came by a pipe, kept meanwhile in a file that has no name any more.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::read::{Unreadable, open, unreadable};
use super::stream::Stream;

/// Bytes that are read at once.
const AT_ONCE: usize = 1 << 18;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    name: String,
    file: Arc<File>,
    /// Whether whoever has the name can read it once more.
    is_lasting: bool,
}

impl Held {
    /// A file.
    pub(crate) fn open(path: &Path) -> Result<Self, Unreadable> {
        let file = Arc::new(open(path)?);
        Ok(Self { name: path.display().to_string(), file, is_lasting: true })
    }

    /// What comes by a pipe, to its end.
    pub(crate) fn piped(name: &str, mut from: impl Read) -> Result<Self, Unreadable> {
        let cannot = |error: io::Error| {
            let remedy = "what came is kept in the folder for temporary files (TMPDIR) meanwhile";
            unreadable(format!("it cannot be kept: {error}"), remedy)
        };
        let mut file = nameless().map_err(cannot)?;
        if io::copy(&mut from, &mut file).map_err(cannot)? == 0 {
            let remedy = "what was to write the capture there says why it did not";
            return Err(unreadable("nothing came by it", remedy));
        }
        Ok(Self { name: name.to_owned(), file: Arc::new(file), is_lasting: false })
    }

    /// What it is called.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The name by which it can be read once more.
    pub(crate) fn again(&self) -> Option<&str> {
        Some(self.name()).filter(|_| self.is_lasting)
    }

    /// Its packets from the first one on.
    pub(crate) fn packets(&self) -> Result<Stream<BufReader<Reading>>, Unreadable> {
        let reading = Reading { file: Arc::clone(&self.file), at: 0 };
        Stream::of(BufReader::with_capacity(AT_ONCE, reading))
    }
}

/// Whether there is a pipe by this name: nobody but who reads it once knows what it holds.
pub(crate) fn is_pipe(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_fifo())
}

/// A file that is gone with the last who has it.
fn nameless() -> io::Result<File> {
    let time = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let name = format!("hopwise-{}-{time}.pcap", std::process::id());
    let path = std::env::temp_dir().join(name);
    let file =
        OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

/// One reading of a file that has several.
#[derive(Debug)]
pub(crate) struct Reading {
    file: Arc<File>,
    at: u64,
}

impl Read for Reading {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Reading {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.at = at.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}
