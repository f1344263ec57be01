//! The part of `hopwise test` that counts what ran of the datapath's programs, and writes it down.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use datapath::vm::coverage::lines::Report;
use datapath::vm::coverage::{Coverage, Recorder};
use engine::backend::BackendError;

use crate::render::{self, Options, coverage};
use crate::reply::{Content, Reply, Status};
use crate::session::{Session, refused};

/// Counts that further runs can add to theirs.
const COUNTS: &str = "datapath.json";

/// Coverage of the datapath's programs.
#[derive(Clone, Debug, Args)]
pub(super) struct CoverageArgs {
    /// Count which source lines of the datapath's programs run, and write the counts into this directory
    ///
    /// It is made where it is missing. Written are datapath.txt, datapath.info (LCOV), datapath.html and
    /// datapath.json, which --merge-coverage reads. The interpreter runs the packets, as the kernel does not count.
    #[arg(long, value_name = "DIR", conflicts_with = "list", verbatim_doc_comment)]
    datapath_coverage: Option<PathBuf>,
    /// Add the counts of other runs: a datapath.json; may be given several times
    #[arg(long, value_name = "FILE", requires = "datapath_coverage")]
    merge_coverage: Vec<PathBuf>,
}

/// Counts while tests run.
pub(super) struct Counter {
    recorder: Recorder,
    folder: PathBuf,
    /// Counts of other runs.
    others: Vec<Coverage>,
}

impl CoverageArgs {
    /// What counts, where it is asked for. Errors before anything has run: `backend` cannot count, the directory
    /// cannot be made, counts to add cannot be read.
    pub(super) fn counter(&self, backend: &str) -> Result<Option<Counter>, Box<Reply>> {
        let Some(folder) = &self.datapath_coverage else { return Ok(None) };
        if !matches!(backend, "auto" | "vm") {
            let message =
                format!("`--backend {backend}` cannot count what runs: the kernel does not");
            let remedy = "leave out `--backend`; the interpreter runs the packets then";
            return Err(Box::new(Reply::failure(Status::Usage, message, remedy)));
        }
        let recorder = Recorder::find().map_err(|error| refused(&error))?;
        fs::create_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
        let mut sum = recorder.counts();
        let mut others = Vec::new();
        for file in &self.merge_coverage {
            let counts = read(file)?;
            sum.merge(&counts).map_err(|mismatch| unreadable(file, &mismatch.to_string()))?;
            others.push(counts);
        }
        Ok(Some(Counter { recorder, folder: folder.clone(), others }))
    }
}

impl Counter {
    /// A session whose packets are counted.
    pub(super) fn session(&self) -> Session {
        let recorder = self.recorder.clone();
        Session::new(move |_| Ok::<_, BackendError>(recorder.backend()))
    }

    /// Writes the files; the reply is what stands in the text.
    pub(super) fn finish(&self) -> Reply {
        let mut counts = self.recorder.counts();
        // They fit: it was tried before.
        let misfit = self.others.iter().find_map(|other| counts.merge(other).err());
        if let Some(misfit) = misfit {
            return Reply::failure(Status::Input, misfit.to_string(), "");
        }
        let report = Report::new(self.recorder.image(), &counts);
        let reply = Reply::ok(Content::Listing(coverage::listing(&report)));
        match self.write(&counts, &report, &reply) {
            Ok(()) => reply,
            Err(failed) => *failed,
        }
    }

    fn write(&self, counts: &Coverage, report: &Report, reply: &Reply) -> Result<(), Box<Reply>> {
        self.file("datapath.txt", |out| render::text(reply, &Options::default(), out))?;
        self.file("datapath.info", |out| coverage::lcov::write(report, out))?;
        self.file("datapath.html", |out| coverage::html::write(report, out))?;
        self.file(COUNTS, |out| {
            serde_json::to_writer(&mut *out, counts)?;
            writeln!(out)
        })
    }

    fn file(
        &self,
        name: &str,
        write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<(), Box<Reply>> {
        let path = self.folder.join(name);
        let mut bytes = Vec::new();
        let written = write(&mut bytes).and_then(|()| fs::write(&path, &bytes));
        written.map_err(|error| unwritable(&path, &error))
    }
}

fn read(file: &Path) -> Result<Coverage, Box<Reply>> {
    let text = fs::read_to_string(file).map_err(|error| unreadable(file, &error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| unreadable(file, &error.to_string()))
}

fn unreadable(file: &Path, why: &str) -> Box<Reply> {
    let message = format!("cannot add the counts of `{}`: {why}", file.display());
    let remedy = format!("name a {COUNTS} that this hopwise wrote");
    Box::new(Reply::failure(Status::Input, message, remedy))
}

fn unwritable(path: &Path, error: &io::Error) -> Box<Reply> {
    let message = format!("cannot write `{}`: {error}", path.display());
    Box::new(Reply::failure(Status::Environment, message, "name another directory"))
}
