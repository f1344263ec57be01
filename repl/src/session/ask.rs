//! `trace` and `why`.

use engine::backend::BackendError;
use engine::diag::Diagnostic;
use engine::eval::Memory;
use engine::explain::{Agreement, Explanation};
use engine::question::Known;
use engine::source::Span;
use engine::tables::Generation;
use lang::NoIncludes;
use lang::ast::Question;
use lang::command::Command;
use lang::suite::{Case, Expectation};

use super::at::is_at_hook;
use super::{ConntrackMode, Journey, Session, Stage};
use crate::reply::{Answer, Content, Failure, Level, Reply, Status};
use crate::suite::misses;

/// A question that what is expected of a packet at a hook is read with: expectations ask for no names of their own.
pub(super) const ANY_QUESTION: &str = "1.1.1.1 -> 8.8.8.8:53/udp";

/// What a question on its own conntrack takes for granted.
pub(crate) const NO_EARLIER: &str = "no earlier conntrack";

impl Session {
    /// Explains one flow, held against what follows `=>` where there is one.
    pub fn ask_line(&mut self, line: &str) -> Reply {
        match line.split_once("=>") {
            Some((question, expectation)) => {
                self.ask_expecting(question.trim(), expectation.trim())
            }
            None => self.ask(line),
        }
    }

    /// Explains one flow: `SRC -> DST...`, without the word `trace`.
    pub fn ask(&mut self, question: &str) -> Reply {
        let file = self.sources.add(super::INPUT, question);
        if is_at_hook(question) {
            let reply = match lang::command::parse_raw(question, file) {
                Ok(question) => self.ask_at(&question),
                Err(problems) => self.complain(problems),
            };
            self.forget_texts();
            return reply;
        }
        let reply = match lang::command::parse_question(question, file) {
            Ok(question) => self.ask_parsed(&question),
            Err(problems) => self.complain(problems),
        };
        self.forget_texts();
        reply
    }

    /// The same, held against an expectation as tests write it after `=>`. What the answer misses is
    /// in it, and makes the status negative.
    pub fn ask_expecting(&mut self, question: &str, expectation: &str) -> Reply {
        if question.starts_with("--") && !is_at_hook(question) {
            let reply = self.ask_live(question, expectation);
            self.forget_texts();
            return reply;
        }
        let mut reply = self.ask(question);
        if let Content::Answer(answer) = &mut reply.content {
            let question = self.in_test(question);
            match self.expectation(&question, expectation) {
                Ok(wanted) => {
                    answer.unmet = misses(&wanted, &answer.explanation, &self.state.world);
                }
                Err(problems) => reply = self.complain(problems),
            }
        }
        if let Content::Answer(answer) = &reply.content
            && !answer.unmet.is_empty()
        {
            reply.status = reply.status.worst(Status::Negative);
        }
        self.forget_texts();
        reply
    }

    /// A question as a test of a file has it: with an arrow, which a command line may leave out.
    fn in_test(&mut self, question: &str) -> String {
        if is_at_hook(question) {
            return ANY_QUESTION.to_owned();
        }
        let file = self.sources.add(super::INPUT, question);
        match lang::command::parse_question(question, file) {
            Ok(parsed) if !question.contains("->") => lang::fmt::question(&parsed),
            _ => question.to_owned(),
        }
    }

    /// A question about real packets.
    fn ask_live(&mut self, question: &str, expectation: &str) -> Reply {
        let line = format!("trace {question}");
        let file = self.sources.add(super::INPUT, line.as_str());
        match lang::command::parse(&line, file) {
            Ok(Command::TraceLive(flags, asked)) => {
                self.live_words(&flags, asked.as_deref(), Some(expectation))
            }
            Ok(_) => Reply::nothing(),
            Err(problems) => self.complain(problems),
        }
    }

    /// The expectation with its names resolved: read as a test of a copy of the session's text. Problems
    /// are told about the line as it was typed.
    pub(super) fn expectation(
        &mut self,
        question: &str,
        expectation: &str,
    ) -> Result<Expectation, Vec<Diagnostic>> {
        let name = "what is expected";
        let line = format!("{question} => {expectation}");
        let text = format!("test \"{name}\" {{\n  {line}\n}}");
        let applied = self.state.workspace.apply(&text, &mut NoIncludes, &mut self.sources);
        let (workspace, _) = applied.map_err(|problems| self.typed(&line, problems))?;
        let lowered = workspace.lower(&self.sources);
        let suite = lowered.suites.into_iter().rfind(|s| s.name == name);
        let case = suite.and_then(|s| s.cases.into_iter().next());
        match case {
            Some(Case::Flow(flow)) => Ok(flow.expectation),
            Some(Case::At(_) | Case::Dialogue(_)) | None => {
                Err(self.typed(&line, lowered.diagnostics))
            }
        }
    }

