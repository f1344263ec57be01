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

/// The diagnostics, underlined, with their advice; a blank line between two. Of more than [`MOST_SHOWN`]
/// warnings give way to errors, and the last line counts the rest.
pub fn text(
    list: &[Diagnostic],
    sources: &SourceMap,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let renderer = if options.color { Renderer::styled() } else { Renderer::plain() };
    let is_error = |d: &&Diagnostic| d.severity == Severity::Error;
    let errors = list.iter().filter(is_error).count();
    let (mut errors_left, mut warnings_left) = (MOST_SHOWN, MOST_SHOWN.saturating_sub(errors));
    let shown = list.iter().filter(|d| {
        let left = if is_error(d) { &mut errors_left } else { &mut warnings_left };
        let is_shown = *left > 0;
        *left = left.saturating_sub(1);
        is_shown
    });
    for (at, diagnostic) in shown.enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        writeln!(out, "{}", renderer.render(&report(diagnostic, sources)))?;
    }
    let more_errors = errors.saturating_sub(MOST_SHOWN);
    let more =
        [(more_errors, "error"), (list.len().saturating_sub(MOST_SHOWN) - more_errors, "warning")];
    let more: Vec<String> = more
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(n, what)| counted(n, what))
        .collect();
    if more.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n... and {}; `-o json` lists them all", more.join(", "))
}

/// `1 more error`, `2 more errors`.
fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} more {what}{plural}")
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use engine::diag::Code;

    /// What is printed of so many lines with a problem on each, the first ones warnings.
    fn printed(lines: u32, warnings: u32) -> String {
        let mut source = String::new();
        (0..lines).for_each(|at| writeln!(source, "line {at:06}").unwrap());
        let mut sources = SourceMap::default();
        let file = sources.add("a.hop", source);
        let problem = |at: u32| {
            let span = Span { file, start: at * 12 + 5, end: at * 12 + 11 };
            if at < warnings {
                Diagnostic::warning(Code(400), "doubtful", span)
            } else {
                Diagnostic::error(Code(1), "wrong", span).fix("mend it", span, "right")
            }
        };
        let list: Vec<Diagnostic> = (0..lines).map(problem).collect();
        let mut out = Vec::new();
        text(&list, &sources, &Options::default(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_hundred_are_shown_errors_before_warnings() {
        for (lines, warnings, errors_shown, end) in [
            (60, 20, 40, ""),
            (100, 0, 100, ""),
            (101, 0, 100, "... and 1 more error; `-o json` lists them all"),
            (101, 100, 1, "... and 1 more warning; `-o json` lists them all"),
            (
                20_000,
                10_000,
                100,
                "... and 9900 more errors, 10000 more warnings; `-o json` lists them all",
            ),
        ] {
            let printed = printed(lines, warnings);
            let (errors, warnings) =
                (printed.matches("error[").count(), printed.matches("warning[").count());
            assert_eq!((errors, errors + warnings), (errors_shown, 100.min(lines as usize)));
            let last = printed.lines().last().filter(|line| line.starts_with("..."));
            assert_eq!(last.unwrap_or(""), end);
        }
    }

    #[test]
    fn lines_have_the_numbers_of_the_whole_file() {
        let printed = printed(5_000, 4_999);
        let error = printed.lines().skip_while(|line| !line.starts_with("error")).take(4);
        let error: Vec<&str> = error.collect();
        let expected =
            ["error[HW0001]: wrong", "    --> a.hop:5000:6", "     |", "5000 | line 004999"];
        assert_eq!(error, expected);
        assert!(printed.contains("5000 + line right"), "{printed}");
    }
}
