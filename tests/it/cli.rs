//! The command line as a person or a script uses it: exit codes, error paths, and outputs that other programs read.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::binary::{hopwise, seen};
use crate::kernel;

const WORLD: &str = "fixtures/worlds/two-nodes.hop";

/// Output and exit code of a command line without standard input.
pub(crate) fn run(arguments: &[&str]) -> (String, i32) {
    run_with(hopwise().args(arguments), "")
}

/// The same with standard input.
fn run_with(command: &mut Command, input: &str) -> (String, i32) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("hopwise starts");
    let mut stdin = child.stdin.take().expect("standard input is piped");
    // A program that ends before it reads all is the test's business, not this one's.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    seen(&child.wait_with_output().expect("hopwise ends"))
}

/// What every output must hold: the exit code, some text, and no trace of a panic.
fn check(arguments: &[&str], code: i32, said: &str) {
    let (text, came) = run(arguments);
    assert_eq!(came, code, "{arguments:?}:\n{text}");
    assert!(text.contains(said), "{arguments:?}: no `{said}` in\n{text}");
    assert!(!text.contains("panicked") && !text.contains("bug of hopwise:"), "{text}");
}

/// Standard output as JSON.
fn json(arguments: &[&str], code: i32) -> Value {
    document(hopwise().args(arguments), code)
}

/// Standard output as the one JSON document that it must be, with nothing on standard error.
pub(crate) fn document(command: &mut Command, code: i32) -> Value {
    let output = command.stdin(Stdio::null()).output().expect("hopwise starts");
    let arguments: Vec<_> = command.get_args().collect();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{text}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let document = serde_json::from_str(&text);
    assert!(document.is_ok(), "{arguments:?}: {document:?} in\n{text}");
    let document: Value = document.unwrap_or_default();
    assert!(document["schemaVersion"].is_u64(), "{document}");
    assert_eq!(document["status"], code, "{document}");
    document
}

