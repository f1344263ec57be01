//! Names of the DNS and patterns of them, with the reference's rules for what a pattern matches. Never who asked for a
//! name, and never an address.

use std::fmt;
use std::net::IpAddr;

/// A name as it is compared: lower case, without the dot at its end.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(String);

/// A name in which `*` stands for any characters of one label, none included; `*` alone is every name. Never crosses a
/// dot otherwise (`pkg/fqdn/matchpattern`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsPattern(String);

/// Longest name, without the dot at its end (RFC 1035 2.3.4).
const LONGEST_NAME: usize = 253;
/// Longest label.
const LONGEST_LABEL: usize = 63;

impl DnsName {
    /// Reads a host's name as RFC 1123 has it.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence about it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.contains('*') {
            return Err("is a pattern: an address belongs to whole names".to_owned());
        }
        let name = normal(text)?;
        let is_word = |label: &str| label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        match name.split('.').find(|label| !is_word(label)) {
            Some(label) => Err(format!("has other than letters, digits and `-` in `{label}`")),
            None => Ok(Self(name)),
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl DnsPattern {
    /// Reads a name or a pattern.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence about it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let pattern = normal(text)?;
        let is_known = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*');
        if let Some(label) = pattern.split('.').find(|label| !label.bytes().all(is_known)) {
            return Err(format!("has other than letters, digits, `-`, `_` and `*` in `{label}`"));
        }
        if pattern.contains("**") {
            return Err("has `**`: one `*` already stands for any number of characters".to_owned());
        }
        Ok(Self(pattern))
    }

    /// Whether a name is meant.
    pub fn matches(&self, name: &DnsName) -> bool {
        if self.0 == "*" {
            return true;
        }
        let (mut wanted, mut labels) = (self.0.split('.'), name.0.split('.'));
        loop {
            match (wanted.next(), labels.next()) {
                (None, None) => return true,
                (Some(wanted), Some(label)) if is_label(wanted, label) => {}
                _ => return false,
            }
        }
    }

    /// Whether it means more than one name.
    pub fn is_pattern(&self) -> bool {
        self.0.contains('*')
    }

    /// A name that it would match.
    pub fn example(&self) -> String {
        if self.0 == "*" { "www.example.com".to_owned() } else { self.0.replace('*', "www") }
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for DnsPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Lower case and without the last dot, with lengths and hyphens checked.
fn normal(text: &str) -> Result<String, String> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if name.parse::<IpAddr>().is_ok() {
        return Err("is an address: a rule names it by `cidr`".to_owned());
    }
    if name.len() > LONGEST_NAME {
        return Err(format!("has {} characters, a name has at most {LONGEST_NAME}", name.len()));
    }
    for label in name.split('.') {
        if label.is_empty() {
            return Err("has nothing between two dots, or nothing at all".to_owned());
        }
        if label.len() > LONGEST_LABEL {
            return Err(format!(
                "has {} characters in `{label}`, at most {LONGEST_LABEL} stand between dots",
                label.len()
            ));
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err(format!("begins or ends `{label}` with `-`"));
        }
    }
    Ok(name)
}

/// Whether a label is meant by its part of a pattern: what stands between the stars, in order.
fn is_label(wanted: &str, label: &str) -> bool {
    let mut parts = wanted.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = label.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or("");
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stay_within_a_label() {
        let cases = [
            ("www.google.com", "www.google.com", true),
            ("WWW.Google.com.", "www.google.com", true),
            ("*.google.com", "www.google.com", true),
            ("*.google.com", "google.com", false),
            ("*.google.com", "a.www.google.com", false),
            ("*.*.google.com", "a.www.google.com", true),
            ("sub*.cilium.io", "subdomain.cilium.io", true),
            ("sub*.cilium.io", "sub.cilium.io", true),
            ("w*w*w.x", "wawbw.x", true),
            ("w*w.x", "w.x", false),
            ("*", "a.b.c", true),
            ("*", "localhost", true),
            ("*.com", "google.com", true),
            ("www.*", "www.x", true),
        ];
        for (pattern, name, expected) in cases {
            let pattern = DnsPattern::parse(pattern).unwrap();
            assert_eq!(
                pattern.matches(&DnsName::parse(name).unwrap()),
                expected,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn names_are_of_hosts() {
        let long = format!("{}.com", "a".repeat(64));
        let longer = vec!["abcdefg"; 40].join(".");
        for wrong in ["", ".", "a..b", "-a.b", "a-.b", "a_b.c", "*.a", "1.2.3.4", &long, &longer] {
            assert!(DnsName::parse(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "a b", "**.a", "10.0.0.1", "2001:db8::1", "a.-*"] {
            assert!(DnsPattern::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(DnsName::parse("A-1.Example.").map(|n| n.to_string()), Ok("a-1.example".into()));
    }
}
