//! Words of which a beginning does: which of some words is meant.

use super::table::Entry;

/// What a word may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Choice<T> {
    /// This.
    One(T),
    /// It begins all of these.
    Several(Vec<&'static str>),
    /// It begins nothing.
    Nothing,
}

/// The word among some. What is written out wins; then what it begins, where that is one thing, or where one of
/// the words begins all others, as `step` does `stepi`.
pub(super) fn choose<T: Copy + PartialEq>(
    word: &str,
    among: impl Iterator<Item = (&'static str, T)> + Clone,
) -> Choice<T> {
    if let Some((_, exact)) = among.clone().find(|(known, _)| *known == word) {
        return Choice::One(exact);
    }
    let begun: Vec<(&str, T)> =
        among.filter(|(known, _)| !word.is_empty() && known.starts_with(word)).collect();
    let Some(&(_, first)) = begun.first() else { return Choice::Nothing };
    if begun.iter().all(|(_, value)| *value == first) {
        return Choice::One(first);
    }
    let root = begun.iter().find(|(root, _)| begun.iter().all(|(w, _)| w.starts_with(root)));
    match root {
        Some((_, value)) => Choice::One(*value),
        None => Choice::Several(begun.into_iter().map(|(known, _)| known).collect()),
    }
}

/// The word among those of a table.
pub(super) fn choose_entry<T: Copy + PartialEq>(word: &str, table: &[Entry<T>]) -> Choice<T> {
    choose(word, table.iter().map(|(known, value, _)| (*known, *value)))
}

/// The words of a table.
pub(super) fn words<T>(table: &[Entry<T>]) -> Vec<&'static str> {
    table.iter().map(|(word, ..)| *word).collect()
}

/// `a`, `b` or `c`.
pub(super) fn either(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginnings_do_where_they_are_one_things() {
        let table =
            [("step", 1), ("stepi", 2), ("start", 3), ("end", 4), ("event", 5), ("enter", 4)];
        for (word, expected) in [
            ("step", Choice::One(1)),
            ("ste", Choice::One(1)),
            ("stepi", Choice::One(2)),
            ("sta", Choice::One(3)),
            ("st", Choice::Several(vec!["step", "stepi", "start"])),
            ("en", Choice::One(4)),
            ("e", Choice::Several(vec!["end", "event", "enter"])),
            ("stepp", Choice::Nothing),
            ("", Choice::Nothing),
        ] {
            assert_eq!(choose(word, table.into_iter()), expected, "{word}");
        }
    }
}