    /// Diagnostics of a text that a typed line became a part of, with their places in the line.
    pub(super) fn typed(&mut self, line: &str, mut problems: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let input = self.sources.add(super::INPUT, line);
        let sources = &self.sources;
        let place = |span: &mut Span| {
            let Some(start) = sources.text(span.file).rfind(line) else { return };
            let start = u32::try_from(start).unwrap_or(u32::MAX);
            let (Some(from), Some(to)) =
                (span.start.checked_sub(start), span.end.checked_sub(start))
            else {
                return;
            };
            if usize::try_from(to).is_ok_and(|to| to <= line.len()) {
                *span = Span { file: input, start: from, end: to };
            }
        };
        for problem in &mut problems {
            problem.labels.iter_mut().for_each(|label| place(&mut label.span));
            let fixes = problem.helps.iter_mut().filter_map(|help| help.fix.as_mut());
            fixes.for_each(|fix| place(&mut fix.span));
        }
        problems
    }

    pub(super) fn ask_parsed(&mut self, asked: &Question) -> Reply {
        let question = match lang::resolve::question(&self.state.world, asked) {
            Ok(question) => question,
            Err(problem) => return self.complain(vec![problem]),
        };
        match self.answer(&question) {
            Ok(explanation) => {
                self.last_answer = Some(explanation.clone());
                answered(explanation, self.settings.level)
            }
            Err(error @ BackendError::BadInjection(_)) => {
                self.complain(vec![cannot_enter(&error, asked, question.choose.is_some())])
            }
            Err(error) => *refused(&error),
        }
    }

    /// One question on conntrack as the settings say.
    fn answer(
        &mut self,
        question: &engine::question::Question,
    ) -> Result<Explanation, BackendError> {
        let fresh = self.settings.conntrack == ConntrackMode::Fresh;
        self.with_journey(|stage, journey| {
            if fresh {
                journey.backend.load_world(stage.world, stage.tables)?;
                journey.forget()?;
            }
            if !fresh {
                return journey.ask_told(stage, question);
            }
            let mut explanation = journey.ask(stage, question)?;
            if matches!(question.known, None | Some(Known::Connected)) {
                explanation.assumed.insert(0, NO_EARLIER.to_owned());
            }
            Ok(explanation)
        })
    }

    /// The present state beside the backend, which is opened where it is not yet.
    pub(super) fn with_journey<T>(
        &mut self,
        run: impl FnOnce(&Stage<'_>, &mut Journey<'_>) -> Result<T, BackendError>,
    ) -> Result<T, BackendError> {
        if self.backend.is_none() || self.opened != self.settings.backend {
            self.backend = Some((self.open_backend)(self.settings.backend)?);
            self.opened = self.settings.backend;
            // Another backend knows of no flow.
            self.memory = Memory::default();
            self.unseen = false;
        }
        let stage = Stage {
            world: &self.state.world,
            policies: &self.state.policies,
            tables: &self.state.tables,
            sources: &self.sources,
        };
        let Some(backend) = &mut self.backend else {
            // Opened just above.
            return Err(BackendError::BadInjection("no backend is open".to_owned()));
        };
        let (memory, unseen) = (&mut self.memory, &mut self.unseen);
        run(&stage, &mut Journey { backend: backend.as_mut(), memory, unseen, now: self.now })
    }

    /// Forgets every flow on both sides.
    pub(super) fn forget_flows(&mut self) -> Result<(), BackendError> {
        self.memory = Memory::default();
        self.unseen = false;
        self.backend.as_mut().map_or(Ok(()), |backend| backend.forget())
    }

    /// The same for test cases, which also need generations of their own.
    pub(crate) fn with_cases(
        &mut self,
        run: impl FnOnce(
            &Stage<'_>,
            &mut Journey<'_>,
            &mut dyn FnMut() -> Generation,
        ) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        let mut last = self.last_generation;
        let ran = self.with_journey(|stage, journey| {
            run(stage, journey, &mut || {
                last.0 += 1;
                last
            })
        });
        self.last_generation = last;
        // Flows of the cases are none of the session's.
        self.forget_flows()?;
        ran
    }

    /// The last answer in full.
    pub(super) fn why(&self) -> Reply {
        let Some(explanation) = &self.last_answer else {
            let remedy = "`trace SRC -> DST` asks a question";
            return Reply::failure(Status::Usage, "there is no answer yet", remedy);
        };
        answered(explanation.clone(), Level::Full)
    }
}

