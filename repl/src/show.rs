//! The tables behind `show NOUN`. Owns which columns there are; layout is `render`'s.

/// Every noun that `show` knows, with whether it takes an argument and one line of help.
pub const NOUNS: &[Noun] = &[
    Noun { word: "pods", argument: None, help: "pods, and what isolates them" },
    Noun { word: "nodes", argument: None, help: "nodes and their addresses" },
    Noun { word: "endpoints", argument: Some("NODE"), help: "endpoints of every node, or of one" },
    Noun { word: "tunnel", argument: Some("NODE"), help: "tunnel table of every node, or of one" },
    Noun {
        word: "identities",
        argument: None,
        help: "security identities and what they stand for",
    },
    Noun {
        word: "policies",
        argument: None,
        help: "policies, whom they select and how many that is",
    },
    Noun { word: "selectors", argument: None, help: "selectors of rules and the pods they match" },
    Noun { word: "ipcache", argument: Some("NODE"), help: "ipcache of every node, or of one" },
    Noun {
        word: "policy",
        argument: Some("POD"),
        help: "policy tables of a pod, with the rules behind them",
    },
    Noun {
        word: "conntrack",
        argument: Some("NODE"),
        help: "connections known on every node, or on one",
    },
];

/// A noun of `show`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noun {
    /// The word.
    pub word: &'static str,
    /// What may (for `policy`: must) follow.
    pub argument: Option<&'static str>,
    /// One line of help.
    pub help: &'static str,
}
