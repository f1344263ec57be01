//! Entries to canonical text: what stays on one line, where a long line breaks, where comments go.

use super::tree::{Entry, Group, Piece, Remark, Scope};

/// Columns that a line may have, comments left aside, where there is a place to break it.
const WIDTH: usize = 100;

/// Columns of one level.
const STEP: usize = 2;

/// Columns of the ` \` behind a line that goes on.
const CONTINUED: usize = 2;

/// The canonical text of a file.
pub(super) fn file(entries: &[Entry<'_>], ending: &[Remark<'_>]) -> String {
    let mut layout = Layout { out: String::new(), indent: 0, fresh: true };
    layout.entries(
        entries,
        ending,
        &Block { indent: 0, scope: Scope::File, rows: false, inline: false },
    );
    if !layout.out.is_empty() {
        layout.out.push('\n');
    }
    layout.out
}

/// How the entries of one block are set.
struct Block {
    indent: usize,
    scope: Scope,
    /// Entries that the author had on one line share one.
    rows: bool,
    /// Groups go on one line where they fit, wherever the author broke them.
    inline: bool,
}

struct Layout {
    out: String,
    /// Columns before the first word of a fresh line.
    indent: usize,
    /// Nothing is on this line yet.
    fresh: bool,
}

impl Layout {
    /// Entries from a fresh line on, and the comments behind them.
    fn entries(&mut self, entries: &[Entry<'_>], ending: &[Remark<'_>], block: &Block) {
        let mut first = true;
        let mut rest = entries;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(row(rest, block));
            match one_row(now, block) {
                Some(row) => self.row(now, &row, block, &mut first),
                None => {
                    for entry in now {
                        self.above(entry, block, &mut first);
                        self.entry(entry, block);
                        self.behind(entry);
                    }
                }
            }
            rest = later;
        }
        self.remarks(ending, block.indent, &mut first);
    }

    fn row(&mut self, entries: &[Entry<'_>], text: &str, block: &Block, first: &mut bool) {
        let (Some(begin), Some(end)) = (entries.first(), entries.last()) else { return };
        self.above(begin, block, first);
        self.word(text);
        self.behind(end);
    }

    fn above(&mut self, entry: &Entry<'_>, block: &Block, first: &mut bool) {
        self.remarks(&entry.remarks, block.indent, first);
        self.begin(block.indent, entry.blank, first);
    }

    fn behind(&mut self, entry: &Entry<'_>) {
        if let Some(comment) = &entry.trailing {
            self.word(comment);
        }
    }

    fn remarks(&mut self, remarks: &[Remark<'_>], indent: usize, first: &mut bool) {
        for remark in remarks {
            self.begin(indent, remark.blank, first);
            self.word(&remark.text);
        }
    }

    /// Begins a line, behind a blank one where the author had that and it is not a block's first.
    fn begin(&mut self, indent: usize, blank: bool, first: &mut bool) {
        if !self.fresh {
            self.out.push('\n');
        }
        if blank && !*first {
            self.out.push('\n');
        }
        self.fresh = true;
        self.indent = indent;
        *first = false;
    }

    fn entry(&mut self, entry: &Entry<'_>, block: &Block) {
        let separator = if block.scope.has_commas() { "," } else { "" };
        let inline = block.inline || entry.sentence;
        let clauses = clauses(entry);
        let flat = flat(&entry.pieces, inline).filter(|f| self.fits(f, separator.len()));
        match flat {
            Some(flat) if entry.one_line || clauses.len() == 1 => self.word(&flat),
            _ => self.broken(&clauses, entry, block.indent, separator.len(), inline),
        }
        self.out.push_str(separator);
    }

    /// One clause a line, and where a clause is too long, one item a line.
    fn broken(
        &mut self,
        clauses: &[&[Piece<'_>]],
        entry: &Entry<'_>,
        indent: usize,
        separator: usize,
        inline: bool,
    ) {
        let mut run = Run { indent, inline, continued: entry.continued, after: 0 };
        for (at, clause) in clauses.iter().enumerate() {
            if at > 0 {
                run.indent = indent + STEP;
                self.go_on(run.indent, entry.continued);
            }
            let last = at + 1 == clauses.len();
            run.after = if last || !entry.continued { separator } else { CONTINUED };
            self.clause(clause, &run, &[items, commas]);
        }
    }

    /// A clause, whole where it fits, else in the parts that the first useful way of splitting gives.
    fn clause(&mut self, pieces: &[Piece<'_>], run: &Run, ways: &[Splitter]) {
        let flat = flat(pieces, run.inline).filter(|f| self.fits(f, run.after));
        if let Some(flat) = flat {
            self.word(&flat);
            return;
        }
        let Some((way, smaller)) = ways.split_first() else {
            self.run(pieces, run);
            return;
        };
        let parts = way(pieces);
        let count = parts.len();
        for (at, part) in parts.into_iter().enumerate() {
            let mut inner = *run;
            if at > 0 {
                inner.indent += STEP;
                self.go_on(inner.indent, run.continued);
            }
            if at + 1 < count {
                inner.after = if run.continued { CONTINUED } else { 0 };
            }
            self.clause(part, &inner, smaller);
        }
    }

    /// Pieces one after the other; groups that do not fit are opened.
    fn run(&mut self, pieces: &[Piece<'_>], run: &Run) {
        for (at, piece) in pieces.iter().enumerate() {
            match piece {
                Piece::Word(text) => {
                    let bound = at > 0 && pieces.get(at - 1).is_some_and(|p| p.word() == "!");
                    if bound { self.out.push_str(text) } else { self.word(text) }
                }
                Piece::Comma if self.fresh => self.word(","),
                Piece::Comma => self.out.push(','),
                Piece::Comment { text, own_line } => {
                    if *own_line && !self.fresh {
                        self.go_on(run.indent + STEP, run.continued);
                    }
                    let begun = !self.fresh;
                    if run.continued {
                        self.word("\\");
                    }
                    let indent = if begun { run.indent + STEP } else { self.indent };
                    self.word(text);
                    self.end_line(indent);
                }
                Piece::Group(group) => {
                    let comma = pieces.get(at + 1).is_some_and(|p| matches!(p, Piece::Comma));
                    let after = if at + 1 == pieces.len() { run.after } else { usize::from(comma) };
                    match flat_group(group, run.inline).filter(|f| self.fits(f, after)) {
                        Some(flat) => self.word(&flat),
                        None => self.opened(group, run),
                    }
                }
            }
        }
    }

    /// A group with each entry on a line.
    fn opened(&mut self, group: &Group<'_>, run: &Run) {
        let (open, close) = if group.scope.is_inline() { ("(", ")") } else { ("{", "}") };
        let indent = if self.fresh { self.indent } else { run.indent };
        self.word(open);
        if let Some(comment) = &group.opening {
            self.word(comment);
        }
        self.end_line(indent + STEP);
        let inline = run.inline || group.scope.is_inline();
        let rows = group.scope.has_fields() && !group.one_line;
        let block = Block { indent: indent + STEP, scope: group.scope, rows, inline };
        self.entries(&group.entries, &group.ending, &block);
        if !self.fresh {
            self.end_line(indent);
        }
        self.indent = indent;
        self.word(close);
    }

    /// Goes on with the present entry on a line of its own.
    fn go_on(&mut self, indent: usize, continued: bool) {
        if self.fresh {
            self.indent = indent;
            return;
        }
        if continued {
            self.word("\\");
        }
        self.end_line(indent);
    }

    fn end_line(&mut self, indent: usize) {
        self.out.push('\n');
        self.fresh = true;
        self.indent = indent;
    }

    /// Writes a word behind the white space that it needs.
    fn word(&mut self, text: &str) {
        if self.fresh {
            self.out.extend(std::iter::repeat_n(' ', self.indent));
        } else {
            self.out.push(' ');
        }
        self.out.push_str(text);
        self.fresh = false;
    }

    /// Whether a text fits on this line with so many columns behind it.
    fn fits(&self, text: &str, after: usize) -> bool {
        let line = self.out.rsplit('\n').next().unwrap_or("");
        let before = if self.fresh { self.indent } else { line.chars().count() + 1 };
        before + text.chars().count() + after <= WIDTH
    }
}

/// How pieces are set.
#[derive(Clone, Copy)]
struct Run {
    /// Of the line that they began; what is broken goes deeper.
    indent: usize,
    inline: bool,
    /// A line end needs a `\` before it.
    continued: bool,
    /// Columns that must stay free behind them.
    after: usize,
}

/// A way of splitting a clause into parts.
type Splitter = for<'e, 't> fn(&'e [Piece<'t>]) -> Vec<&'e [Piece<'t>]>;

/// How many of the entries the author had on one line; at least one.
fn row(entries: &[Entry<'_>], block: &Block) -> usize {
    if !block.rows {
        return 1;
    }
    let more = entries.windows(2).take_while(|pair| match pair {
        [before, entry] => {
            !entry.begins_line && entry.remarks.is_empty() && before.trailing.is_none()
        }
        _ => false,
    });
    1 + more.count()
}

/// Fields that share a line, where they fit.
fn one_row(entries: &[Entry<'_>], block: &Block) -> Option<String> {
    let fields: Vec<String> =
        entries.iter().map(|e| flat(&e.pieces, false)).collect::<Option<_>>()?;
    let row = fields.join(" ");
    (entries.len() > 1 && block.indent + row.chars().count() <= WIDTH).then_some(row)
}

/// Pieces on one line; `None` where a comment or a group that the author opened forbids it.
fn flat(pieces: &[Piece<'_>], inline: bool) -> Option<String> {
    let mut out = String::new();
    let mut bound = true;
    for piece in pieces {
        let group;
        let text = match piece {
            Piece::Comment { .. } => return None,
            Piece::Group(inner) => {
                group = flat_group(inner, inline)?;
                &group
            }
            other => other.word(),
        };
        if !bound && text != "," {
            out.push(' ');
        }
        out.push_str(text);
        bound = text == "!";
    }
    Some(out)
}

fn flat_group(group: &Group<'_>, inline: bool) -> Option<String> {
    let inline = inline || group.scope.is_inline();
    if group.opening.is_some() || !group.ending.is_empty() {
        return None;
    }
    if !(inline || group.one_line || group.entries.is_empty()) {
        return None;
    }
    let mut entries = Vec::new();
    for entry in &group.entries {
        if entry.trailing.is_some() || !entry.remarks.is_empty() {
            return None;
        }
        entries.push(flat(&entry.pieces, inline)?);
    }
    let inside = entries.join(if group.scope.has_commas() { ", " } else { " " });
    Some(match group.scope {
        Scope::Values => format!("({inside})"),
        Scope::Quote => format!("( {inside} )"),
        _ if inside.is_empty() => "{}".to_owned(),
        _ => format!("{{ {inside} }}"),
    })
}

/// The parts of a rule (`from ...`, `on ...`, notes) or of a flow (`=> ...`); one for everything else.
fn clauses<'e, 't>(entry: &'e Entry<'t>) -> Vec<&'e [Piece<'t>]> {
    if !entry.sentence {
        return vec![&entry.pieces];
    }
    // A packet at a hook has words of those of rules.
    let first = entry.pieces.iter().find(|p| !matches!(p, Piece::Comment { .. }));
    let is_packet = first.map_or("", Piece::word) == "at";
    split(&entry.pieces, |[earlier, before], word| match word {
        "=>" => true,
        _ if is_packet => false,
        "from" | "to" | "on" | "owner" | "because" => {
            let names_follow = match before {
                "as" | "on" | "," | "entities" | "entity" | "service" | "arrives" => true,
                "port" | "ports" => earlier == "on",
                "namespace" => earlier == "in",
                _ => false,
            };
            // What follows `as` is the rule's name, whatever it reads like.
            earlier == "as" || !names_follow
        }
        _ => false,
    })
}

/// The peers, ports or facts of a clause. `except` and `entities` have commas within one peer.
fn items<'e, 't>(clause: &'e [Piece<'t>]) -> Vec<&'e [Piece<'t>]> {
    let first = clause.iter().find(|p| !matches!(p, Piece::Comment { .. }));
    match first.map_or("", Piece::word) {
        "from" | "to" => {}
        // Of a packet at a hook, one layer.
        "at" => return split(clause, |_, word| word == "/"),
        _ => return commas(clause),
    }
    split(clause, |[_, before], word| {
        before == "," && matches!(word, "pods" | "cidr" | "entities" | "entity" | "service")
    })
}

/// What the commas separate, each with its comma.
fn commas<'e, 't>(pieces: &'e [Piece<'t>]) -> Vec<&'e [Piece<'t>]> {
    split(pieces, |[_, before], _| before == ",")
}

/// Splits before each piece that begins a part, given the two words before it and its own; words of groups
/// are empty. A comment behind the last piece of a line stays with it, one on its own line goes with what
/// follows.
fn split<'e, 't>(
    pieces: &'e [Piece<'t>],
    begins: impl Fn([&str; 2], &str) -> bool,
) -> Vec<&'e [Piece<'t>]> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut words = ["", ""];
    let mut last: Option<usize> = None;
    for (at, piece) in pieces.iter().enumerate() {
        if matches!(piece, Piece::Comment { .. }) {
            continue;
        }
        let word = piece.word();
        if let Some(last) = last
            && begins(words, word)
        {
            let behind = pieces.get(last + 1);
            let stays = matches!(behind, Some(Piece::Comment { own_line: false, .. }));
            let cut = last + 1 + usize::from(stays);
            parts.extend(pieces.get(start..cut));
            start = cut;
        }
        words = [words[1], word];
        last = Some(at);
    }
    parts.extend(pieces.get(start..));
    parts
}
