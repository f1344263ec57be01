//! The session on a terminal, in a pseudo-terminal of the test's own: what a person sees and what the keys do.

use std::path::{Path, PathBuf};

use rexpect::process::WaitStatus;
use rexpect::session::{PtySession, spawn_command};

use crate::binary::hopwise;

/// How long an answer may take, in milliseconds.
const PATIENCE: u64 = 20_000;

/// What begins a new line of input: the terminal is told to mark pasted text, then the prompt.
const INPUT: &str = "\x1b[?2004h";
const PROMPT: &str = "hopwise> ";
/// The prompt at a stop.
const STOP: &str = "debug> ";

/// A session on a terminal, with a home of its own.
struct Terminal {
    session: PtySession,
}

impl Terminal {
    fn open(state: &Path, arguments: &[&str]) -> Self {
        let mut terminal = Self::spawn(state, arguments);
        terminal.prompt();
        terminal
    }

    fn spawn(state: &Path, arguments: &[&str]) -> Self {
        let mut command = hopwise();
        command.args(arguments).env("TERM", "xterm").env("XDG_STATE_HOME", state);
        let session = spawn_command(command, Some(PATIENCE)).expect("a pseudo-terminal opens");
        Self { session }
    }

    /// Types a line and Enter, which on a terminal is a carriage return.
    fn enter(&mut self, line: &str) {
        self.keys(&format!("{line}\r"));
    }

    /// Types without Enter.
    fn keys(&mut self, keys: &str) {
        self.session.send(keys).expect("the terminal takes input");
        self.session.flush().expect("the terminal takes input");
    }

    fn control(&mut self, key: char) {
        self.session.send_control(key).expect("the terminal takes input");
    }

    /// Waits for a text; gives back what came before it.
    fn see(&mut self, text: &str) -> String {
        let seen = self.session.exp_string(text);
        assert!(seen.is_ok(), "`{text}` does not come: {seen:?}");
        seen.unwrap_or_default()
    }

    /// Waits for a new line of input.
    fn prompt(&mut self) {
        self.see(INPUT);
        self.see(PROMPT);
    }

    /// Waits for a new line of input of the debugger; gives back what came before it.
    fn stop(&mut self) -> String {
        let seen = self.see(INPUT);
        self.see(STOP);
        seen
    }

    /// Waits for the end, which must be a good one; gives back what was said last.
    fn end_well(mut self) -> String {
        let rest = self.session.exp_eof();
        assert!(rest.is_ok(), "the session does not end: {rest:?}");
        let status = self.session.process().wait().expect("the program has ended");
        assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
        rest.unwrap_or_default()
    }

    /// Waits for the end; gives back what was said last.
    fn end(mut self) -> String {
        let rest = self.session.exp_eof();
        assert!(rest.is_ok(), "the session does not end: {rest:?}");
        rest.unwrap_or_default()
    }
}

/// A directory for the state of one test, gone with the value.
struct State(PathBuf);