/// A directory with files, gone with the value.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
        let path = std::env::temp_dir().join(format!("hopwise-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a scratch directory can be made");
        for (name, text) in files {
            std::fs::write(path.join(name), text).expect("a scratch file can be written");
        }
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A left-over in the temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn usage_errors_end_with_2() {
    check(&["nonsense"], 2, "unrecognized subcommand 'nonsense'");
    check(&["trace"], 2, "<QUESTION>");
    check(&["trace", "-f", WORLD, "a -> b", "-o", "yaml"], 2, "[possible values: text, json]");
    check(&["show", "podz"], 2, "a similar value exists: 'pods'");
    check(&["--color", "blue", "version"], 2, "[possible values: auto, always, never]");
    check(&["-f", WORLD, "version"], 2, "write them after the command");
    check(&["explain", "HW9999"], 2, "no diagnostic code or drop reason `HW9999`");
    check(&["explain", "policy-denid"], 2, "did you mean `policy-denied`?");
    check(&["completion", "tcsh"], 2, "possible values");
    check(&["man", "nonsense"], 2, "no command `nonsense`");
    check(&["repl", "-f", "-"], 2, "standard input holds the session's commands");
    check(&["show", "policy", "-f", WORLD], 2, "`show policy` needs a pod");
}

#[test]
fn an_arrow_that_the_shell_took_is_explained() {
    check(&["trace", "-f", WORLD, "shop/client", "-"], 2, "unquoted `>`");
    check(&["trace", "-f", WORLD, "shop/client -"], 2, "leave the arrow out");
    let folder = Folder::new("arrow", &[]);
    let file = std::fs::File::create(folder.path("taken")).expect("a scratch file can be written");
    let mut command = hopwise();
    let output = command.args(["trace", "a", "-"]).stdout(file).output().expect("hopwise starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("taken`"), "{said}");
}

#[test]
fn files_that_cannot_be_read_end_with_3() {
    let files: &[(&str, &[u8])] = &[("notes.txt", b"hello\n"), ("latin.hop", b"# caf\xe9\n")];
    let folder = Folder::new("files", files);
    let (latin, empty) = (folder.path("latin.hop"), Folder::new("empty", &[]));
    let missing = folder.path("missing.hop");
    for command in [&["check"][..], &["test"], &["show", "pods", "-f"], &["trace", "a b", "-f"]] {
        let with =
            |path: &str| [command, &[path]].concat().iter().map(ToString::to_string).collect();
        for (path, said) in [
            (missing.as_str(), "there is no such file"),
            (latin.as_str(), "it is not UTF-8 text"),
            (empty.path("").as_str(), "it holds no `.hop` file"),
        ] {
            let arguments: Vec<String> = with(path);
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            check(&arguments, 3, said);
            check(&arguments, 3, "help: ");
        }
    }
    check(&["fmt", &missing], 3, "there is no such file");
    check(&["fmt", &latin], 3, "it is not UTF-8 text");
    check(&["-f", &missing], 3, "there is no such file");
}

#[test]
fn a_directory_without_files_is_named() {
    let folder = Folder::new("nothing", &[]);
    for (arguments, code) in [(&["show", "pods"], 2), (&["trace", "a b"], 2)] {
        let (text, came) = run_with(hopwise().current_dir(&folder.0).args(arguments), "");
        assert_eq!(came, code, "{text}");
        assert!(text.contains("no `.hop` file in `"), "{text}");
        assert!(text.contains("help: name files with `-f FILE`"), "{text}");
    }
    let (text, came) = run_with(hopwise().current_dir(&folder.0).arg("check"), "");
    assert_eq!(came, 3, "{text}");
}

#[test]
fn the_files_of_the_current_directory_are_the_default() {
    let world = std::fs::read(crate::tree::root().join(WORLD)).expect("the world is there");
    let folder = Folder::new("default", &[("world.hop", &world)]);
    for arguments in [&["show", "pods"][..], &["check"], &["fmt", "--check"], &["test", "--list"]] {
        let (text, code) = run_with(hopwise().current_dir(&folder.0).args(arguments), "");
        assert_eq!(code, 0, "{arguments:?}: {text}");
    }
}

#[test]
fn errors_in_the_text_end_with_3() {
    let folder = Folder::new("errors", &[("bad.hop", b"pod web/a on nowhere { ip 10.0.0.1 }\n")]);
    let bad = folder.path("bad.hop");
    for arguments in [
        &["check", &bad][..],
        &["test", &bad],
        &["show", "pods", "-f", &bad],
        &["trace", "-f", &bad, "a b"],
        &["-f", &bad],
    ] {
        check(arguments, 3, "HW01");
    }
    check(&["trace", "-f", WORLD, "shop/client -> shop/servr:80"], 3, "HW0200");
    check(&["show", "endpoints", "node03", "-f", WORLD], 3, "no node `node03`");
}

#[test]
fn json_is_one_document_whatever_happens() {
    let pods = json(&["show", "pods", "-f", WORLD, "-o", "json"], 0);
    assert_eq!(pods["kind"], "listing");
    assert_eq!(pods["items"].as_array().map(Vec::len), Some(3));
    assert_eq!(json(&["version", "-o", "json"], 0)["kind"], "listing");
    assert_eq!(json(&["test", "--list", "-o", "json", WORLD], 0)["items"], Value::Array(vec![]));

    let checked = json(&["check", "-o", "json", WORLD], 0);
    assert_eq!(
        (&checked["kind"], &checked["diagnostics"]),
        (&"diagnostics".into(), &Value::Array(vec![]))
    );
    let failed = json(&["check", "-o", "json", "missing.hop"], 3);
    assert_eq!(failed["kind"], "failure");

    let folder = Folder::new("json", &[("a.hop", b"nonsense\n"), ("b.hop", b"nonsense\n")]);
    let found = json(&["check", "-o", "json", &folder.path("")], 3);
    let files: Vec<&Value> = found["diagnostics"]
        .as_array()
        .map_or(Vec::new(), |all| all.iter().map(|d| &d["labels"][0]["at"]["file"]).collect());
    assert_eq!(files, [&Value::from(folder.path("a.hop")), &Value::from(folder.path("b.hop"))]);
    let asked = json(&["trace", "-o", "json", "-f", WORLD, "shop/client -> nobody"], 3);
    assert_eq!(asked["diagnostics"][0]["code"], "HW0200");
}

#[test]
fn standard_input_may_be_a_file() {
    let world = std::fs::read_to_string(crate::tree::root().join(WORLD)).expect("it is there");
    let (text, code) = run_with(hopwise().args(["show", "nodes", "-f", "-"]), &world);
    assert!(code == 0 && text.contains("node02"), "{text}");
    let (text, code) = run_with(hopwise().args(["check", "-"]), "nonsense\n");
    assert!(code == 3 && text.contains("<stdin>:1:1"), "{text}");
    let (text, code) = run_with(hopwise().args(["test", "--list", "-"]), &world);
    assert_eq!((text.as_str(), code), ("", 0));
}

#[test]
fn formatting_says_what_it_would_change() {
    let untidy = "namespace   a {}\n";
    let folder = Folder::new("fmt", &[("a.hop", untidy.as_bytes())]);
    let file = folder.path("a.hop");
    let read = || std::fs::read_to_string(&file).expect("the file is there");
    check(&["fmt", "--check", &file], 1, "-namespace   a {}\n+namespace a {}");
    assert_eq!(read(), untidy);
    check(&["fmt", &folder.path("")], 0, "formatted ");
    assert_eq!(read(), "namespace a {}\n");
    let quiet = run(&["fmt", "--check", &file]);
    assert_eq!(quiet, (String::new(), 0));
    let piped = run_with(hopwise().args(["fmt", "-"]), untidy);
    assert_eq!(piped, ("namespace a {}\n".to_owned(), 0));
    let (text, code) = run_with(hopwise().args(["fmt", "-"]), "namespace {\n");
    assert!(code == 3 && text.contains("<stdin>:1"), "{text}");
}

#[test]
fn scripts_end_at_the_first_error() {
    let script = "# a comment\n\nshow nodes\nnonsense\nshow pods\n";
    let (text, code) = run_with(hopwise().args(["-f", WORLD]), script);
    assert_eq!(code, 3, "{text}");
    assert!(text.contains("node01") && !text.contains("shop/client"), "{text}");
    assert!(text.contains("in line 4 of the script: nonsense"), "{text}");
    assert!(!text.contains("hopwise> "), "{text}");
    let (text, code) = run_with(hopwise().args(["repl", "-k", "-f", WORLD]), script);
    assert!(code == 3 && text.contains("shop/client"), "{text}");
    let (text, code) = run_with(&mut hopwise(), "quit\nnonsense\n");
    assert_eq!((text.as_str(), code), ("", 0));
    let (text, code) = run_with(&mut hopwise(), "explain 133\n:explain HW0200\n");
    assert!(code == 0 && text.contains("133 policy-denied"), "{text}");
    assert!(text.contains("HW0200 unknown-endpoint"), "{text}");
    let (text, code) = run_with(&mut hopwise(), "policy a {\n");
    assert_eq!(code, 3, "{text}");
}

#[test]
fn scripts_join_lines_and_change_the_session() {
    let script = "policy shop/x {\n  select { app = \"server\" }\n  default-deny ingress\n}\nshow policies\n";
    let (text, code) = run_with(hopwise().args(["-f", WORLD]), script);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("added policy shop/x\nPOLICY"), "{text}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut command = hopwise();
    command.args(["show", "pods", "-f", WORLD]).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(Stdio::null());
    let mut child = command.spawn().expect("hopwise starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("hopwise ends");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(141));
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has it");
    let mut command = hopwise();
    let output = command.arg("version").stdout(full).output().expect("hopwise starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.starts_with("error: cannot write to standard output: "), "{said}");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn colour_is_asked_for_or_not_there() {
    let colored = |arguments: &[&str], force: bool| {
        let mut command = hopwise();
        command.env_remove("NO_COLOR").args(arguments);
        if force {
            command.env("CLICOLOR_FORCE", "1");
        }
        run_with(&mut command, "").0.contains('\x1b')
    };
    let missing = |color: &'static str| ["check", "missing.hop", "--color", color];
    assert!(!colored(&missing("auto"), false));
    assert!(colored(&missing("auto"), true));
    assert!(colored(&missing("always"), false));
    assert!(!colored(&missing("never"), true));
}

#[test]
fn what_the_machine_lacks_ends_with_4() {
    let lacking = |arguments: &[&str]| {
        run_with(hopwise().env("HOPWISE_BPF_OBJECT", "Cargo.toml").args(arguments), "")
    };
    let (text, code) = lacking(&["trace", "-f", WORLD, "shop/client -> shop/server:80"]);
    assert_eq!(code, 4, "{text}");
    assert!(text.starts_with("error: ") && text.contains("help: "), "{text}");
    let (text, code) = lacking(&["test", "book/examples/first.hop"]);
    assert_eq!(code, 4, "{text}");
    let (text, code) = lacking(&["doctor"]);
    assert!(code == 4 && text.contains("FAIL"), "{text}");
    let (text, code) = lacking(&["doctor", "-o", "json"]);
    let report: Value = serde_json::from_str(&text).unwrap_or_default();
    assert_eq!((code, &report["status"]), (4, &4.into()), "{text}");
    // What needs no datapath works without it.
    let (text, code) = lacking(&["check", WORLD]);
    assert_eq!((text.as_str(), code), ("no problems\n", 0));
    let folder = Folder::new("unwritable", &[]);
    let (text, code) =
        run_with(hopwise().args(["-f", WORLD]), &format!("save {}\n", folder.path("")));
    assert!(code == 4 && text.contains("help: "), "{text}");
}

/// An object that says of itself what is not so stops its reader, which is no bug of ours.
#[test]
fn a_damaged_object_is_told_of_and_no_bug() {
    let mut object = datapath::object::Object::embedded().bytes().to_vec();
    // `.BTF.ext` counts its functions after its header and the size of a record.
    let magic = [0x9F, 0xEB, 1, 0, 32, 0, 0, 0];
    let start = object.windows(magic.len()).position(|bytes| bytes == magic);
    let count = start.expect("the object has function information") + 32 + 8;
    object[count..count + 3].fill(0xFF);
    let folder = Folder::new("damaged", &[]);
    let path = folder.path("damaged.o");
    std::fs::write(&path, object).expect("the folder can be written");
    let question = ["trace", "-f", WORLD, "--backend", "vm", "shop/client -> shop/server:80"];
    let (text, code) = run_with(hopwise().env("HOPWISE_BPF_OBJECT", &path).args(question), "");
    assert!(code == 4 && text.contains("the file is damaged"), "{text}");
    assert!(!text.contains("bug"), "{text}");
}

#[test]
fn doctor_says_what_is_there() {
    let (text, code) = run(&["doctor"]);
    assert!(text.starts_with("STATE   CHECK"), "{text}");
    for name in ["kernel version", "CAP_BPF", "map types", "a packet runs"] {
        assert!(text.contains(name), "{text}");
    }
    assert_eq!(code, 0, "the interpreter answers everywhere: {text}");
    let report = json(&["doctor", "-o", "json"], code);
    assert!(report["items"].as_array().is_some_and(|items| items.len() > 10), "{report}");
    let (in_session, code_in_session) = run_with(&mut hopwise(), "doctor\n");
    assert!(in_session.starts_with(&text) && code_in_session == code, "{in_session}");
}

#[test]
fn control_c_ends_a_script() {
    use std::os::unix::process::ExitStatusExt;

    let mut command = hopwise();
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().expect("hopwise starts");
    let mut kill = Command::new("kill");
    let killed = kill.args(["-INT", &child.id().to_string()]).status().expect("`kill` runs");
    assert!(killed.success());
    // A shell reports this as 130.
    assert_eq!(child.wait().expect("hopwise ends").signal(), Some(2));
}

#[test]
fn every_command_has_help_and_a_manual_page() {
    let (help, code) = run(&["--help"]);
    assert_eq!(code, 0);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands: Vec<&str> = listed
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|command| *command != "help")
        .collect();
    assert!(commands.len() >= 10, "{help}");
    for command in commands {
        check(&[command, "--help"], 0, &format!("Usage: hopwise {command}"));
        let (page, code) = run(&["man", command]);
        assert_eq!(code, 0, "{page}");
        assert!(page.contains(&format!(".TH hopwise-{command} 1")), "{page}");
        assert!(help.contains(command));
    }
    check(&["man"], 0, ".TH hopwise 1");
    check(&["version"], 0, "hopwise");
    check(&["--version"], 0, "hopwise 0.");
}

#[test]
fn completion_scripts_know_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        check(&["completion", shell], 0, "doctor");
        check(&["completion", shell], 0, "endpoints");
    }
}

