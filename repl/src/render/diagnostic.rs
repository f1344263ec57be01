//! Diagnostics as text: the source underlined, advice with the edit that it proposes. ASCII, so that it reads
//! the same on every terminal and in every log.

use std::io::{self, Write};
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Patch, Renderer, Snippet};
use engine::diag::{Diagnostic, Fix, Severity};
use engine::source::{FileId, SourceMap, Span};

use super::Options;

/// How many diagnostics are shown: more help nobody, and where there are more they mostly have one cause.
const MOST_SHOWN: usize = 100;

/// Every diagnostic up to [`MOST_SHOWN`], underlined, with its advice; a blank line between two.
pub fn text(
    list: &[Diagnostic],
    sources: &SourceMap,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let renderer = if options.color { Renderer::styled() } else { Renderer::plain() };
    for (at, diagnostic) in list.iter().take(MOST_SHOWN).enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", renderer.render(&report(diagnostic, sources)))?;
    }
    let more = list.len().saturating_sub(MOST_SHOWN);
    if more > 0 {
        writeln!(out, "\n... and {more} more; `-o json` lists them all")?;
    }
    Ok(())
}

/// A part of a text that begins and ends with a line: what the renderer is given, since it goes through all
/// of it every time.
struct Excerpt<'s> {
    text: &'s str,
    /// Where it begins in the whole text.
    start: usize,
    /// The number of its first line.
    line: usize,
}

impl<'s> Excerpt<'s> {
    /// The lines that ranges of a file lie in.
    fn around(
        file: FileId,
        ranges: impl IntoIterator<Item = Range<usize>>,
        sources: &'s SourceMap,
    ) -> Self {
        let text = sources.text(file);
        let (mut first, mut last) = (text.len(), 0);
        for range in ranges {
            first = first.min(range.start);
            last = last.max(range.end);
        }
        let before = text.get(..first).and_then(|before| before.rfind('\n'));
        let start = before.map_or(0, |at| at + 1);
        let after = text.get(last..).and_then(|after| after.find('\n'));
        let end = after.map_or(text.len(), |at| last + at);
        let place = u32::try_from(start).unwrap_or(u32::MAX);
        let line = sources.location(Span { file, start: place, end: place }).line as usize;
        Self { text: text.get(start..end).unwrap_or(""), start, line }
    }

    /// A range of the whole text in the excerpt.
    fn place(&self, range: Range<usize>) -> Range<usize> {
        range.start.saturating_sub(self.start)..range.end.saturating_sub(self.start)
    }
}

fn report<'d>(diagnostic: &'d Diagnostic, sources: &'d SourceMap) -> Vec<Group<'d>> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(&diagnostic.message).id(diagnostic.code.to_string());
    let mut main = Group::with_title(title).elements(snippets(diagnostic, sources));
    main = main.elements(diagnostic.notes.iter().map(|note| Level::NOTE.message(note)));
    let plain = diagnostic.helps.iter().filter(|help| help.fix.is_none());
    main = main.elements(plain.map(|help| Level::HELP.message(&help.message)));
    let fixes = diagnostic.helps.iter().filter_map(|help| {
        let fix = help.fix.as_ref()?;
        let title = Level::HELP.secondary_title(&help.message);
        Some(Group::with_title(title).element(patched(fix, sources)))
    });
    std::iter::once(main).chain(fixes).collect()
}

/// One snippet for each file that the diagnostic points into, the primary one first.
fn snippets<'d>(
    diagnostic: &'d Diagnostic,
    sources: &'d SourceMap,
) -> Vec<Snippet<'d, Annotation<'d>>> {
    let mut files: Vec<FileId> = Vec::new();
    for label in &diagnostic.labels {
        if !files.contains(&label.span.file) {
            files.push(label.span.file);
        }
    }
    let snippet = |file: FileId| {
        let labels = diagnostic.labels.iter().filter(move |label| label.span.file == file);
        let ranges = labels.clone().map(|label| range(label.span, sources));
        let excerpt = Excerpt::around(file, ranges, sources);
        let annotations: Vec<_> = labels
            .map(|label| {
                let kind =
                    if label.primary { AnnotationKind::Primary } else { AnnotationKind::Context };
                let annotation = kind.span(excerpt.place(range(label.span, sources)));
                if label.text.is_empty() { annotation } else { annotation.label(&label.text) }
            })
            .collect();
        Snippet::source(excerpt.text)
            .line_start(excerpt.line)
            .path(sources.name(file))
            .annotations(annotations)
    };
    files.into_iter().map(snippet).collect()
}

fn patched<'d>(fix: &'d Fix, sources: &'d SourceMap) -> Snippet<'d, Patch<'d>> {
    let file = fix.span.file;
    let range = within(fix.span, sources.text(file));
    let excerpt = Excerpt::around(file, [range.clone()], sources);
    Snippet::source(excerpt.text)
        .line_start(excerpt.line)
        .path(sources.name(file))
        .patch(Patch::new(excerpt.place(range), &fix.replacement))
}

/// A span of several lines is underlined on its first: a whole block says no more than its head.
fn range(span: Span, sources: &SourceMap) -> Range<usize> {
    let text = sources.text(span.file);
    let Range { start, end } = within(span, text);
    let first = text.get(start..end).and_then(|t| t.split('\n').next()).unwrap_or("");
    start..start + first.trim_end().len()
}

/// The span inside the text: texts that were forgotten are empty.
fn within(span: Span, text: &str) -> Range<usize> {
    let boundary = |at: u32| text.floor_char_boundary((at as usize).min(text.len()));
    let start = boundary(span.start);
    start..boundary(span.end).max(start)
}