impl State {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("hopwise-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory can be made");
        Self(path)
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // A left-over in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const WORLD: &[&str] = &["-f", "fixtures/worlds/two-nodes.hop"];

#[test]
fn control_d_leaves_and_control_c_clears() {
    let state = State::new("leave");
    let mut terminal = Terminal::open(&state.0, WORLD);
    terminal.keys("this is no comm");
    terminal.control('c');
    terminal.prompt();
    terminal.enter("show nodes");
    terminal.see("node02");
    terminal.prompt();
    terminal.control('d');
    let rest = terminal.end();
    assert!(!rest.contains("error"), "{rest}");
}

#[test]
fn tab_completes_commands_and_names() {
    let state = State::new("complete");
    let mut terminal = Terminal::open(&state.0, WORLD);
    terminal.keys("show pol\t");
    terminal.see("polic");
    terminal.keys("\t\t");
    terminal.see("policies");
    terminal.see("policy");
    terminal.control('c');
    terminal.prompt();
    terminal.keys("show policy shop/str\t");
    terminal.see("shop/stranger");
    terminal.enter("");
    terminal.prompt();
    terminal.enter("quit");
    terminal.end();
}

#[test]
fn a_statement_may_span_lines_and_undo_takes_it_back() {
    let state = State::new("lines");
    let mut terminal = Terminal::open(&state.0, WORLD);
    terminal.enter("policy shop/server {");
    terminal.see("... ");
    terminal.enter("  select { app = \"server\" }");
    terminal.see("... ");
    terminal.enter("  default-deny ingress");
    terminal.see("... ");
    terminal.enter("}");
    terminal.see("added policy shop/server");
    terminal.prompt();
    terminal.enter("undo");
    terminal.see("took back: added policy shop/server");
    terminal.enter("quit");
    terminal.end();
}

#[test]
fn lines_that_are_typed_ahead_are_not_lost() {
    let state = State::new("ahead");
    let mut terminal = Terminal::open(&state.0, WORLD);
    // The second comes in one piece with the first, the third and fourth while commands run.
    terminal.keys("show nodes\rshow tunnel\r");
    terminal.keys("shop/client -> shop/server:80/tcp\rshow pods\r");
    terminal.see("POD-CIDRS");
    terminal.see("TUNNEL-ENDPOINT");
    terminal.see("ALLOWED");
    terminal.see("shop/stranger");
    terminal.prompt();
    terminal.enter("quit");
    terminal.end_well();
}

#[test]
fn pasted_lines_run_one_after_the_other() {
    let state = State::new("paste");
    let mut terminal = Terminal::open(&state.0, WORLD);
    let pasted = "set conntrack keep\r\rpolicy shop/server {\r  select { app = \"server\" }\r}\rshow polcies\rshow policies\r";
    terminal.keys(&format!("\x1b[200~{pasted}\x1b[201~"));
    terminal.enter("");
    terminal.see("added policy shop/server");
    // One that fails does not keep the next from running.
    terminal.see("`polcies` is not something to show");
    terminal.see("hopwise> show policies");
    terminal.see("shop/server");
    terminal.prompt();
    terminal.keys(UP);
    terminal.see("show policies");
    terminal.keys(UP);
    terminal.see("show polcies");
    terminal.control('c');
    terminal.prompt();
    terminal.enter("undo");
    terminal.see("took back: added policy shop/server");
    terminal.enter("quit");
    terminal.end_well();
}

#[test]
fn control_c_leaves_a_half_typed_statement() {
    let state = State::new("half");
    let mut terminal = Terminal::open(&state.0, WORLD);
    terminal.enter("policy shop/server {");
    terminal.see("... ");
    terminal.control('c');
    terminal.prompt();
    terminal.enter("show policies");
    terminal.see("no policies");
    terminal.enter("quit");
    terminal.end();
}

#[test]
fn leaving_with_unsaved_changes_is_asked_once() {
    let state = State::new("unsaved");
    let mut terminal = Terminal::open(&state.0, WORLD);
    terminal.enter("external search { ip 142.250.74.36 }");
    terminal.see("added external search");
    terminal.prompt();
    terminal.enter("quit");
    terminal.see("unsaved changes");
    terminal.prompt();
    terminal.enter("quit");
    terminal.end();
}

#[test]
fn history_lives_on_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;

    let state = State::new("history");
    let mut terminal = Terminal::open(&state.0, WORLD);
    terminal.enter("show nodes");
    terminal.see("node02");
    terminal.prompt();
    terminal.enter(" show tunnel");
    terminal.prompt();
    terminal.enter("quit");
    terminal.end();