pub(super) fn answered(explanation: Explanation, level: Level) -> Reply {
    let status = if differs(&explanation) { Status::Divergence } else { Status::Ok };
    let answer = Answer { explanation, level, unmet: Vec::new(), came_with: None, live: None };
    Reply::with_status(Content::Answer(Box::new(answer)), status)
}

/// Whether datapath and oracle differ about the packet or its reply.
pub(crate) fn differs(explanation: &Explanation) -> bool {
    explanation.agreement == Agreement::Differ || explanation.reply.as_deref().is_some_and(differs)
}

/// What to do about a packet that no program of the datapath meets.
const NOT_ASKABLE: &str = "ask about a packet that a pod sends or that is for a pod";

/// What no program of the datapath sees, with the place in the question.
fn cannot_enter(error: &BackendError, asked: &Question, chooses: bool) -> Diagnostic {
    let span = asked.target.party.span;
    let problem = Diagnostic::error(lang::codes::CANNOT_ENTER, error.to_string(), span);
    problem.also(asked.source.span, "the sender").help(if chooses {
        "choose a backend that the service has at that node, or none"
    } else {
        NOT_ASKABLE
    })
}

/// A backend's refusal as a reply: what is missing and what to do.
pub(crate) fn refused(error: &BackendError) -> Box<Reply> {
    let (remedy, detail) = match error {
        BackendError::Unsupported { remedy, .. }
        | BackendError::NotSent { remedy, .. }
        | BackendError::Unhostable { remedy, .. } => (remedy.clone(), Vec::new()),
        BackendError::Refused { log, .. } => {
            let lines = log.lines().map(ToOwned::to_owned).collect();
            ("`hopwise doctor` says what this kernel can do".to_owned(), lines)
        }
        BackendError::Full { .. } => {
            ("the input is larger than the datapath's maps; split it".to_owned(), Vec::new())
        }
        BackendError::BadInjection(_) => (NOT_ASKABLE.to_owned(), Vec::new()),
        BackendError::BadEvent(_) => {
            ("rebuild hopwise, so that its object and its library match".to_owned(), Vec::new())
        }
        BackendError::Unseen { lost: 0, .. } => {
            let remedy =
                "see that the device is up and that the programs are attached (`hopwise status`)";
            (remedy.to_owned(), Vec::new())
        }
        BackendError::Unseen { .. } => {
            let remedy = "ask again when less is going on: other traffic left programs no room to tell of this packet";
            (remedy.to_owned(), Vec::new())
        }
        BackendError::Disagreement { .. } => {
            let remedy =
                "this is a bug of hopwise; please report it with the question and its files";
            (remedy.to_owned(), Vec::new())
        }
        BackendError::System { .. } => {
            ("`hopwise doctor` says what this host lacks".to_owned(), Vec::new())
        }
    };
    let failure = Failure {
        message: error.to_string(),
        remedy: Some(remedy).filter(|r| !r.is_empty()),
        detail,
    };
    let status = match error {
        BackendError::Disagreement { .. } => Status::Divergence,
        BackendError::BadInjection(_)
        | BackendError::NotSent { .. }
        | BackendError::Unhostable { .. } => Status::Input,
        _ => Status::Environment,
    };
    Box::new(Reply::with_status(Content::Failure(failure), status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn a_divergence_is_the_worst_status_wherever_it_is() {
        let status = |explanation| answered(explanation, Level::Minimal).status;
        assert_eq!(status(sample::tunneled()), Status::Ok);
        let differing = Explanation { agreement: Agreement::Differ, ..sample::tunneled() };
        assert_eq!(status(differing.clone()), Status::Divergence);
        let in_reply = Explanation { reply: Some(Box::new(differing)), ..sample::tunneled() };
        assert_eq!(status(in_reply), Status::Divergence);
    }

    #[test]
    fn problems_of_an_expectation_are_told_about_the_line_as_typed() {
        let unavailable = |_| Err(BackendError::BadInjection("no backend".to_owned()));
        let mut session = Session::new(unavailable);
        let question = "1.1.1.1 -> 8.8.8.8:53/udp";
        for (expectation, wrong) in [("allowed by a/b", "a/b"), ("alowed", "alowed")] {
            let problems = session.expectation(question, expectation).unwrap_err();
            let span = problems[0].span();
            assert!(session.sources.snippet(span).contains(wrong), "{problems:?}");
            let at = session.sources.location(span).to_string();
            assert!(at.starts_with("input:1:"), "{at}: {problems:?}");
        }
    }
}
