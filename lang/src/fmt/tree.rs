//! Tokens to nested entries: statements, lines, fields and list items, each with its comments and with
//! where the author broke lines. Knows where a thing ends, not whether it is right: the parser has read
//! the text before, and a wrong guess here could only choose an uglier line break.

use std::borrow::Cow;
use std::collections::VecDeque;

use super::lex::{Kind, Token};

/// What the entries of a group are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    File,
    Policy,
    Test,
    Dialogue,
    Cluster,
    Node,
    Pod,
    Service,
    External,
    Identity,
    Namespace,
    /// Labels, or conditions of a selector.
    List,
    /// Values in parentheses.
    Values,
    /// A quoted question in parentheses.
    Quote,
}

impl Scope {
    /// Whether the line end ends an entry, so that a break inside one needs a `\`.
    pub(super) fn has_lines(self) -> bool {
        matches!(self, Scope::File | Scope::Policy | Scope::Test | Scope::Dialogue)
    }

    /// Whether entries are fields that may share a line.
    pub(super) fn has_fields(self) -> bool {
        !self.field_words().is_empty()
    }

    /// Whether commas separate the entries.
    pub(super) fn has_commas(self) -> bool {
        matches!(self, Scope::List | Scope::Values)
    }

    /// Whether the parentheses or braces go where the line has room, wherever the author broke them.
    pub(super) fn is_inline(self) -> bool {
        matches!(self, Scope::Values | Scope::Quote)
    }

    fn field_words(self) -> &'static [&'static str] {
        match self {
            Scope::Cluster => &[
                "like",
                "tunnel",
                "host-routing",
                "native-cidr",
                "masquerade",
                "balance",
                "host-firewall",
                "prefilter",
                "encryption",
                "node",
            ],
            Scope::Node => &["ip", "pods", "local", "device", "mac", "labels", "health"],
            Scope::Service => &[
                "cluster-ip",
                "external-ip",
                "load-balancer-ip",
                "port",
                "ports",
                "select",
                "affinity",
                "balance",
                "source-ranges",
                "internal-traffic",
                "external-traffic",
            ],
            Scope::Pod => &[
                "ip",
                "labels",
                "port",
                "ports",
                "mac",
                "host-mac",
                "interface",
                "ifindex",
                "endpoint",
                "host-network",
                "not-ready",
                "terminating",
            ],
            Scope::External => &["ip", "dns"],
            Scope::Identity => &["namespace", "labels"],
            Scope::Namespace => &["labels"],
            _ => &[],
        }
    }

    /// The scope of a group that an entry of this scope holds.
    fn of_group(self, entry: &Entry<'_>, opened: Kind) -> Scope {
        let word = entry.word(0);
        match (self, word) {
            (_, _) if opened == Kind::ParenOpen => match self {
                Scope::Test | Scope::Dialogue | Scope::Quote => Scope::Quote,
                _ => Scope::Values,
            },
            (Scope::File | Scope::Dialogue, "policy" | "clusterwide") => Scope::Policy,
            (Scope::File, "test") => Scope::Test,
            (Scope::Test, "dialogue") => Scope::Dialogue,
            (Scope::File, "cluster") => Scope::Cluster,
            (Scope::File | Scope::Cluster, "node") => Scope::Node,
            (Scope::File | Scope::Dialogue, "pod") => Scope::Pod,
            (Scope::File | Scope::Dialogue, "service") => Scope::Service,
            (Scope::File, "external") => Scope::External,
            (Scope::File, "identity") => Scope::Identity,
            (Scope::File, "namespace") => Scope::Namespace,
            _ => Scope::List,
        }
    }
}

/// A comment on a line of its own.
#[derive(Clone, Debug)]
pub(super) struct Remark<'t> {
    pub(super) text: Cow<'t, str>,
    /// A blank line stands before it.
    pub(super) blank: bool,
}

/// A part of an entry.
#[derive(Clone, Debug)]
pub(super) enum Piece<'t> {
    Word(Cow<'t, str>),
    Comma,
    /// A comment between two words of the entry.
    Comment {
        text: Cow<'t, str>,
        own_line: bool,
    },
    Group(Group<'t>),
}

impl Piece<'_> {
    pub(super) fn word(&self) -> &str {
        match self {
            Piece::Word(text) => text,
            Piece::Comma => ",",
            _ => "",
        }
    }
}

