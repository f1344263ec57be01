//! Goes through the suites: each case on conntrack and policies of its own.

use engine::backend::BackendError;
use engine::explain::Explanation;
use engine::question::Question;
use engine::source::Span;
use engine::tables::Generation;
use engine::topology::World;
use lang::Suite;
use lang::suite::{AtCase, Case, Expectation, FlowCase, RawQuestion};

use super::dialogue;
use super::{CaseReport, Miss, Outcome, Report, StepReport, misses, name};
use crate::backend::Choice;
use crate::reply::{Content, Reply};
use crate::session::{Interrupt, Journey, NotAsked, Session, Stage, differs, refused};

/// Runs the cases whose `file::name` contains the filter.
pub(crate) fn run(session: &mut Session, filter: Option<&str>) -> Reply {
    let suites = session.suites().to_vec();
    let mut report = Report {
        without_tests: session.files_without_tests(),
        filter: filter.map(ToOwned::to_owned),
        ..Report::default()
    };
    let files = session.file_arguments().iter().map(|file| file.display().to_string());
    let mut files = files.fold(String::new(), |all, file| all + " -f " + &quoted(&file));
    // The others say the same of a packet; a lab may not.
    if session.settings().backend == Choice::Lab {
        files.push_str(" --backend lab");
    }
    let interrupt = session.interrupt().clone();
    let ran = session.with_cases(|stage, journey, generations| {
        report.backend = journey.backend.name();
        for suite in &suites {
            let interrupt = &interrupt;
            let mut runner = Runner { stage, journey, generations, files: &files, interrupt };
            report.cases.extend(runner.suite(suite, filter)?);
        }
        Ok(())
    });
    report.interrupted = interrupt.is_set();
    match ran {
        Ok(()) => {
            let status = report.status();
            Reply::with_status(Content::Suite(report), status)
        }
        Err(error) => *refused(&error),
    }
}

/// What a case runs with.
pub(super) struct Runner<'a, 'j> {
    /// World, policies and tables before any change of a dialogue.
    pub(super) stage: &'a Stage<'a>,
    /// Backend, memory and clock.
    pub(super) journey: &'a mut Journey<'j>,
    /// Gives generations that no tables had yet.
    pub(super) generations: &'a mut dyn FnMut() -> Generation,
    /// The session's files as arguments of a command: ` -f shop.hop`.
    pub(super) files: &'a str,
    /// The user's wish to end.
    pub(super) interrupt: &'a Interrupt,
}

/// What a case came to, before it has a name.
pub(super) struct Ran {
    pub(super) outcome: Outcome,
    pub(super) misses: Vec<Miss>,
    pub(super) checked: usize,
    pub(super) steps: Vec<StepReport>,
}

impl Runner<'_, '_> {
    fn suite(
        &mut self,
        suite: &Suite,
        filter: Option<&str>,
    ) -> Result<Vec<CaseReport>, BackendError> {
        let mut reports = Vec::new();
        for case in &suite.cases {
            if self.interrupt.is_set() {
                break;
            }
            let (name, span) = (name(suite, case), span(case));
            let location = self.stage.sources.location(span);
            let full = format!("{}::{name}", location.file);
            if filter.is_some_and(|wanted| !full.contains(wanted)) {
                continue;
            }
            let Ran { outcome, misses, checked, steps } = self.case(case, &name)?;
            let file = location.file.clone();
            let report = CaseReport { file, name, location, outcome, misses, checked, steps };
            reports.push(report);
        }
        Ok(reports)
    }

    fn case(&mut self, case: &Case, name: &str) -> Result<Ran, BackendError> {
        match self.journey.backend.load_world(self.stage.world, self.stage.tables) {
            Err(BackendError::Unhostable { what, remedy }) => {
                return Ok(self.unhosted(case, [what, remedy]));
            }
            loaded => loaded?,
        }
        self.journey.forget()?;
        match case {
            Case::Flow(flow) => self.flow(flow),
            Case::At(at) => self.at_hook(at),
            Case::Dialogue(dialogue) => dialogue::run(self, dialogue, name),
        }
    }

    fn flow(&mut self, flow: &FlowCase) -> Result<Ran, BackendError> {
        let command = format!("hopwise trace{} {}", self.files, quoted(&flow.text));
        let explanation = match answer(self.journey, self.stage, &flow.question)? {
            Ok(explanation) => explanation,
            Err(reason) => {
                let miss = self.broken(&flow.text, flow.span, vec![reason], command);
                let (outcome, misses) = (Outcome::Broken, vec![miss]);
                return Ok(Ran { outcome, misses, checked: 0, steps: Vec::new() });
            }
        };
        let (outcome, miss) = self.verdict(
            self.stage.world,
            (&flow.text, flow.span),
            &flow.expectation,
            explanation,
            command,
        );
        Ok(Ran { outcome, misses: miss.into_iter().collect(), checked: 1, steps: Vec::new() })
    }

