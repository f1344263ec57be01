//! A test run as text: what failed, with what was expected, what came and how to see it again; then one
//! line of counts.

use std::io::{self, Write};

use super::{Options, answer, known, words};
use crate::reply::Level;
use crate::suite::{CaseReport, Miss, Outcome, Report, StepReport};

/// Failing cases in full, files without tests, counts.
pub(super) fn text(report: &Report, options: Options, out: &mut dyn Write) -> io::Result<()> {
    for case in &report.cases {
        case_lines(case, options, out)?;
    }
    for file in &report.without_tests {
        writeln!(out, "{file}: no test block")?;
    }
    if !report.backend.is_empty() && !report.cases.is_empty() {
        writeln!(out, "asked {}", report.backend)?;
    }
    writeln!(out, "{}", summary(report))
}

fn case_lines(case: &CaseReport, options: Options, out: &mut dyn Write) -> io::Result<()> {
    let (word, style) = match case.outcome {
        Outcome::Passed => ("ok", words::GOOD),
        Outcome::Failed => ("FAILED", words::BAD),
        Outcome::Broken => ("BROKEN", words::BAD),
        Outcome::Divergent => ("DIVERGENT", words::BAD),
    };
    let word = words::painted(word, style, options.color);
    writeln!(out, "{word}  {}::{}", case.file, case.name)?;
    if !case.misses.is_empty() {
        // The miss itself tells of the step that went wrong.
        let last = case.misses.iter().any(|miss| miss.explanation.is_some());
        let before = case.steps.len() - usize::from(last && !case.steps.is_empty());
        for (at, step) in (1..).zip(case.steps.iter().take(before)) {
            step_lines(at, step, out)?;
        }
    }
    for miss in &case.misses {
        miss_lines(miss, options, out)?;
    }
    Ok(())
}

/// A step of a dialogue that went as expected, and what conntrack remembers of it.
fn step_lines(at: usize, step: &StepReport, out: &mut dyn Write) -> io::Result<()> {
    let verdict = step.verdict.map_or_else(String::new, |verdict| format!(": {verdict}"));
    writeln!(out, "  step {at}: {}{verdict}", step.step)?;
    for change in &step.known {
        writeln!(out, "  {}", known::line(change))?;
    }
    Ok(())
}

fn miss_lines(miss: &Miss, options: Options, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "  at {}: {}", miss.location, miss.step)?;
    for reason in &miss.reasons {
        writeln!(out, "    {reason}")?;
    }
    if let Some(explanation) = &miss.explanation {
        for line in answer::explanation(explanation, Level::Normal, options) {
            writeln!(out, "    {line}")?;
        }
    }
    if let Some(command) = &miss.reproduce {
        writeln!(out, "  see it again: {command}")?;
    }
    Ok(())
}

fn summary(report: &Report) -> String {
    let count = |outcome| report.cases.iter().filter(|c| c.outcome == outcome).count();
    let mut parts = vec![format!("{} passed", count(Outcome::Passed))];
    let others = [
        (Outcome::Failed, "failed"),
        (Outcome::Broken, "broken"),
        (Outcome::Divergent, "DIVERGENT"),
    ];
    parts.extend(
        others
            .iter()
            .map(|(o, word)| (count(*o), word))
            .filter(|(n, _)| *n > 0)
            .map(|(n, word)| format!("{n} {word}")),
    );
    let checked: usize = report.cases.iter().map(|c| c.checked).sum();
    let filter = report.filter.as_ref().map_or_else(String::new, |f| format!(" matching `{f}`"));
    let cases = words::counted(report.cases.len(), "case", "cases");
    let expectations = words::counted(checked, "expectation", "expectations");
    let counts = format!("{cases}{filter}, {expectations}: {}", parts.join(", "));
    if report.interrupted { format!("interrupted after {counts}") } else { counts }
}
