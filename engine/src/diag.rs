//! Diagnostics as plain data: what is wrong, where, and what to do. Rendering belongs to `repl`;
//! the registry of codes is [`Code`]'s table, and each code has a page in the book.

use crate::source::Span;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The input cannot be used.
    Error,
    /// The input can be used but probably does not say what was meant.
    Warning,
}

/// A stable diagnostic code, printed as `HW0001`. Numbers are never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub u16);

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HW{:04}", self.0)
    }
}

/// One underlined place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// What to underline.
    pub span: Span,
    /// What to say there; may be empty.
    pub text: String,
    /// The place the message is about (exactly one per diagnostic), not a related one.
    pub primary: bool,
}

/// A concrete edit that would mend the problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fix {
    /// The text to replace; empty for an insertion.
    pub span: Span,
    /// What to put there.
    pub replacement: String,
}

/// Advice, with the edit where there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Help {
    /// One sentence.
    pub message: String,
    /// The edit it proposes.
    pub fix: Option<Fix>,
}

/// One problem in a user's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The stable code.
    pub code: Code,
    /// How bad it is.
    pub severity: Severity,
    /// One line, lowercase, without a full stop, user text in backticks.
    pub message: String,
    /// Places, the primary one first.
    pub labels: Vec<Label>,
    /// Background.
    pub notes: Vec<String>,
    /// What to do.
    pub helps: Vec<Help>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(code: Code, message: impl Into<String>, span: Span) -> Self {
        Self::new(code, Severity::Error, message, span)
    }

    /// A warning at a place.
    pub fn warning(code: Code, message: impl Into<String>, span: Span) -> Self {
        Self::new(code, Severity::Warning, message, span)
    }

    fn new(code: Code, severity: Severity, message: impl Into<String>, span: Span) -> Self {
        let label = Label { span, text: String::new(), primary: true };
        Self {
            code,
            severity,
            message: message.into(),
            labels: vec![label],
            notes: Vec::new(),
            helps: Vec::new(),
        }
    }

    /// Says something at the primary place.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Self {
        if let Some(first) = self.labels.first_mut() {
            first.text = text.into();
        }
        self
    }

    /// Adds a related place.
    #[must_use]
    pub fn also(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into(), primary: false });
        self
    }

    /// Adds background.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Self {
        self.notes.push(text.into());
        self
    }

    /// Adds advice.
    #[must_use]
    pub fn help(mut self, message: impl Into<String>) -> Self {
        self.helps.push(Help { message: message.into(), fix: None });
        self
    }

    /// Adds advice with the edit that carries it out.
    #[must_use]
    pub fn fix(
        mut self,
        message: impl Into<String>,
        span: Span,
        replacement: impl Into<String>,
    ) -> Self {
        let fix = Fix { span, replacement: replacement.into() };
        self.helps.push(Help { message: message.into(), fix: Some(fix) });
        self
    }

    /// Where the problem is.
    pub fn span(&self) -> Span {
        self.labels.first().map(|l| l.span).unwrap_or_default()
    }
}