#[test]
fn the_manual_renders_without_complaint() {
    let (page, _) = run(&["man"]);
    let mut command = Command::new("man");
    if command.arg("--version").output().is_err() {
        kernel::skip("no `man` here");
        return;
    }
    let mut command = Command::new("man");
    command.args(["--warnings", "-l", "-"]).env("MANPAGER", "cat").env("LC_ALL", "C");
    let (text, code) = run_with(&mut command, &page);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("EXTRA") || text.contains("Exit codes"), "{text}");
    assert!(!text.contains("warning:"), "{text}");
}

#[test]
fn verdicts_and_expectations_give_their_exit_codes() {
    kernel::require();
    let question = "shop/client -> shop/server:80/tcp";
    check(&["trace", "-f", WORLD, question], 0, "ALLOWED");
    check(&["trace", "-f", WORLD, "shop/client", "->", "shop/server:80/tcp"], 0, "ALLOWED");
    check(
        &["trace", "-f", WORLD, "shop/client", "shop/server:80/tcp", "with", "reply"],
        0,
        "ALLOWED",
    );
    check(&["trace", "-f", WORLD, question, "--expect", "allowed, tunneled"], 0, "ALLOWED");
    check(&["trace", "-f", WORLD, question, "--expect", "dropped"], 1, "expected dropped");
    // A shell took the quotes off, and there is no arrow.
    let bare = ["trace", "-f", WORLD, "shop/client", "shop/server:80", "http", "GET", "/a(b),c"];
    check(&[&bare[..], &["--expect", "allowed, tunneled"]].concat(), 0, "HTTP GET /a(b),c");
    check(&["trace", "-f", WORLD, &format!("{question} => dropped")], 1, "expected dropped");
    check(&["trace", "-f", WORLD, question, "--level", "minimal"], 0, "allowed tunneled\n");
    check(&["trace", "-f", WORLD, question, "--expect", "alowed"], 3, "HW0");
    let answer = json(&["trace", "-o", "json", "-f", WORLD, question], 0);
    assert_eq!((&answer["verdict"], &answer["agreement"]), (&"allowed".into(), &"agree".into()));
    let missed = json(&["trace", "-o", "json", "-f", WORLD, question, "--expect", "dropped"], 1);
    assert_eq!(missed["unmet"].as_array().map(Vec::len), Some(1));
}

