//! The registry of diagnostic codes: number, name, title, explanation and a wrong
//! and a right example each, from which the book's pages are made. Numbers are never reused.

use engine::diag::{Code, Diagnostic};
use engine::source::Span;

mod command;
mod limit;
mod lint;
mod policy;
mod syntax;
mod world;

pub use command::*;
pub use limit::*;
pub use lint::*;
pub use policy::*;
pub use syntax::*;
pub use world::*;

/// Everything that `explain CODE` and the book say about a code.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    /// The number.
    pub code: Code,
    /// A kebab-case name, used in file names.
    pub name: &'static str,
    /// One line.
    pub title: &'static str,
    /// Two to four sentences.
    pub explanation: &'static str,
    /// A minimal text that gives the code. Where its first line is `# ask: QUESTION` or `# type: COMMAND`,
    /// that question or line of a session gives it.
    pub wrong: &'static str,
    /// The same, mended.
    pub right: &'static str,
}

/// Declares the codes of one group: a constant for each, and the list of what is known about them.
macro_rules! codes {
    ($group:ident: $($constant:ident = $number:literal, $name:literal, $title:literal;
        $explanation:literal; wrong $wrong:literal; right $right:literal;)+) => {
        $(
            #[doc = $title]
            pub const $constant: engine::diag::Code = engine::diag::Code($number);
        )+
        pub(super) const $group: &[super::CodeInfo] = &[$(super::CodeInfo {
            code: $constant,
            name: $name,
            title: $title,
            explanation: $explanation,
            wrong: $wrong,
            right: $right,
        }),+];
    };
}
use codes;

const GROUPS: [&[CodeInfo]; 6] = [
    syntax::SYNTAX_CODES,
    world::WORLD_CODES,
    policy::POLICY_CODES,
    command::COMMAND_CODES,
    limit::LIMIT_CODES,
    lint::LINT_CODES,
];

const COUNT: usize = {
    let (mut count, mut group) = (0, 0);
    while group < GROUPS.len() {
        count += GROUPS[group].len();
        group += 1;
    }
    count
};

const fn flatten() -> [CodeInfo; COUNT] {
    let mut all = [GROUPS[0][0]; COUNT];
    let (mut at, mut group) = (0, 0);
    while group < GROUPS.len() {
        let mut index = 0;
        while index < GROUPS[group].len() {
            all[at] = GROUPS[group][index];
            at += 1;
            index += 1;
        }
        group += 1;
    }
    all
}

/// Every code, by number.
pub const ALL: &[CodeInfo] = &flatten();

/// What is known about a code.
pub fn find(code: Code) -> Option<&'static CodeInfo> {
    ALL.iter().find(|c| c.code == code)
}

/// The same thing said twice where once is meant.
pub(crate) fn twice(what: &str, second: Span, first: Span) -> Diagnostic {
    Diagnostic::error(DUPLICATE_FIELD, format!("{what} is given twice"), second)
        .also(first, "first given here")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{self, Command};
    use crate::{Loader, load, resolve};
    use engine::compile::compile;
    use engine::diag::Severity;
    use engine::source::SourceMap;
    use engine::tables::Generation;

    /// Finds the one text under its own name.
    struct Alone<'t>(&'t str, &'t str);

    impl Loader for Alone<'_> {
        fn load(&mut self, path: &str, _relative_to: &str) -> Result<(String, String), String> {
            let (name, text) = (self.0.to_owned(), self.1.to_owned());
            (path == name).then_some((name, text)).ok_or_else(|| "there is no such file".to_owned())
        }
    }

    /// What a text of the registry says when read and compiled, and its first line when asked or typed.
    fn said(info: &CodeInfo, text: &str) -> Vec<Diagnostic> {
        let mut sources = SourceMap::default();
        let name = format!("{}-{}.hop", info.code, info.name);
        let entry = (name.clone(), text.to_owned());
        let loaded = load(&[entry], &mut Alone(&name, text), &mut sources);
        let mut said = loaded.diagnostics;
        if said.iter().all(|problem| problem.severity == Severity::Warning) {
            let compiled = compile(&loaded.world, &loaded.policies, Generation(1));
            said.extend(compiled.err().unwrap_or_default());
        }
        let first = text.lines().next().unwrap_or("");
        if let Some(question) = first.strip_prefix("# ask: ") {
            let file = sources.add("input", question);
            match command::parse_question(question, file) {
                Ok(question) => said.extend(resolve::question(&loaded.world, &question).err()),
                Err(problems) => said.extend(problems),
            }
        } else if let Some(typed) = first.strip_prefix("# type: ") {
            let file = sources.add("input", typed);
            match command::parse(typed, file) {
                Ok(Command::Remove { kind, name }) => {
                    said.extend(loaded.workspace.remove(&kind, &name, &mut sources).err());
                }
                Ok(Command::TraceAt(packet) | Command::DebugAt(packet)) => {
                    said.extend(resolve::raw(&loaded.world, &packet).err());
                }
                Ok(_) => {}
                Err(problems) => said.extend(problems),
            }
        }
        said
    }

    #[test]
    fn every_example_gives_its_code_and_no_other() {
        let mut findings = Vec::new();
        for info in ALL {
            let wrong: Vec<Code> = said(info, info.wrong).iter().map(|d| d.code).collect();
            if wrong != [info.code] {
                findings.push(format!(
                    "{} {}: wrong gives {:?}",
                    info.code,
                    info.name,
                    said(info, info.wrong)
                ));
            }
            for problem in said(info, info.right) {
                findings.push(format!("{} {}: right gives {problem:?}", info.code, info.name));
            }
        }
        assert!(findings.is_empty(), "{}", findings.join("\n"));
    }

    #[test]
    fn numbers_are_unique_and_sorted() {
        for pair in ALL.windows(2) {
            assert!(pair[0].code < pair[1].code, "{} before {}", pair[0].code, pair[1].code);
        }
    }

    #[test]
    fn every_code_is_explained() {
        for info in ALL {
            let sentences = info.explanation.matches(['.', ':']).count();
            assert!(sentences >= 2, "{} {}", info.code, info.name);
            assert!(
                info.name
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            );
            assert_ne!(info.wrong, info.right);
        }
    }
}