/// What stands between braces or parentheses.
#[derive(Clone, Debug)]
pub(super) struct Group<'t> {
    pub(super) scope: Scope,
    /// The author had it on one line.
    pub(super) one_line: bool,
    /// The comment behind the opening brace.
    pub(super) opening: Option<Cow<'t, str>>,
    pub(super) entries: Vec<Entry<'t>>,
    /// Comments behind the last entry.
    pub(super) ending: Vec<Remark<'t>>,
}

/// A statement, a line, a field or an item.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about how it was written")]
pub(super) struct Entry<'t> {
    /// Comments above it.
    pub(super) remarks: Vec<Remark<'t>>,
    /// A blank line stands right before it.
    pub(super) blank: bool,
    /// It began a line.
    pub(super) begins_line: bool,
    pub(super) pieces: Vec<Piece<'t>>,
    /// It is a rule or a flow, which is one sentence on one line where it fits.
    pub(super) sentence: bool,
    /// A break inside it needs a `\`.
    pub(super) continued: bool,
    /// The author had it on one line.
    pub(super) one_line: bool,
    /// The comment behind it.
    pub(super) trailing: Option<Cow<'t, str>>,
}

impl Entry<'_> {
    /// The word at a place; empty where something else is.
    pub(super) fn word(&self, at: usize) -> &str {
        self.pieces.get(at).map_or("", Piece::word)
    }

    fn last_word(&self) -> &str {
        self.pieces.last().map_or("", Piece::word)
    }

    fn is_rule(&self) -> bool {
        matches!(self.word(0), "allow" | "deny" | "pass")
    }

    /// Whether a token begins the next entry.
    fn is_ended_by(&self, scope: Scope, token: &Token<'_>) -> bool {
        if scope.has_lines() && token.ended {
            return true;
        }
        if token.kind != Kind::Word {
            return false;
        }
        if scope == Scope::Policy {
            let field = matches!(
                token.text.as_ref(),
                "owner" | "because" | "select" | "default-deny" | "allow" | "deny" | "pass"
            );
            return field && !self.is_rule() && self.last_word() != "namespace";
        }
        scope.field_words().contains(&token.text.as_ref()) && !self.lacks_argument(scope)
    }

    /// Whether the word that follows is a name, even if it reads like a field's keyword.
    fn lacks_argument(&self, scope: Scope) -> bool {
        let is_number = self.word(1).starts_with(|c: char| c.is_ascii_digit());
        let needed = match (scope, self.word(0)) {
            (Scope::Pod, "host-network" | "not-ready" | "terminating") => 1,
            (Scope::Service, "port" | "ports") if is_number => 2,
            (_, "port" | "ports" | "like") => 3,
            _ => 2,
        };
        let ends_open = matches!(self.last_word(), "," | "port" | "device" | "->" | "node-port");
        self.pieces.len() < needed || ends_open
    }
}

/// Entries of a whole text, and the comments behind the last.
pub(super) fn read(tokens: Vec<Token<'_>>) -> (Vec<Entry<'_>>, Vec<Remark<'_>>) {
    Reader { tokens: tokens.into() }.entries(Scope::File, Vec::new())
}

struct Reader<'t> {
    tokens: VecDeque<Token<'t>>,
}

impl<'t> Reader<'t> {
    fn next_is(&self, kind: Kind) -> bool {
        self.tokens.front().is_some_and(|t| t.kind == kind)
    }

    /// Where the next token is that is not a comment.
    fn past_comments(&self) -> usize {
        self.tokens.iter().take_while(|t| t.kind == Kind::Comment).count()
    }

    /// Reads up to the closing brace, which it leaves.
    fn entries(
        &mut self,
        scope: Scope,
        mut remarks: Vec<Remark<'t>>,
    ) -> (Vec<Entry<'t>>, Vec<Remark<'t>>) {
        let mut entries: Vec<Entry<'t>> = Vec::new();
        while let Some(token) = self.tokens.pop_front() {
            match token.kind {
                Kind::Close | Kind::ParenClose => {
                    self.tokens.push_front(token);
                    break;
                }
                Kind::Comment => {
                    let last = entries.last_mut();
                    match last.filter(|e| e.trailing.is_none() && remarks.is_empty()) {
                        Some(last) if token.breaks == 0 => last.trailing = Some(token.text),
                        _ => remarks.push(Remark { text: token.text, blank: token.breaks > 1 }),
                    }
                }
                _ => {
                    let above = std::mem::take(&mut remarks);
                    self.tokens.push_front(token);
                    entries.push(self.entry(scope, above));
                }
            }
        }
        (entries, remarks)
    }

