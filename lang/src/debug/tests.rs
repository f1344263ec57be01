//! Every form of every command, every error with its place, and garbage.

mod complete;
mod conditions;
mod garbage;
mod lines;
mod refused;

use engine::source::FileId;

use super::*;

/// A line's command, or what is wrong with it and where.
fn said(text: &str) -> String {
    match parse(text, FileId(0)) {
        Ok(command) => shown(&command),
        Err(problems) => {
            let told: Vec<String> = problems
                .iter()
                .map(|d| {
                    let at = d.span().start as usize..d.span().end as usize;
                    format!("{} at {:?}: {}", d.code, text.get(at).unwrap_or("?"), d.message)
                })
                .collect();
            told.join("; ")
        }
    }
}

/// The command without its places, which the errors' tests look at.
fn shown(command: &DebugCommand) -> String {
    without_spans(&format!("{command:?}"))
}

/// `Spanned { node: X, span: ... }` as X.
fn without_spans(text: &str) -> String {
    const OPEN: &str = "Spanned { node: ";
    const SPAN: &str = ", span: Span { file: FileId(0), start: ";
    let mut text = text.to_owned();
    while let Some(at) = text.find(SPAN) {
        let end = at + text[at..].find(" } }").map_or(text.len() - at, |length| length + 4);
        let open = text[..at].rfind(OPEN).unwrap_or(at);
        text = format!("{}{}{}", &text[..open], &text[open + OPEN.len()..at], &text[end..]);
    }
    text
}
