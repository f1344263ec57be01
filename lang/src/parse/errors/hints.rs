//! Slips that have a reason of their own: what to do about each, told by what was found and where.

use engine::diag::Diagnostic;
use engine::source::Span;

use super::Expected;

/// Where the parser stopped.
pub(super) struct Place<'p> {
    /// What stands there.
    pub(super) found: &'p str,
    /// The text before it.
    pub(super) before: &'p str,
    /// What could have stood there.
    pub(super) expected: &'p Expected,
    /// The text could have ended here, and is a statement.
    pub(super) ends_statement: bool,
    /// Where what was found is.
    pub(super) span: Span,
}

impl Place<'_> {
    fn expects(&self, phrase: &str) -> bool {
        self.expected.phrases.iter().any(|p| p == phrase)
    }

    /// The word before the place.
    fn last_word(&self) -> &str {
        self.before.split_whitespace().next_back().unwrap_or("")
    }

    /// `fd00::10:80` before a protocol, which an address cannot have.
    fn address_and_port(&self) -> Option<(std::net::Ipv6Addr, u16)> {
        let written = self.last_word().parse::<std::net::Ipv6Addr>().ok()?;
        let text = written.to_string();
        let (address, port) = text.rsplit_once(':').filter(|_| self.found == "/")?;
        Some((address.parse().ok()?, port.parse().ok()?))
    }

    fn is_after_word(&self) -> bool {
        self.before.ends_with(|c: char| c.is_ascii_alphanumeric())
    }

    fn is_word(&self) -> bool {
        self.found.starts_with(|c: char| c.is_ascii_alphanumeric())
    }
}

/// Adds the advice that fits, where one does.
pub(super) fn hint(diagnostic: Diagnostic, place: &Place<'_>) -> Diagnostic {
    let found = place.found;
    let replace = |diagnostic: Diagnostic, message: &str, text: String| {
        diagnostic.fix(message.to_owned(), place.span, text)
    };
    if let Some((address, port)) = place.address_and_port() {
        return diagnostic.help(format!(
            "an IPv6 address with a port behind it stands in brackets: `[{address}]:{port}/PROTO`"
        ));
    }
    if place.expects("`cidr`") && found.parse::<ipnet::IpNet>().is_ok() {
        return replace(diagnostic, "a prefix stands after `cidr`", format!("cidr {found}"));
    }
    if place.expects("`entities`") && is_entity(found) {
        let text = format!("entities {found}");
        return replace(diagnostic, "a well-known group stands after `entities`", text);
    }
    if place.expects("a string in quotes") && place.is_word() {
        return replace(diagnostic, "put it in quotes", format!("\"{found}\""));
    }
    if place.expects("`allowed`")
        && let Some(verdict) = verdict(found)
    {
        return replace(diagnostic, "a verdict is `allowed` or `dropped`", verdict.to_owned());
    }
    match advice(place) {
        Some(advice) => diagnostic.help(advice),
        None => diagnostic,
    }
}

fn is_entity(word: &str) -> bool {
    engine::policy::Entity::ALL.iter().any(|(_, known)| *known == word)
}

/// What a person means who writes the action for the verdict.
fn verdict(word: &str) -> Option<&'static str> {
    match word {
        "allow" | "pass" | "passed" | "accept" | "accepted" | "forwarded" => Some("allowed"),
        "deny" | "denied" | "drop" | "default-deny" | "blocked" => Some("dropped"),
        _ => None,
    }
}

fn advice(place: &Place<'_>) -> Option<&'static str> {
    let (found, after_word) = (place.found, place.is_after_word());
    Some(match found {
        "-" | "." if after_word => "a name never ends in `-` or `.`",
        "-" | ">" | "=>" | "=" | "-->" if place.expects("`->`") => {
            "the arrow of a question is `->`"
        }
        "->" | "=" if place.expects("`=>`") => "what is expected stands after `=>`",
        ":" if place.expects("`:PORT`") || place.last_word().contains("::") => {
            "an IPv6 address before a port stands in brackets: `[fd00::1]:80`"
        }
        "#" => "a comment needs white space before its `#`",
        ";" => "neither fields nor lines end in `;`",
        "\"" => "a name here is written without quotes",
        "," if after_word => "fields are not separated by commas",
        "{" if place.expects("`on`") && place.before.trim_start().starts_with("pod") => {
            "a pod runs on a node: `pod NAMESPACE/NAME on NODE { ... }`"
        }
        "{" if place.before.trim_end().ends_with("in namespace") => {
            "`namespaces { ... }` chooses by labels, `namespace NAME` by name"
        }
        "from" | "to" => "peers come before ports: `from ... on ...`",
        "allow" | "deny" | "select" | "default-deny" => {
            "a rule ends with its line: begin a new one"
        }
        "->" if place.before.contains("=>") => "a flow ends with its line: begin a new one",
        "reply" | "send" | "wait" | "policy" | "remove" if place.before.contains("=>") => {
            "a step ends with its line: begin a new one"
        }
        _ if place.expects("an address") && found.starts_with(|c: char| c.is_ascii_digit()) => {
            "IPv4 is four numbers from 0 to 255, IPv6 up to eight groups of hex digits"
        }
        _ if place.ends_statement => "a statement ends with its line: begin a new one",
        _ if is_fact(found) => "facts are separated by commas: `=> allowed, conntrack new`",
        _ if place.expects("`{`") && place.last_word() == "select" => {
            "labels stand in braces: `select { app = \"echo\" }`"
        }
        _ => return None,
    })
}

fn is_fact(word: &str) -> bool {
    matches!(
        word,
        "conntrack"
            | "tunneled"
            | "tunnel"
            | "implied"
            | "identity"
            | "ttl"
            | "not"
            | "backend"
            | "snat"
            | "arrives"
            | "encrypted"
    )
}
