//! Replies as text and as JSON, through a writer. Owns layout and words; decides nothing and never
//! prints by itself.

pub mod diagnostic;

use std::io::{self, Write};

use crate::reply::Reply;

/// How to lay a reply out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Colour may be used; it never carries meaning.
    pub color: bool,
    /// Tables without their header line.
    pub no_headers: bool,
}

/// The reply's content as text, with a trailing newline where there is any. Warnings are not part of it.
pub fn text(_reply: &Reply, _options: &Options, _out: &mut dyn Write) -> io::Result<()> {
    Ok(())
}

/// The reply as one JSON document with a `schemaVersion`, warnings included.
pub fn json(_reply: &Reply, _out: &mut dyn Write) -> io::Result<()> {
    Ok(())
}