    fn at_hook(&mut self, at: &AtCase) -> Result<Ran, BackendError> {
        let command = format!("hopwise trace{} {}", self.files, quoted(&at.text));
        let explanation = match answer_at(self.journey, self.stage, &at.question)? {
            Ok(explanation) => explanation,
            Err(reason) => {
                let miss = self.broken(&at.text, at.span, vec![reason], command);
                let (outcome, misses) = (Outcome::Broken, vec![miss]);
                return Ok(Ran { outcome, misses, checked: 0, steps: Vec::new() });
            }
        };
        let step = (at.text.as_str(), at.span);
        let (outcome, miss) =
            self.verdict(self.stage.world, step, &at.expectation, explanation, command);
        Ok(Ran { outcome, misses: miss.into_iter().collect(), checked: 1, steps: Vec::new() })
    }

    /// A case of a world that the backend cannot make; those of other files are run.
    fn unhosted(&self, case: &Case, [what, remedy]: [String; 2]) -> Ran {
        let (text, span) = match case {
            Case::Flow(flow) => (&flow.text, flow.span),
            Case::At(at) => (&at.text, at.span),
            Case::Dialogue(dialogue) => (&dialogue.name, dialogue.span),
        };
        let reasons = vec![format!("this world cannot be made here: {what}"), remedy];
        let miss = Miss {
            step: text.clone(),
            location: self.stage.sources.location(span),
            reasons,
            explanation: None,
            reproduce: None,
        };
        Ran { outcome: Outcome::Broken, misses: vec![miss], checked: 0, steps: Vec::new() }
    }

    /// What could not be run.
    pub(super) fn broken(
        &self,
        step: &str,
        span: Span,
        reasons: Vec<String>,
        command: String,
    ) -> Miss {
        Miss {
            step: step.to_owned(),
            location: self.stage.sources.location(span),
            reasons,
            explanation: None,
            reproduce: Some(command),
        }
    }

    /// Holds an answer against an expectation.
    pub(super) fn verdict(
        &self,
        world: &World,
        (step, span): (&str, Span),
        expectation: &Expectation,
        explanation: Explanation,
        command: String,
    ) -> (Outcome, Option<Miss>) {
        let mut reasons = misses(expectation, &explanation, world);
        let outcome = match (differs(&explanation), reasons.is_empty()) {
            (true, _) => Outcome::Divergent,
            (false, true) => return (Outcome::Passed, None),
            (false, false) => Outcome::Failed,
        };
        if outcome == Outcome::Divergent {
            reasons.insert(0, "the datapath and the oracle differ: a bug of hopwise".to_owned());
        }
        let miss = Miss {
            step: step.to_owned(),
            location: self.stage.sources.location(span),
            reasons,
            explanation: Some(Box::new(explanation)),
            reproduce: Some(command),
        };
        (outcome, Some(miss))
    }
}

/// Asks one question. A packet that cannot enter spoils its own case only: the reason in its place.
pub(super) fn answer(
    journey: &mut Journey<'_>,
    stage: &Stage<'_>,
    question: &Question,
) -> Result<Result<Explanation, String>, BackendError> {
    match journey.ask(stage, question) {
        Ok(explanation) => Ok(Ok(explanation)),
        Err(error @ (BackendError::BadInjection(_) | BackendError::Unhostable { .. })) => {
            Ok(Err(error.to_string()))
        }
        Err(error) => Err(error),
    }
}

/// The same of a packet at a hook; files that it names are beside the one that it is written in.
pub(super) fn answer_at(
    journey: &mut Journey<'_>,
    stage: &Stage<'_>,
    question: &RawQuestion,
) -> Result<Result<Explanation, String>, BackendError> {
    match journey.ask_at(stage, question) {
        Ok(explanation) => Ok(Ok(explanation)),
        Err(NotAsked::Written(problem)) => Ok(Err(problem.message)),
        Err(NotAsked::Run(
            error @ (BackendError::BadInjection(_)
            | BackendError::Unseen { .. }
            | BackendError::Unhostable { .. }),
        )) => Ok(Err(error.to_string())),
        Err(NotAsked::Run(error)) => Err(error),
    }
}

fn span(case: &Case) -> Span {
    match case {
        Case::Flow(flow) => flow.span,
        Case::At(at) => at.span,
        Case::Dialogue(dialogue) => dialogue.span,
    }
}

/// One word of a POSIX shell.
pub(super) fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:,=+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_a_shell() {
        assert_eq!(quoted("a/b.hop"), "a/b.hop");
        assert_eq!(quoted("a -> b:80/tcp"), "'a -> b:80/tcp'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
