//! "Did you mean": the nearest of some names.

/// The name nearest to a word, where it is near enough to be a slip of the hand: a third of the letters at
/// most, and at least one.
pub(crate) fn nearest<'n>(word: &str, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let limit = (word.chars().count() / 3).max(1);
    names
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(word, name), name))
        .filter(|(distance, name)| *distance <= limit && *distance < name.chars().count())
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_slips_are_suggested() {
        let names = ["ingress", "egress", "ip", "labels"];
        for (word, expected) in [
            ("ingres", Some("ingress")),
            ("egerss", Some("egress")),
            ("lables", Some("labels")),
            ("p", Some("ip")),
            ("x", None),
            ("", None),
            ("select", None),
        ] {
            assert_eq!(nearest(word, names), expected, "{word}");
        }
    }
}
