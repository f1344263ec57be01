//! Writing: `save` puts every changed text back into its file, whole or not at all, and never over
//! somebody else's change.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use lang::workspace::{Document, SESSION};

use super::Session;
use super::files::{reason, unwritable};
use crate::reply::{Reply, Status};

impl Session {
    /// Writes changed texts into their files, or the only text into another file, which is the session's
    /// from then on. Without `force`, refuses where a file is not as it was read.
    pub fn save(&mut self, file: Option<PathBuf>, force: bool) -> Reply {
        match file {
            Some(file) => self.save_as(&file, force),
            None => self.save_all(force),
        }
    }

    fn save_all(&mut self, force: bool) -> Reply {
        let changed: Vec<&Document> =
            self.state.workspace.documents().filter(|d| d.is_changed()).collect();
        if changed.is_empty() {
            return Reply::text("nothing to save");
        }
        if let Some(homeless) = changed.iter().find(|d| !has_file(d)) {
            let message = format!("`{}` is in no file yet", homeless.name);
            return Reply::failure(Status::Usage, message, "`save FILE` names one");
        }
        for document in &changed {
            if let Err(reply) = unchanged_on_disk(document, force) {
                return *reply;
            }
        }
        let mut names = Vec::new();
        for document in changed {
            if let Err(error) = write(Path::new(&document.name), &document.text) {
                return cannot_write(Path::new(&document.name), &error);
            }
            names.push(document.name.clone());
        }
        for name in &names {
            self.state.workspace = self.state.workspace.mark_saved(name);
        }
        Reply::text(format!("saved {}", names.join(", ")))
    }

    fn save_as(&mut self, file: &Path, force: bool) -> Reply {
        let documents: Vec<&Document> = self.state.workspace.documents().collect();
        let [document] = documents.as_slice() else {
            let message = match documents.len() {
                0 => "there is nothing to save".to_owned(),
                n => format!("the session has {n} files"),
            };
            let remedy = "`save` alone writes each changed text into its own file";
            return Reply::failure(Status::Usage, message, remedy);
        };
        if Path::new(&document.name) == file && has_file(document) {
            return self.save_all(force);
        }
        if !force && file.exists() {
            let message = format!("`{}` exists and is not this session's file", file.display());
            let remedy = format!("`save! {}` overwrites it", file.display());
            return Reply::failure(Status::Environment, message, remedy);
        }
        if let Err(error) = write(file, &document.text) {
            return cannot_write(file, &error);
        }
        let reply = self.load(&[file.to_owned()]);
        if reply.is_ok() { Reply::text(format!("saved {}", file.display())) } else { reply }
    }
}

/// Whether the document has a file of its own: typed statements and standard input have none.
fn has_file(document: &Document) -> bool {
    document.name != SESSION && !document.name.starts_with('<')
}

/// Refuses where the file is not as it was read, or went away.
fn unchanged_on_disk(document: &Document, force: bool) -> Result<(), Box<Reply>> {
    let Some(saved) = document.saved.as_deref().filter(|_| !force) else { return Ok(()) };
    let message = match fs::read(&document.name) {
        Ok(bytes) if bytes == saved.as_bytes() => return Ok(()),
        Ok(_) => format!("`{}` was changed on disk since it was read", document.name),
        Err(error) => format!("cannot read `{}`: {}", document.name, reason(&error)),
    };
    let remedy =
        "`save!` overwrites it with the session's text; `diff` shows what the session changed";
    Err(Box::new(Reply::failure(Status::Environment, message, remedy)))
}

pub(super) fn cannot_write(path: &Path, error: &io::Error) -> Reply {
    let message = format!("cannot write `{}`: {}", path.display(), unwritable(path, error));
    Reply::failure(
        Status::Environment,
        message,
        "nothing was changed; make it writable, or write elsewhere",
    )
}

/// Writes beside the file and renames, so that a reader sees the old text or the new, never half. A
/// symbolic link stays one, and the file's permissions stay as they are.
pub(super) fn write(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy();
    let beside = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let written = write_new(&beside, &path, text.as_ref());
    let done = written.and_then(|()| fs::rename(&beside, &path));
    if done.is_err() {
        // The rename's error is the one to report; a left-over is the lesser evil.
        let _ = fs::remove_file(&beside);
    }
    done
}

fn write_new(beside: &Path, path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(beside)?;
    file.write_all(text)?;
    if let Ok(present) = fs::metadata(path) {
        file.set_permissions(present.permissions())?;
    }
    file.sync_all()
}
