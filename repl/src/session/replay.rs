//! `replay`: a capture through the session's policies, and through others beside them. Owns which texts the others are; the run
//! is [`crate::replay`]'s.

use std::collections::BTreeMap;
use std::mem;
use std::path::{Path, PathBuf};

use engine::diag::Diagnostic;
use lang::ast::{Item, ItemKind};
use lang::command::Replay;
use lang::workspace::Document;
use lang::{Loader, Workspace};

use super::files::{Disk, read, tidied};
use super::state::State;
use super::{Session, refused};
use crate::pcap::{Held, Unreadable};
use crate::replay::{self, Chosen, Options, Report};
use crate::reply::{Content, Reply, Status};

/// What is asked of a replay.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// How to replay.
    pub(crate) options: Options,
    /// Other policies, to compare with.
    pub(crate) policy: Option<PathBuf>,
    /// Whether it is a negative answer that not everything gets through.
    pub(crate) expects_allowed: bool,
    /// Whether a change by the other policies is one.
    pub(crate) expects_unchanged: bool,
}

impl Session {
    /// The command of a session.
    pub(super) fn replay_words(&mut self, asked: &Replay) -> Reply {
        let wanted = Wanted {
            options: Options { strict: asked.strict, ..Options::default() },
            policy: asked.policy.as_ref().map(|policy| PathBuf::from(&policy.node)),
            ..Wanted::default()
        };
        match Held::open(Path::new(&asked.file.node)) {
            Ok(held) => self.replay(&held, &wanted),
            Err(problem) => unreadable(&asked.file.node, problem),
        }
    }

    /// Runs a capture through the policies. Afterwards conntrack knows of no flow.
    pub(crate) fn replay(&mut self, held: &Held, wanted: &Wanted) -> Reply {
        let other = match wanted.policy.as_deref().map(|policy| self.other_state(policy)) {
            None => None,
            Some(Ok(state)) => Some(state),
            Some(Err(reply)) => return *reply,
        };
        let mut report = match self.replayed(held, wanted.options) {
            Ok(report) => report,
            Err(reply) => return *reply,
        };
        if let (Some(state), Some(policy)) = (other, &wanted.policy) {
            let own = mem::replace(&mut self.state, state);
            let then = self.replayed(held, wanted.options);
            self.state = own;
            match then {
                Ok(then) => report.against(&then, policy.display().to_string()),
                Err(reply) => return *reply,
            }
        }
        let status = status(&report, wanted);
        Reply::with_status(Content::Replay(Box::new(report)), status)
    }

    fn replayed(&mut self, held: &Held, options: Options) -> Result<Report, Box<Reply>> {
        let packets =
            || held.packets().map_err(|problem| Box::new(unreadable(held.name(), problem)));
        let (first, packets) = (packets()?, packets()?);
        let interrupt = self.interrupt.clone();
        let chosen = Chosen::of(&self.state.world, first, &interrupt);
        let files = self.files.iter().map(|file| file.display().to_string()).collect();
        let ran = self.with_journey(|stage, journey| {
            replay::run(stage, journey, packets, (held, files), (options, chosen), &interrupt)
        });
        ran.map_err(|error| refused(&error))
    }

    /// The session with the statements of a file in the place of those of the same kind and name; only the file, where it has a
    /// cluster of its own.
    fn other_state(&mut self, policy: &Path) -> Result<State, Box<Reply>> {
        let name = tidied(policy).display().to_string();
        let text = read(policy).map_err(|why| {
            let message = format!("cannot read `{name}`: {why}");
            Box::new(Reply::failure(Status::Input, message, "name a file of policies"))
        })?;
        let alone = [(name.clone(), text)];
        let given = Workspace::load(&alone, &mut Disk, &mut self.sources);
        let bad: Vec<Diagnostic> = given.documents().flat_map(|d| d.diagnostics.clone()).collect();
        if !bad.is_empty() {
            return Err(Box::new(self.complain(bad)));
        }
        let is_cluster = |item: &Item| matches!(item.kind, ItemKind::Cluster(_));
        let is_whole = given.documents().any(|document| document.ast.items.iter().any(is_cluster));
        let workspace = if is_whole { given } else { self.with(&given, alone) };
        let generation = self.next_generation();
        State::derive_untested(workspace, &self.sources, generation)
            .map_err(|problems| Box::new(self.complain(problems)))
    }

    /// The session's texts with another's beside them. What that has too is blanked, so that every line stays where it was.
    fn with(&mut self, given: &Workspace, alone: [(String, String); 1]) -> Workspace {
        let keys: Vec<_> =
            given.documents().flat_map(|d| d.ast.items.iter().map(Item::key)).collect();
        let is_replaced =
            |item: &Item| !matches!(item.kind, ItemKind::Include(_)) && keys.contains(&item.key());
        let documents = self.state.workspace.documents();
        let texts: BTreeMap<String, String> = documents
            .filter(|document| document.name != alone[0].0)
            .map(|document| (document.name.clone(), blanked(document, is_replaced)))
            .collect();
        let own = texts.iter().map(|(name, text)| (name.clone(), text.clone()));
        let entries: Vec<_> = own.chain(alone).collect();
        Workspace::load(&entries, &mut Texts(texts), &mut self.sources)
    }
}

/// A capture that is none, or not there.
pub(crate) fn unreadable(name: &str, problem: Unreadable) -> Reply {
    let message = format!("`{}`: {}", name.escape_debug(), problem.message);
    Reply::failure(Status::Input, message, problem.remedy)
}

/// The text without some of its statements.
fn blanked(document: &Document, is_out: impl Fn(&Item) -> bool) -> String {
    let mut bytes = document.text.clone().into_bytes();
    for item in document.ast.items.iter().filter(|item| is_out(item)) {
        let range = item.span.start as usize..item.span.end as usize;
        let statement = bytes.get_mut(range).unwrap_or_default();
        statement.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    // A statement begins and ends between characters.
    String::from_utf8(bytes).unwrap_or_else(|_| document.text.clone())
}

/// The session's texts for what includes them, others from disk.
pub(super) struct Texts(pub(super) BTreeMap<String, String>);

impl Loader for Texts {
    fn load(&mut self, path: &str, relative_to: &str) -> Result<(String, String), String> {
        let base = Path::new(relative_to).parent().unwrap_or(Path::new(""));
        let name = tidied(&base.join(path)).display().to_string();
        match self.0.get(&name) {
            Some(text) => Ok((name, text.clone())),
            None => Disk.load(path, relative_to),
        }
    }
}

fn status(report: &Report, wanted: &Wanted) -> Status {
    if report.summary.divergent > 0 {
        return Status::Divergence;
    }
    if report.summary.damaged.is_some() {
        return Status::Input;
    }
    let missed = wanted.expects_allowed && !report.is_allowed();
    let changed = wanted.expects_unchanged && report.changes();
    if missed || changed { Status::Negative } else { Status::Ok }
}
