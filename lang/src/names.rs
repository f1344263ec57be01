//! "Did you mean": the nearest of some names, and the names there are.

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

/// How many names a message lists.
const MOST_LISTED: usize = 20;

/// The names with commas between them; of many the first, and how many more there are.
pub(crate) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut names = names.into_iter();
    let first: Vec<&str> = names.by_ref().take(MOST_LISTED).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
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

    #[test]
    fn many_names_are_counted() {
        let names: Vec<String> = (0..23).map(|at| at.to_string()).collect();
        let few = names.iter().take(3).map(String::as_str);
        assert_eq!(listed(few), "0, 1, 2");
        assert!(listed(names.iter().map(String::as_str)).ends_with("18, 19 and 3 more"));
    }
}
