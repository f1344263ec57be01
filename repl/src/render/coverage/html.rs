//! Coverage as one page that needs no other file: a table of files, and of each the source lines that the object holds
//! the text of. Every mark is a word; colour only repeats it.

use std::io::{self, Write};

use datapath::vm::coverage::lines::{Branch, File, Line, Report};

use super::{left_out, share, summary, uncovered};

const STYLE: &str = "\
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; \
color: #1b1b1b; background: #fff }
table { border-collapse: collapse; width: 100% }
caption { text-align: left; padding: .5rem 0 }
th, td { text-align: left; padding: .1rem .8rem .1rem 0; vertical-align: top }
thead th { border-bottom: 2px solid #666 }
.source td, .source tbody th { font: .85rem/1.4 ui-monospace, monospace; white-space: pre-wrap }
.source tbody th { font-weight: normal; color: #555 }
.source td:nth-child(-n+3) { white-space: pre }
.never { background: #ffe3e0 }
.partly { background: #fff3cd }
@media (prefers-color-scheme: dark) {
  body { color: #e8e8e8; background: #161616 }
  .source tbody th { color: #bbb }
  a { color: #8ab4f8 }
  .never { background: #5a1f1a }
  .partly { background: #4d4010 }
}";

/// The page.
pub fn write(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">")?;
    writeln!(out, "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">")?;
    writeln!(out, "<title>Coverage of the datapath</title>\n<style>\n{STYLE}\n</style>\n</head>")?;
    writeln!(out, "<body>\n<main>\n<h1>Coverage of the datapath</h1>")?;
    writeln!(out, "<p>{}</p>\n<p>{}</p>", escaped(&summary(report)), escaped(&left_out(report)))?;
    index(report, out)?;
    for file in &report.files {
        source(file, out)?;
    }
    writeln!(out, "</main>\n</body>\n</html>")
}

fn index(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "<table>\n<caption>Source files</caption>\n<thead><tr>")?;
    for column in ["File", "Lines", "Outcomes of conditions", "Lines not run"] {
        writeln!(out, "<th scope=\"col\">{column}</th>")?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for file in &report.files {
        let name = escaped(&file.name);
        let stretches: Vec<_> = file
            .uncovered()
            .iter()
            .zip(uncovered(file))
            .map(|((first, _), text)| format!("<a href=\"#{name}-{first}\">{text}</a>"))
            .collect();
        writeln!(
            out,
            "<tr><th scope=\"row\"><a href=\"#{name}\">{name}</a></th><td>{}</td><td>{}</td><td>{}</td></tr>",
            or_none(&share(file.covered())),
            or_none(&share(file.outcomes())),
            or_none(&stretches.join(", "))
        )?;
    }
    writeln!(out, "</tbody>\n</table>")
}

fn source(file: &File, out: &mut dyn Write) -> io::Result<()> {
    let name = escaped(&file.name);
    writeln!(out, "<h2 id=\"{name}\">{name}</h2>\n<table class=\"source\">")?;
    writeln!(out, "<caption>Lines with instructions; times is how often a line ran</caption>")?;
    writeln!(out, "<thead><tr>")?;
    for column in ["Line", "Times", "Source", "Conditions"] {
        writeln!(out, "<th scope=\"col\">{column}</th>")?;
    }
    writeln!(out, "</tr></thead>\n<tbody>")?;
    for (number, line) in &file.lines {
        row(&name, *number, line, out)?;
    }
    writeln!(out, "</tbody>\n</table>")
}

fn row(file: &str, number: u32, line: &Line, out: &mut dyn Write) -> io::Result<()> {
    let outcomes = line.outcomes();
    let class = match line.ran {
        0 => " class=\"never\"",
        _ if outcomes.covered < outcomes.total => " class=\"partly\"",
        _ => "",
    };
    let times = if line.ran == 0 { "not run".to_owned() } else { line.ran.to_string() };
    let conditions: Vec<_> = line.branches.iter().map(condition).collect();
    writeln!(
        out,
        "<tr id=\"{file}-{number}\"{class}><th scope=\"row\">{number}</th><td>{times}</td><td>{}</td><td>{}</td></tr>",
        escaped(&line.text),
        conditions.join("<br>")
    )
}

/// `column 9, == 6: held 12, never failed`
fn condition(branch: &Branch) -> String {
    let times = |what: &str, count| match count {
        0 => format!("never {what}"),
        count => format!("{what} {count}"),
    };
    let ways = match (branch.held, branch.failed) {
        (0, 0) => "never asked".to_owned(),
        (held, failed) => format!("{}, {}", times("held", held), times("failed", failed)),
    };
    format!("column {}, {}: {ways}", branch.column, escaped(&branch.condition))
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

/// Text of a page.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
