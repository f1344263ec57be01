//! Sessions on the kernel's datapath, where this machine can run it. Says why it skips; `HOPWISE_REQUIRE=kernel`
//! turns a skip into a failure.

use std::sync::OnceLock;

use repl::render::{self, Options};
use repl::reply::Reply;
use repl::session::Session;

use crate::tree::root;

/// What the tests must not skip, separated by commas.
const REQUIRE: &str = "HOPWISE_REQUIRE";

/// A session without any text, whose questions run in the kernel, in the repository's root.
pub(crate) fn session() -> Option<Session> {
    // The same for every test of the process, so that no order matters.
    std::env::set_current_dir(root()).expect("the root is there");
    is_available().then(|| Session::new(repl::backend::open))
}

/// Whether questions can be answered here; tried once.
pub(crate) fn is_available() -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing = MISSING.get_or_init(|| {
        repl::backend::open(repl::backend::Choice::Kernel).err().map(|e| e.to_string())
    });
    let Some(missing) = missing else { return true };
    let required = std::env::var(REQUIRE).unwrap_or_default();
    assert!(!required.split(',').any(|what| what == "kernel"), "the kernel is required: {missing}");
    skip(missing);
    false
}

/// Says why a test does nothing here.
#[expect(
    clippy::print_stderr,
    reason = "cargo shows what a test prints; there is no other way to say it"
)]
pub(crate) fn skip(why: &str) {
    eprintln!("skipped: {why}");
}

/// A reply as a person reads it, without its warnings.
pub(crate) fn text(reply: &Reply) -> String {
    let mut out = Vec::new();
    render::text(reply, &Options::default(), &mut out).expect("memory takes all");
    String::from_utf8(out).expect("text is UTF-8")
}

/// A text with what the host determines replaced by one value: the kernel's release.
pub(crate) fn settled(text: &str) -> String {
    const NAME: &str = "kernel ";
    let mut settled = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(NAME) {
        let end = after.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(after.len());
        settled.push_str(before);
        settled.push_str(NAME);
        if after.starts_with(|c: char| c.is_ascii_digit()) {
            settled.push_str("6.18");
            rest = &after[end..];
        } else {
            rest = after;
        }
    }
    settled + rest
}

#[test]
fn the_kernels_release_is_settled() {
    assert_eq!(settled("checked kernel 5.10; oracle agrees"), "checked kernel 6.18; oracle agrees");
    assert_eq!(settled("the kernel refused"), "the kernel refused");
}