    let file = state.0.join("hopwise/history");
    let mode = std::fs::metadata(&file).expect("the history is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).expect("the history can be read");
    assert!(text.contains("show nodes\n") && !text.contains("tunnel"), "{text}");

    let mut terminal = Terminal::open(&state.0, WORLD);
    terminal.keys(&format!("{UP}{UP}"));
    terminal.see("show nodes");
    terminal.enter("");
    terminal.see("node02");
    terminal.enter("quit");
    terminal.end();
}

#[test]
fn control_c_ends_a_long_command_and_not_the_session() {
    let state = State::new("interrupt");
    // Many more cases than run in the time between two keys.
    let flows = "  shop/client -> shop/server:80/tcp => allowed\n".repeat(20_000);
    let file = state.0.join("many.hop");
    let world = crate::tree::root().join("fixtures/worlds/two-nodes.hop");
    let text = format!("include \"{}\"\ntest \"many\" {{\n{flows}}}\n", world.display());
    std::fs::write(&file, text).expect("a scratch file can be written");
    let mut terminal = Terminal::open(&state.0, &["-f", &file.display().to_string()]);
    terminal.enter("test");
    // The command has begun when its line has been echoed and the input is closed.
    terminal.see("\u{1b}[?2004l");
    terminal.control('c');
    terminal.see("interrupted after");
    terminal.prompt();
    terminal.enter("show nodes");
    terminal.see("node02");
    terminal.prompt();
    terminal.control('d');
    terminal.end();
}

const UP: &str = "\x1b[A";
const QUESTION: &str = "web/client -> web/echo-0:9000/tcp";
const DEBUG: &[&str] = &["debug", "-f", "fixtures/shop.hop", QUESTION];

#[test]
fn an_empty_line_at_a_stop_repeats_the_last_command() {
    let state = State::new("debug-repeat");
    let mut terminal = Terminal::spawn(&state.0, DEBUG);
    terminal.see("event     1:");
    terminal.stop();
    terminal.enter("step event");
    terminal.see("event     2:");
    terminal.stop();
    terminal.enter("");
    terminal.see("event     3:");
    terminal.stop();
    terminal.enter("back");
    terminal.see("event     2:");
    terminal.stop();
    // Twice the same breakpoint is of no use.
    terminal.enter("break drop");
    terminal.see("breakpoint 1  drop");
    terminal.stop();
    terminal.enter("");
    let seen = terminal.stop();
    assert!(!seen.contains("event") && !seen.contains("breakpoint"), "{seen}");
    terminal.enter("quit");
    let rest = terminal.end_well();
    assert!(!rest.contains("error"), "{rest}");
}

#[test]
fn tab_completes_at_a_stop() {
    let state = State::new("debug-complete");
    let mut terminal = Terminal::spawn(&state.0, DEBUG);
    terminal.stop();
    terminal.keys("break lo\t");
    terminal.see("break lookup ");
    // In either case, where the map is written so.
    terminal.keys("pol\t");
    terminal.see("break lookup POLICY ");
    terminal.keys("if dst-p\t");
    terminal.see("if dst-port ");
    terminal.enter("== 9000");
    terminal.see("breakpoint 1  lookup POLICY if dst-port == 9000");
    terminal.stop();
    terminal.keys("break helper redirect_p\t");
    terminal.see("break helper redirect_peer ");
    terminal.control('c');
    terminal.stop();
    terminal.keys("break rule web/echo-access#pr\t");
    terminal.see("web/echo-access#probes ");
    terminal.control('c');
    terminal.stop();
    terminal.keys("break policy::j\t");
    terminal.see("break policy::judge ");
    terminal.control('c');
    terminal.stop();
    terminal.keys("delete \t");
    terminal.see("delete 1 ");
    terminal.enter("");
    terminal.stop();
    terminal.enter("info breakpoints");
    let seen = terminal.stop();
    assert!(!seen.contains("POLICY"), "{seen}");
    terminal.enter("quit");
    terminal.end_well();
}

#[test]
fn control_c_and_history_work_at_a_stop() {
    let state = State::new("debug-keys");
    let mut terminal = Terminal::spawn(&state.0, DEBUG);
    terminal.stop();
    terminal.enter("info sources");
    terminal.see("policy.rs");
    terminal.stop();
    terminal.keys("delete everyth");
    terminal.control('c');
    terminal.stop();
    terminal.keys(UP);
    terminal.see("info sources");
    terminal.enter("");
    terminal.see("policy.rs");
    terminal.stop();
    terminal.control('d');
    let rest = terminal.end_well();
    assert!(!rest.contains("error"), "{rest}");
}

#[test]
fn quit_at_a_stop_goes_back_to_the_session() {
    let state = State::new("debug-quit");
    let mut terminal = Terminal::open(&state.0, &["-f", "fixtures/shop.hop"]);
    terminal.keys("debug web/cli\t");
    terminal.see("debug web/client ");
    terminal.enter("-> web/echo-0:9000/tcp");
    terminal.see("event     1:");
    terminal.stop();
    terminal.enter("step");
    terminal.see("event     2:");
    terminal.stop();
    terminal.enter("quit");
    terminal.prompt();
    terminal.enter("show nodes");
    terminal.see("node02");
    terminal.prompt();
    // What was typed at the stop is in the history too.
    terminal.keys(&format!("{UP}{UP}{UP}"));
    terminal.see("step");
    terminal.control('c');
    terminal.prompt();
    terminal.enter("quit");
    terminal.end_well();
}
