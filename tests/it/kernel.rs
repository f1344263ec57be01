//! Sessions on the datapath: in the kernel where this machine can run it, else in the interpreter, which is said;
//! `HOPWISE_REQUIRE=kernel` makes that a failure.

use std::sync::OnceLock;

use repl::backend::Choice;
use repl::render::{self, Options};
use repl::reply::Reply;
use repl::session::Session;

use crate::tree::root;

/// What the tests must not skip, separated by commas.
const REQUIRE: &str = "HOPWISE_REQUIRE";

/// A session without any text, in the repository's root.
pub(crate) fn session() -> Session {
    // The same for every test of the process, so that no order matters.
    std::env::set_current_dir(root()).expect("the root is there");
    require();
    Session::new(repl::backend::open)
}

/// A session whose every packet runs in the kernel and in the interpreter, which must say and leave behind the same;
/// in the interpreter alone where the kernel cannot be had.
pub(crate) fn session_on_both() -> Session {
    let mut session = session();
    session.settings_mut().backend = both();
    session
}

/// Kernel and interpreter side by side; the interpreter alone where the kernel cannot be had, which is said.
pub(crate) fn both() -> Choice {
    if require() { Choice::Both } else { Choice::Vm }
}

/// Whether the kernel can be had. Fails where it is required and cannot be had; tried once.
pub(crate) fn require() -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let missing =
        MISSING.get_or_init(|| repl::backend::open(Choice::Kernel).err().map(|e| e.to_string()));
    let Some(missing) = missing else { return true };
    assert!(!is_required("kernel"), "the kernel is required: {missing}");
    skip(&format!("the kernel, so that the interpreter answers: {missing}"));
    false
}

/// Whether a test must not skip for want of something.
pub(crate) fn is_required(what: &str) -> bool {
    let required = std::env::var(REQUIRE).unwrap_or_default();
    required.split(',').any(|each| each == what)
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

/// A text with what the host determines replaced by one value: who answers, and the kernel's release.
pub(crate) fn settled(text: &str) -> String {
    const NAME: &str = "kernel ";
    const INSTEAD: &str = "vm (kernel not available: ";
    if let Some((before, after)) = text.split_once(INSTEAD) {
        let (_, after) = after.split_once(')').unwrap_or_default();
        return format!("{before}kernel 6.18{}", settled(after));
    }
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
    let instead = "checked vm (kernel not available: no CAP_BPF); oracle agrees; kernel 5.10";
    assert_eq!(settled(instead), "checked kernel 6.18; oracle agrees; kernel 6.18");
}
