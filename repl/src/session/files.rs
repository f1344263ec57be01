//! Reading: `load`, `reload`, directories and includes.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use lang::{Loader, Workspace};

use super::Session;
use crate::reply::{Reply, Status};

/// The ending of the language's files.
const EXTENSION: &str = "hop";

/// Reads includes relative to the file that names them.
pub(super) struct Disk;

impl Loader for Disk {
    fn load(&mut self, path: &str, relative_to: &str) -> Result<(String, String), String> {
        let base = Path::new(relative_to).parent().unwrap_or(Path::new(""));
        let path = tidied(&base.join(path));
        let text = read(&path)?;
        Ok((path.display().to_string(), text))
    }
}

/// The path without `.` and without `name/..`, so that a file has one name however it is reached.
fn tidied(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if tidy.file_name().is_some() => {
                tidy.pop();
            }
            other => tidy.push(other),
        }
    }
    tidy
}

/// The file's text, or one sentence on why there is none.
fn read(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| reason(&error))?;
    if u32::try_from(bytes.len()).is_err() {
        return Err("it is larger than 4 GiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned())
}

/// An I/O error in words, without Rust's `(os error N)`.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission is denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

impl Session {
    /// Replaces the session by files (directories: every `.hop` file below, by name). On an error the
    /// session stays as it was.
    pub fn load(&mut self, files: &[PathBuf]) -> Reply {
        let entries = match entries(files) {
            Ok(entries) => entries,
            Err(reply) => return *reply,
        };
        let names: Vec<String> = files.iter().map(|f| f.display().to_string()).collect();
        let reply = self.load_texts(&entries, &format!("load {}", names.join(" ")));
        if reply.is_ok() {
            self.files = files.to_vec();
        }
        reply
    }

    /// Replaces the session by a text under a name (standard input, an example of the book).
    pub fn load_text(&mut self, name: &str, text: &str) -> Reply {
        self.load_texts(&[(name.to_owned(), text.to_owned())], &format!("load {name}"))
    }

    /// Replaces the session by (name, text) pairs; includes are read from disk.
    pub fn load_texts(&mut self, entries: &[(String, String)], what: &str) -> Reply {
        let workspace = Workspace::load(entries, &mut Disk, &mut self.sources);
        let reply = match self.adopt(workspace, what.to_owned()) {
            Ok(()) => {
                self.entries = entries.iter().map(|(name, _)| name.clone()).collect();
                self.with_warnings(Reply::nothing())
            }
            Err(problems) => self.complain(problems),
        };
        self.forget_texts();
        reply
    }

    pub(super) fn reload(&mut self) -> Reply {
        if self.files.is_empty() {
            let remedy = "`load FILE` reads one";
            return Reply::failure(Status::Usage, "no file is loaded", remedy);
        }
        let dropped = self.has_unsaved_changes();
        let mut reply = self.load(&self.files.clone());
        if reply.is_ok() && dropped {
            let text = "unsaved changes are gone; `undo` brings them back";
            reply.content = crate::reply::Content::Text(text.to_owned());
        }
        reply
    }

    /// The reply with the warnings that the present texts give.
    pub(super) fn with_warnings(&self, mut reply: Reply) -> Reply {
        if !self.state.warnings.is_empty() {
            reply.warnings.clone_from(&self.state.warnings);
            reply.sources = std::sync::Arc::new(self.sources.clone());
        }
        reply
    }
}

/// Name and text of every file asked for.
fn entries(files: &[PathBuf]) -> Result<Vec<(String, String)>, Box<Reply>> {
    let mut entries = Vec::new();
    for file in files {
        for path in below(file)? {
            let path = tidied(&path);
            let text = read(&path).map_err(|why| cannot_read(&path, &why))?;
            entries.push((path.display().to_string(), text));
        }
    }
    Ok(entries)
}

fn cannot_read(path: &Path, why: &str) -> Box<Reply> {
    let message = format!("cannot read `{}`: {why}", path.display());
    Box::new(Reply::failure(Status::Input, message, "name an existing `.hop` file or directory"))
}

/// The path itself, or every file of the language below it, by name.
fn below(path: &Path) -> Result<Vec<PathBuf>, Box<Reply>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    collect(path, &mut found).map_err(|error| cannot_read(path, &reason(&error)))?;
    if found.is_empty() {
        return Err(cannot_read(path, "it holds no `.hop` file"));
    }
    found.sort();
    Ok(found)
}

/// Symbolic links to directories are not followed, so that a loop of them ends.
fn collect(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            collect(&path, found)?;
        } else if path.extension().is_some_and(|e| e == EXTENSION) {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_name() {
        let check = |path: &str, expected: &str| {
            assert_eq!(tidied(Path::new(path)), Path::new(expected));
        };
        check("./a.hop", "a.hop");
        check("a/./b/../c.hop", "a/c.hop");
        check("../a.hop", "../a.hop");
        check("../../a.hop", "../../a.hop");
        check("/a/../b.hop", "/b.hop");
    }
}
