//! The history file: `$XDG_STATE_HOME/hopwise/history`, else below `~/.local/state`, for its owner only.
//! A history that cannot be kept is no reason to stop.

use std::env;
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::editor::Editor;

/// Where it is, unless the environment names no place.
pub(super) fn path() -> Option<PathBuf> {
    let absolute =
        |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("hopwise/history"))
}

/// Takes earlier entries over; there may be none.
pub(super) fn load(editor: &mut Editor, path: &Path) {
    if let Some(folder) = path.parent() {
        // The entries of this session are still there while it lasts.
        let _ = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    }
    let _ = editor.load_history(path);
}

/// Adds an entry, in the file too, so that nothing is lost however the session ends.
pub(super) fn add(editor: &mut Editor, path: Option<&Path>, line: &str) {
    if line.trim().is_empty() || !editor.add_history_entry(line).unwrap_or(false) {
        return;
    }
    let Some(path) = path else { return };
    if editor.append_history(path).is_ok() {
        // Another program may have made the file, with other rights.
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o600));
    }
}
