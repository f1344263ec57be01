//! Reading: `load`, `reload`, directories and includes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use engine::source::SourceMap;
use lang::{Loader, Workspace};

use super::Session;
use crate::reply::{Reply, Status};

/// The ending of the language's files.
const EXTENSION: &str = "hop";

/// Stands for standard input among files, and the name that its text has.
const STDIN: (&str, &str) = ("-", "<stdin>");

const NOT_UTF8: &str = "it is not UTF-8 text";
const DENIED: &str = "permission is denied";

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
pub(crate) fn tidied(path: &Path) -> PathBuf {
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
pub(crate) fn read(path: &Path) -> Result<String, String> {
    // A pipe or device may never end.
    let kind = fs::metadata(path).map_err(|error| reason(&error))?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err("it is a pipe or a device, not a file".to_owned());
    }
    let bytes = fs::read(path).map_err(|error| reason(&error))?;
    if u32::try_from(bytes.len()).is_err() {
        return Err("it is larger than 4 GiB".to_owned());
    }
    String::from_utf8(bytes).map_err(|_| NOT_UTF8.to_owned())
}

/// An I/O error in words, without Rust's `(os error N)`.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => DENIED.to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// Why a file cannot be written.
pub(super) fn unwritable(path: &Path, error: &io::Error) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| error.kind() == io::ErrorKind::NotFound && !folder.is_dir()) {
        Some(folder) => format!("there is no folder `{}`", folder.display()),
        None => reason(error),
    }
}

impl Session {
    /// Replaces the session by files (directories: every `.hop` file below, by name). On an error the
    /// session stays as it was.
    pub fn load(&mut self, files: &[PathBuf]) -> Reply {
        self.load_with(files, None)
    }

    /// The same, with `-` standing for a text that was read from standard input.
    pub fn load_with(&mut self, files: &[PathBuf], stdin: Option<&str>) -> Reply {
        let entries = match entries(files, stdin) {
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
        // What was before the first load is nothing to go back to.
        let is_first = self.undo.is_empty() && self.state.workspace.documents().next().is_none();
        let adopted =
            if is_first { self.replace(workspace) } else { self.adopt(workspace, what.to_owned()) };
        let reply = match adopted {
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
fn entries(files: &[PathBuf], stdin: Option<&str>) -> Result<Vec<(String, String)>, Box<Reply>> {
    let mut entries = Vec::new();
    for file in files {
        if let Some(text) = stdin.filter(|_| is_stdin(file)) {
            entries.push((STDIN.1.to_owned(), text.to_owned()));
            continue;
        }
        for path in files_below(file)? {
            let path = tidied(&path);
            let text = read(&path).map_err(|why| cannot_read(&path, &why))?;
            entries.push((path.display().to_string(), text));
        }
    }
    Ok(entries)
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new(STDIN.0)
}

/// Whether the path is named as a file of the language.
pub(crate) fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == EXTENSION)
}

pub(super) fn cannot_read(path: &Path, why: &str) -> Box<Reply> {
    let message = format!("cannot read `{}`: {why}", path.display());
    let remedy = match why {
        NOT_UTF8 => "save the file as UTF-8 text",
        DENIED => "give yourself the right to read it",
        _ => "name an existing `.hop` file, or a directory that holds some",
    };
    Box::new(Reply::failure(Status::Input, message, remedy))
}

/// The path itself, or every file of the language below it, by name.
pub(crate) fn files_below(path: &Path) -> Result<Vec<PathBuf>, Box<Reply>> {
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

/// The files to work on one by one: those named, and of a directory those that no other file of it
/// includes, since an included file is a part of a program.
pub(crate) fn programs(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Box<Reply>> {
    let mut programs = Vec::new();
    for path in paths {
        let files = files_below(path)?;
        if !path.is_dir() {
            programs.extend(files);
            continue;
        }
        let included: BTreeSet<String> = files.iter().flat_map(|file| includes(file)).collect();
        let whole = |file: &PathBuf| !included.contains(&tidied(file).display().to_string());
        programs.extend(files.into_iter().filter(whole));
    }
    Ok(programs)
}

/// The names of the files that a file includes, and of those that they include. What cannot be read is
/// reported when the file itself is loaded.
fn includes(file: &Path) -> Vec<String> {
    let path = tidied(file);
    let Ok(text) = read(&path) else { return Vec::new() };
    let name = path.display().to_string();
    let mut sources = SourceMap::default();
    let workspace = Workspace::load(&[(name.clone(), text)], &mut Disk, &mut sources);
    workspace.documents().map(|d| d.name.clone()).filter(|other| *other != name).collect()
}

/// Symbolic links to directories are not followed, so that a loop of them ends. Hidden directories hold
/// what tools keep for themselves.
fn collect(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if !entry.file_name().to_string_lossy().starts_with('.') {
                collect(&path, found)?;
            }
        } else if is_source(&path) {
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
