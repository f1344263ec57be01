//! Where replies go: results to standard output, everything else to standard error, with colour where it
//! is wanted. The only part of the command line that writes.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;

use engine::diag::{Diagnostic, Severity};

use super::{Format, Look};
use crate::render::{self, Options, diagnostic};
use crate::reply::{Content, Reply, Status};

/// How and where to print.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) no_headers: bool,
    quiet: bool,
    color: String,
}

impl Output {
    /// Text.
    pub(super) fn text(look: &Look) -> Self {
        Self { json: false, no_headers: false, quiet: look.quiet, color: look.color.clone() }
    }

    /// As asked for.
    pub(super) fn of(look: &Look, format: &Format) -> Self {
        Self { json: format.output == "json", ..Self::text(look) }
    }

    /// Whether warnings and greetings are not wanted.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// When to use colour, as the session's setting says it.
    pub(crate) fn set_color(&mut self, when: &str) {
        when.clone_into(&mut self.color);
    }

    /// Whether text for a stream is coloured.
    pub(crate) fn is_colored(&self, is_terminal: bool) -> bool {
        let set = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
        match self.color.as_str() {
            "always" => true,
            "never" => false,
            _ if set("NO_COLOR") => false,
            _ if env::var_os("CLICOLOR_FORCE").is_some_and(|v| !v.is_empty() && v != "0") => true,
            _ => is_terminal && env::var_os("TERM").is_none_or(|term| term != "dumb"),
        }
    }

    /// Prints a reply with its warnings; gives back how it ended.
    pub(crate) fn reply(&self, reply: &Reply) -> io::Result<Status> {
        self.replies(std::slice::from_ref(reply))
    }

    /// Prints replies of one run, as one document where JSON is wanted; gives back the worst end.
    pub(crate) fn replies(&self, replies: &[Reply]) -> io::Result<Status> {
        if self.json || replies.iter().any(|reply| reply.as_json) {
            let mut out = Vec::new();
            render::json_of_all(replies, &mut out)?;
            write(&mut io::stdout(), &out)?;
        } else {
            for reply in replies {
                self.as_text(reply)?;
            }
        }
        Ok(replies.iter().map(|r| r.status).max().unwrap_or_default())
    }

    fn as_text(&self, reply: &Reply) -> io::Result<()> {
        if !self.quiet {
            let options = self.options(io::stderr().is_terminal());
            let mut warnings = Vec::new();
            diagnostic::text(&reply.warnings, &reply.sources, &options, &mut warnings)?;
            // Standard error being closed is no reason to fail.
            let _ = write(&mut io::stderr(), &warnings);
        }
        let mut out = Vec::new();
        if render::is_complaint(reply) {
            let options = self.options(io::stderr().is_terminal());
            match self.errors_alone(reply) {
                Some(errors) => diagnostic::text(&errors, &reply.sources, &options, &mut out)?,
                None => render::text(reply, &options, &mut out)?,
            }
            let _ = write(&mut io::stderr(), &out);
            return Ok(());
        }
        render::text(reply, &self.options(io::stdout().is_terminal()), &mut out)?;
        write(&mut io::stdout(), &out)
    }

    /// The errors of a reply that has warnings beside them, where only what matters is wanted.
    fn errors_alone(&self, reply: &Reply) -> Option<Vec<Diagnostic>> {
        let Content::Diagnostics(all) = &reply.content else { return None };
        let errors = all.iter().filter(|found| found.severity == Severity::Error);
        let errors: Vec<_> = errors.cloned().collect();
        (self.quiet && !errors.is_empty()).then_some(errors)
    }

    fn options(&self, is_terminal: bool) -> Options {
        Options { color: self.is_colored(is_terminal), no_headers: self.no_headers }
    }
}

/// Bytes to standard output as they are.
pub(super) fn raw(bytes: &[u8]) -> io::Result<()> {
    write(&mut io::stdout(), bytes)
}

/// A remark on standard error.
pub(crate) fn remark(text: &str) {
    // Standard error being closed is no reason to fail.
    let _ = writeln!(io::stderr(), "{text}");
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> io::Result<()> {
    out.write_all(bytes)?;
    out.flush()
}

/// Standard output takes nothing: a full disk, a closed descriptor.
pub(super) fn cannot_write(error: &io::Error) {
    remark(&format!("error: cannot write to standard output: {error}"));
}

/// Instead of Rust's panic message: an invariant of ours is broken.
pub(super) fn say_that_it_is_a_bug(panic: &PanicHookInfo<'_>) {
    // A damaged object file, which is told of as one.
    if datapath::vm::image::is_reading() {
        return;
    }
    let place = panic.location().map_or_else(String::new, |at| format!(" at {at}"));
    remark(&format!("error: this is a bug of hopwise: an invariant does not hold{place}"));
    remark("help: please report it with the input that leads here");
}
