//! `explain CODE`: what a diagnostic code or a drop reason means. A code's text is the registry's; a drop
//! reason's is its page in the book, which is thereby the one source of both.

use std::fmt::Write;

use engine::diag::Code;
use engine::reason::DropReason;
use lang::codes::{self, CodeInfo};

use crate::reply::{Reply, Status};

/// Explains `HW0200`, `unknown-endpoint`, `133` or `policy-denied`. A bare number is a drop reason's.
pub(crate) fn explain(word: &str) -> Reply {
    if let Some(info) = code(word) {
        return Reply::text(of_code(info));
    }
    match reason(word) {
        Some(reason) => Reply::text(plain(page(reason))),
        None => unknown(word),
    }
}

/// The diagnostic code of `HW0200`, `hw200` or a name.
fn code(word: &str) -> Option<&'static CodeInfo> {
    let upper = word.to_ascii_uppercase();
    match upper.strip_prefix("HW").and_then(|number| number.parse().ok()) {
        Some(number) => codes::find(Code(number)),
        None => codes::ALL.iter().find(|info| info.name == word),
    }
}

fn reason(word: &str) -> Option<DropReason> {
    match word.parse() {
        Ok(number) => DropReason::from_code(number),
        Err(_) => DropReason::ALL.iter().copied().find(|reason| reason.name() == word),
    }
}

fn unknown(word: &str) -> Reply {
    let message = format!("no diagnostic code or drop reason `{word}`");
    let number: Option<u16> = word.parse().ok();
    let same = number.map(Code).filter(|code| codes::find(*code).is_some());
    let names = codes::ALL.iter().map(|info| info.name);
    let names = names.chain(DropReason::ALL.iter().map(|reason| reason.name()));
    let near = names
        .map(|name| (strsim::jaro_winkler(name, word), name))
        .filter(|(nearness, _)| *nearness > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    let remedy = match (same, near) {
        (Some(code), _) => format!("the diagnostic of this number is `{code}`"),
        (None, Some((_, name))) => format!("did you mean `{name}`?"),
        (None, None) => "codes look like `HW0200`, drop reasons like `133` or `policy-denied`; \
                         the book lists both"
            .to_owned(),
    };
    Reply::failure(Status::Usage, message, remedy)
}

fn of_code(info: &CodeInfo) -> String {
    let CodeInfo { code, name, title, explanation, wrong, right } = info;
    let mut text = format!("{code} {name}: {title}\n\n{explanation}\n");
    for (heading, example) in [("Wrong", wrong), ("Right", right)] {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "\n{heading}:");
        for line in example.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// Markdown as a terminal shows it: headings without marks, links by their text.
fn plain(page: &str) -> String {
    let lines = page.lines().map(|line| without_links(line.trim_start_matches('#').trim_start()));
    lines.collect::<Vec<_>>().join("\n")
}

/// `see [133](133-policy-denied.md)` as `see 133`.
fn without_links(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('[') {
        text.push_str(before);
        let target = after.split_once("](").and_then(|(shown, rest)| {
            let (_, rest) = rest.split_once(')')?;
            (!shown.contains(']')).then_some((shown, rest))
        });
        let (shown, after) = target.unwrap_or(("[", after));
        text.push_str(shown);
        rest = after;
    }
    text + rest
}

/// The book's page of a reason.
fn page(reason: DropReason) -> &'static str {
    use DropReason as R;
    macro_rules! page {
        ($file:literal) => {
            include_str!(concat!("../../book/src/reasons/", $file))
        };
    }
    match reason {
        R::InvalidSourceIp => page!("132-invalid-source-ip.md"),
        R::PolicyDenied => page!("133-policy-denied.md"),
        R::InvalidPacket => page!("134-invalid-packet.md"),
        R::CtInvalidHeader => page!("135-ct-invalid-header.md"),
        R::CtUnknownProtocol => page!("137-ct-unknown-protocol.md"),
        R::UnknownL3 => page!("139-unsupported-l3-protocol.md"),
        R::MissedTailCall => page!("140-missed-tail-call.md"),
        R::WriteError => page!("141-write-error.md"),
        R::NoTunnelKey => page!("147-no-tunnel-key.md"),
        R::CtCreateFailed => page!("155-ct-create-failed.md"),
        R::InvalidExtensionHeader => page!("156-invalid-extension-header.md"),
        R::FragmentNotSupported => page!("157-fragment-not-supported.md"),
        R::NoService => page!("158-no-service.md"),
        R::UnsupportedServiceProtocol => page!("159-unsupported-service-protocol.md"),
        R::UnsupportedL2 => page!("166-unsupported-l2-protocol.md"),
        R::NatNoMapping => page!("167-nat-no-mapping.md"),
        R::NoFib => page!("169-no-fib.md"),
        R::EncapProhibited => page!("170-encapsulation-prohibited.md"),
        R::InvalidIdentity => page!("171-invalid-identity.md"),
        R::IsClusterIp => page!("174-is-cluster-ip.md"),
        R::FragmentNotFound => page!("175-fragment-not-found.md"),
        R::NotInSourceRange => page!("177-not-in-source-range.md"),
        R::PolicyDeny => page!("181-policy-deny.md"),
        R::TtlExceeded => page!("196-ttl-exceeded.md"),
        R::EndpointNotReady => page!("203-endpoint-not-ready.md"),
        R::Prefiltered => page!("240-prefiltered.md"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reply::Content;

    fn said(word: &str) -> String {
        match explain(word).content {
            Content::Text(text) => text,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn every_reason_has_the_page_of_its_number() {
        for reason in DropReason::ALL {
            let title = format!("{} {}\n", reason.code(), reason.name());
            for word in [reason.code().to_string(), reason.name().to_owned()] {
                assert!(said(&word).starts_with(&title), "{word}: {}", said(&word));
            }
        }
    }

    #[test]
    fn every_code_is_found_by_number_and_name() {
        for info in codes::ALL {
            let title = format!("{} {}: {}\n", info.code, info.name, info.title);
            for word in [info.code.to_string(), info.name.to_owned()] {
                assert!(said(&word).starts_with(&title), "{word}: {}", said(&word));
            }
        }
        assert!(said("hw200").starts_with("HW0200 unknown-endpoint"));
    }

    #[test]
    fn pages_read_as_text() {
        let page = said("policy-deny");
        assert!(page.contains("\nWhat to do next\n"), "{page}");
        assert!(page.contains("The default deny is 133."), "{page}");
        assert_eq!(without_links("a [b] c [d](e.md), [f"), "a [b] c d, [f");
    }

    #[test]
    fn unknown_words_are_answered_with_what_may_be_meant() {
        let remedy = |word: &str| match explain(word).content {
            Content::Failure(failure) => failure.remedy.unwrap_or_default(),
            other => format!("{other:?}"),
        };
        assert_eq!(remedy("policy-denid"), "did you mean `policy-denied`?");
        assert_eq!(remedy("202"), "the diagnostic of this number is `HW0202`");
        assert!(remedy("xyzzy").starts_with("codes look like"), "{}", remedy("xyzzy"));
        assert_eq!(explain("HW9999").status, Status::Usage);
    }
}
