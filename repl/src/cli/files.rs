//! Which files a command works on, and the session on them.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use clap::Args;

use crate::backend;
use crate::reply::{Reply, Status};
use crate::session::{self, Session};

/// Stands for standard input among files.
const STDIN: &str = "-";

/// The files of one session.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Files {
    /// Read this file; a directory stands for every .hop file below it, - for standard input
    ///
    /// May be given several times: the files are loaded together. Without it, the .hop files of the
    /// current directory (not of directories below it) are.
    #[arg(short, long = "file", value_name = "FILE", verbatim_doc_comment)]
    pub(super) files: Vec<PathBuf>,
}

impl Files {
    /// Whether one of them is standard input.
    pub(super) fn has_stdin(&self) -> bool {
        self.files.iter().any(|file| is_stdin(file))
    }

    /// A session on the files, or on those of the current directory.
    pub(super) fn open(&self) -> Result<(Session, Reply), Box<Reply>> {
        if self.files.is_empty() { open(&here()?) } else { open(&self.files) }
    }
}

/// A session on files.
pub(super) fn open(files: &[PathBuf]) -> Result<(Session, Reply), Box<Reply>> {
    let mut session = Session::new(backend::open);
    let reply = load(&mut session, files)?;
    Ok((session, reply))
}

/// Replaces a session by files, of which `-` is standard input.
pub(super) fn load(session: &mut Session, files: &[PathBuf]) -> Result<Reply, Box<Reply>> {
    let wanted = files.iter().any(|file| is_stdin(file));
    let stdin = if wanted { Some(stdin()?) } else { None };
    let reply = session.load_with(files, stdin.as_deref());
    if reply.is_ok() { Ok(reply) } else { Err(Box::new(reply)) }
}

/// Whether the argument stands for standard input.
pub(super) fn is_stdin(file: &Path) -> bool {
    file == OsStr::new(STDIN)
}

/// Standard input to its end; read once, however often it is asked for.
pub(super) fn stdin() -> Result<String, Box<Reply>> {
    static TEXT: OnceLock<Result<String, (String, &str)>> = OnceLock::new();
    TEXT.get_or_init(read_stdin).clone().map_err(|(why, remedy)| {
        let message = format!("cannot read standard input: {why}");
        Box::new(Reply::failure(Status::Input, message, remedy))
    })
}

fn read_stdin() -> Result<String, (String, &'static str)> {
    let mut bytes = Vec::new();
    let read = io::stdin().read_to_end(&mut bytes);
    read.map_err(|error| (error.to_string(), "name a file instead"))?;
    String::from_utf8(bytes).map_err(|_| ("it is not UTF-8 text".to_owned(), "convert it to UTF-8"))
}

/// The `.hop` files of the current directory, by name.
fn here() -> Result<Vec<PathBuf>, Box<Reply>> {
    let entries = fs::read_dir(".").into_iter().flatten().flatten();
    let paths = entries.map(|entry| PathBuf::from(entry.file_name()));
    let mut files: Vec<PathBuf> = paths.filter(|path| session::is_source(path)).collect();
    files.sort();
    if files.is_empty() { Err(nothing_here()) } else { Ok(files) }
}

fn nothing_here() -> Box<Reply> {
    let here = env::current_dir().map_or_else(|_| ".".to_owned(), |d| d.display().to_string());
    let message = format!("no `.hop` file in `{here}`, and none is named");
    Box::new(Reply::failure(Status::Usage, message, "name files with `-f FILE`"))
}

/// The programs that a command works on one by one.
#[derive(Clone, Debug, Args)]
pub(super) struct Programs {
    /// Files, each a program by itself with what it includes; default: the current directory
    ///
    /// A directory stands for every .hop file below it but those that another of them includes.
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Load this file with each of them; without any FILE, what -f names is one program
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    with: Vec<PathBuf>,
}

impl Programs {
    /// The files of each program.
    pub(super) fn expanded(&self) -> Result<Vec<Vec<PathBuf>>, Box<Reply>> {
        if self.files.is_empty() && !self.with.is_empty() {
            return Ok(vec![self.with.clone()]);
        }
        let here = [PathBuf::from(".")];
        let files = if self.files.is_empty() { &here[..] } else { &self.files };
        let mut programs = Vec::new();
        for file in session::programs(files)? {
            programs.push(self.with.iter().cloned().chain([file]).collect());
        }
        Ok(programs)
    }
}