    fn entry(&mut self, scope: Scope, remarks: Vec<Remark<'t>>) -> Entry<'t> {
        let breaks = self.tokens.front().map_or(0, |t| t.breaks);
        let mut entry = Entry {
            remarks,
            blank: breaks > 1,
            begins_line: breaks > 0,
            continued: scope.has_lines(),
            one_line: true,
            ..Entry::default()
        };
        while let Some(solid) = self.tokens.get(self.past_comments()) {
            let begun = !entry.pieces.is_empty();
            let closes = matches!(solid.kind, Kind::Close | Kind::ParenClose);
            let separates = scope.has_commas() && solid.kind == Kind::Comma;
            if closes || separates || begun && entry.is_ended_by(scope, solid) {
                break;
            }
            let Some(token) = self.tokens.pop_front() else { break };
            entry.one_line &= !begun || token.breaks == 0;
            self.piece(scope, token, &mut entry);
        }
        if scope.has_commas() {
            self.drop_comma();
        }
        entry.sentence = match scope {
            Scope::Policy => entry.is_rule(),
            Scope::Test | Scope::Dialogue => {
                !matches!(entry.word(0), "dialogue" | "policy" | "clusterwide" | "wait" | "remove")
            }
            _ => false,
        };
        entry
    }

    /// Commas between entries are the layout's own. A comment before one stays with its entry.
    fn drop_comma(&mut self) {
        let at = self.past_comments();
        if self.tokens.get(at).is_some_and(|t| t.kind == Kind::Comma) {
            self.tokens.remove(at);
        }
    }

    fn piece(&mut self, scope: Scope, token: Token<'t>, entry: &mut Entry<'t>) {
        match token.kind {
            Kind::Open | Kind::ParenOpen => {
                let group = self.group(scope.of_group(entry, token.kind), entry);
                entry.one_line &= group.one_line;
                entry.pieces.push(Piece::Group(group));
            }
            Kind::Comma => {
                let comments = take_comments(entry);
                entry.pieces.push(Piece::Comma);
                entry.pieces.extend(comments);
            }
            Kind::Comment => {
                let own_line = token.breaks > 0;
                entry.pieces.push(Piece::Comment { text: token.text, own_line });
            }
            _ => entry.pieces.push(Piece::Word(token.text)),
        }
    }

    /// Reads a group behind its opening brace. Comments before the brace move behind it.
    fn group(&mut self, scope: Scope, entry: &mut Entry<'t>) -> Group<'t> {
        let mut comments: VecDeque<Cow<'t, str>> = take_comments(entry)
            .into_iter()
            .filter_map(|piece| match piece {
                Piece::Comment { text, .. } => Some(text),
                _ => None,
            })
            .collect();
        let mut one_line = self.group_is_one_line();
        if self.tokens.front().is_some_and(|t| t.kind == Kind::Comment && t.breaks == 0) {
            comments.extend(self.tokens.pop_front().map(|t| t.text));
        }
        let opening = comments.pop_front();
        one_line &= opening.is_none();
        let above = comments.into_iter().map(|text| Remark { text, blank: false }).collect();
        let (entries, ending) = self.entries(scope, above);
        if self.next_is(Kind::Close) || self.next_is(Kind::ParenClose) {
            self.tokens.pop_front();
        }
        Group { scope, one_line, opening, entries, ending }
    }

    /// Whether no line ends before the closing brace of the group whose opening one was read.
    fn group_is_one_line(&self) -> bool {
        let mut depth = 0_usize;
        for token in &self.tokens {
            if token.breaks > 0 {
                return false;
            }
            match token.kind {
                Kind::Open | Kind::ParenOpen => depth += 1,
                Kind::Close | Kind::ParenClose if depth == 0 => return true,
                Kind::Close | Kind::ParenClose => depth -= 1,
                _ => {}
            }
        }
        true
    }
}

/// Takes the comments off the end of an entry.
fn take_comments<'t>(entry: &mut Entry<'t>) -> Vec<Piece<'t>> {
    let comments = entry.pieces.iter().rev();
    let count = comments.take_while(|p| matches!(p, Piece::Comment { .. })).count();
    entry.pieces.split_off(entry.pieces.len() - count)
}