#[test]
fn test_runs_give_their_exit_codes() {
    kernel::require();
    check(&["test", "book/examples/first.hop"], 0, "2 passed");
    check(&["test", "-f", "book/examples/first.hop", "--run", "443"], 0, "1 case matching `443`");
    check(&["test", "book/examples/first.hop", "--run", "nothing-like-this"], 1, "0 cases");
    check(&["test", WORLD], 1, "no test block");
    let report = json(&["test", "-o", "json", "book/examples"], 0);
    assert_eq!(report["kind"], "suite");
    let world = std::fs::read_to_string(crate::tree::root().join(WORLD)).expect("it is there");
    let wrong = world + "test \"t\" {\n  shop/client -> shop/server:80/tcp => dropped\n}\n";
    let folder = Folder::new("wrong", &[("wrong.hop", wrong.as_bytes())]);
    check(&["test", &folder.path("wrong.hop")], 1, "see it again: hopwise trace -f ");
}

#[test]
fn tests_are_listed_by_file_and_case() {
    let (text, code) = run(&["test", "--list", "book/examples/first.hop"]);
    assert_eq!(code, 0, "{text}");
    let expected = "book/examples/first.hop::the shop: shop/client -> shop/server:80/tcp\n\
                    book/examples/first.hop::the shop: shop/client -> shop/server:443/tcp\n";
    assert_eq!(text, expected);
    let (text, _) = run(&["test", "--list", "--run", "443", "book/examples/first.hop"]);
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn what_never_ends_is_not_read_as_a_file() {
    let text = "include \"/dev/zero\"\n";
    let folder = Folder::new("device", &[("including.hop", text.as_bytes())]);
    check(&["check", "/dev/zero"], 3, "a pipe or a device");
    check(&["fmt", "--check", "/dev/zero"], 3, "a pipe or a device");
    check(&["check", &folder.path("including.hop")], 3, "a pipe or a device");
}

#[test]
fn a_dropped_fragment_is_told_by_what_happened_to_it() {
    crate::kernel::require();
    let folder = Folder::new(
        "pieces",
        &[(
            "pieces.hop",
            b"cluster c {\n  node n { ip 192.168.0.1 pods 10.1.0.0/24 }\n}\nnamespace x {}\n\
              pod x/a on n { ip 10.1.0.10 labels { app = \"a\" } }\n\
              pod x/b on n { ip 10.1.0.11 labels { app = \"b\" } }\n\
              policy x/b {\n  select { app = \"b\" }\n  allow ingress from pods {} on 80/udp\n}\n",
        )],
    );
    let ask = |question: &str, words: &str| {
        check(&["trace", "-f", &folder.path("pieces.hop"), question], 0, words);
    };
    ask("x/b -> x/a icmp fragment more", "pieces of an ICMP message are never let through");
    ask("x/a -> x/b udp fragment offset 8", "the ports of this fragment are not known");
}

#[test]
fn a_packet_enters_at_a_hook_and_frames_go_to_a_capture() {
    let folder = Folder::new("at", &[("foreign.pcapng", b"notes\n")]);
    let (file, foreign) = (folder.path("my ask.pcapng"), folder.path("foreign.pcapng"));
    let question = ["trace", "-f", WORLD, "client", "server:80"];
    check(&[&question[..], &["--pcap", &file]].concat(), 0, "ALLOWED  tunneled node01 -> node02");
    let at = ["trace", "-f", WORLD, "--at"];
    let packet = |number| ["pcap", file.as_str(), "number", number];
    let second = [&at[..], &["node02 from-netdev"], &packet("2")].concat();
    check(&second, 0, "ALLOWED  delivered on node02");
    let first = [&at[..], &["from-container on client"], &packet("1")].concat();
    check(&first, 0, "oracle agrees");
    check(&[&first[..], &["--expect", "dropped"]].concat(), 1, "unmet");
    check(&[&first[..], &["--pcap", &file]].concat(), 0, "ALLOWED");
    check(&[&first[..], &["--record", &folder.path("x.hoptrace")]].concat(), 2, "`--pcap FILE`");
    check(&[&first[..], &["--pcap", &foreign]].concat(), 3, "is no capture that hopwise wrote");
    let beyond = [&at[..], &["node02 from-netdev"], &packet("9")].concat();
    check(&beyond, 3, "HW0213");
    let line = "at node01 from-netdev ipv4 198.51.100.7 > 10.1.0.10 / tcp 9 > 80 syn => allowed";
    check(&["trace", "-f", WORLD, line], 0, "198.51.100.7:9 -> shop/client 10.1.0.10:80 TCP SYN");
    let odd = ["trace", "-f", WORLD, "-o", "json", "--at", "from-container on client"];
    let layers = "eth 02:00:00:00:00:01 > 02:00:00:00:00:02 type 0x88cc / hex 0001";
    let document = json(&[&odd[..], &[layers]].concat(), 0);
    let answer = &document;
    assert_eq!(answer["packet"]["protocol"], Value::Null, "{document}");
    assert_eq!(answer["packet"]["sourceAddress"], "02:00:00:00:00:01", "{document}");
}

#[test]
fn counters_of_questions_are_shown_in_json_too() {
    let hits = ["show", "-f", "book/examples/first.hop", "policy", "shop/server", "--hits"];
    let asked = ["--after", "shop/client -> shop/server:80", "-o", "json"];
    let shown = document(hopwise().args(hits).args(asked), 0);
    assert_eq!(shown["items"][0]["packets"], 1, "{shown:#}");
    let wrong = ["--after", "shop/client -> nobody", "-o", "json"];
    let refused = document(hopwise().args(hits).args(wrong), 3);
    assert_eq!(refused["kind"], "diagnostics");
    let at = ["trace", "-f", "fixtures/worlds/two-nodes.hop", "-o", "json", "--at"];
    let hook =
        ["node02 from-overlay vni 256 from 192.168.1.1", "ipv4 10.1.0.10 > 10.2.0.10 / tcp 1 > 80"];
    let entered = &document(hopwise().args(at).args(hook), 0)["entered"];
    assert_eq!(entered["hook"], "from-overlay", "{entered:#}");
    assert_eq!(entered["vni"], 256);
    assert_eq!(entered["tunnelFrom"], "192.168.1.1");
    assert_eq!(entered["mark"], 0);
    assert!(entered["frame"].as_str().is_some_and(|hex| hex.len() > 100), "{entered:#}");
    let tests = document(hopwise().args(["test", "book/examples/first.hop", "-o", "json"]), 0);
    assert!(tests["backend"].as_str().is_some_and(|name| !name.is_empty()), "{tests:#}");
}
