//! Every document that `-o json` prints, of every command and every kind of failure, and every reply of a session as a
//! document, held against the published schema: nothing is missing, and nothing is there that it does not name.

use std::collections::BTreeSet;

use jsonschema::Validator;
use serde_json::{Value, json};

use lang::command::{NOUNS, TABLE};
use repl::render;

use crate::binary::hopwise;
use crate::cli::{Folder, document, run};
use crate::kernel;
use crate::tree::root;

const WORLD: &str = "fixtures/worlds/two-nodes.hop";
const REFERENCE: &str = "fixtures/reference-cluster.hop";
const CAPTURE: &str = "fixtures/captures/shop.pcap";
const CAPTURED: &str = "fixtures/captures/world.hop";
/// Commands whose documents are looked at where there are devices for them, if they end well.
const ELSEWHERE: [&str; 3] = ["attach", "detach", "monitor"];
const QUESTION: &str = "shop/client -> shop/server:80/tcp";

/// The schema that `hopwise schema` prints, with no other fields than those it names.
pub(crate) fn strict() -> Validator {
    let (text, code) = run(&["schema"]);
    assert_eq!(code, 0, "{text}");
    let mut schema: Value = serde_json::from_str(&text).expect("the schema is JSON");
    close(&mut schema, false);
    schema["unevaluatedProperties"] = json!(false);
    jsonschema::draft202012::new(&schema).expect("the schema is one")
}

/// Forbids unnamed fields in every object below; `is_part` where it is a part of a larger object's description.
fn close(schema: &mut Value, is_part: bool) {
    let Some(object) = schema.as_object_mut() else {
        schema.as_array_mut().into_iter().flatten().for_each(|inner| close(inner, is_part));
        return;
    };
    if object.get("properties").is_some_and(Value::is_object) && !is_part {
        object.insert("unevaluatedProperties".into(), json!(false));
    }
    for (key, inner) in object.iter_mut() {
        match key.as_str() {
            // Documents and answers are closed as a whole, by what refers to them.
            "$defs" => {
                for (name, definition) in inner.as_object_mut().into_iter().flatten() {
                    let whole = ["Answer", "Explanation", "Listing", "Suite", "Diagnostics"];
                    let whole = whole
                        .iter()
                        .chain(&["Failure", "Text", "Nothing", "Stop", "Halt", "Replay", "Report"]);
                    close(definition, whole.into_iter().any(|w| w == name));
                }
            }
            "properties" => {
                inner
                    .as_object_mut()
                    .into_iter()
                    .flatten()
                    .for_each(|(_, inner)| close(inner, false));
            }
            "items" => close(inner, false),
            "allOf" | "anyOf" | "oneOf" => close(inner, true),
            _ => {}
        }
    }
}

pub(crate) fn validate(validator: &Validator, what: &str, document: &Value) {
    let errors: Vec<String> = validator
        .iter_errors(document)
        .map(|error| format!("{error} at {}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{what}: {errors:#?}\n{document:#}");
}

/// Commands that take `--output`, as their help says.
fn speakers_of_json() -> BTreeSet<String> {
    let (help, _) = run(&["--help"]);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = listed.take_while(|line| !line.is_empty());
    let commands = commands.filter_map(|line| line.split_whitespace().next());
    let speaks = |command: &&str| run(&[command, "--help"]).0.contains("--output <FORMAT>");
    commands.filter(|command| *command != "help").filter(speaks).map(str::to_owned).collect()
}

/// A world with warnings, tests that pass, fail and break, and a file with errors in it.
fn files(name: &str) -> Folder {
    let world = std::fs::read_to_string(root().join(WORLD)).expect("the world is there");
    let doubtful = format!(
        "{world}policy shop/idle {{\n  select {{ app = \"nobody\" }}\n  allow ingress\n}}\n"
    );
    let tests = format!(
        "{world}test \"t\" {{\n  {QUESTION} => allowed\n  {QUESTION} => dropped\n  dialogue \"d\" {{\n    \
         {QUESTION} syn => allowed\n    wait 1s\n    reply syn-ack => dropped\n  }}\n}}\n"
    );
    let broken = "namespace x {}\npod x/a on nowhere { ip 10.0.0.1 }\npod x/a {\npolicy y {}\n";
    Folder::new(
        name,
        &[
            ("doubtful.hop", doubtful.as_bytes()),
            ("tests.hop", tests.as_bytes()),
            ("broken.hop", broken.as_bytes()),
            ("latin.hop", b"# caf\xe9\n"),
        ],
    )
}

#[test]
fn every_command_prints_documents_of_the_schema_whatever_happens() {
    let (validator, files) = (strict(), files("printed"));
    let [doubtful, tests, broken, latin] =
        ["doubtful.hop", "tests.hop", "broken.hop", "latin.hop"].map(|name| files.path(name));
    let (doubtful, tests) = (doubtful.as_str(), tests.as_str());
    let (broken, latin) = (broken.as_str(), latin.as_str());
    let forged = "shop/client -> shop/server icmp echo from-ip 10.1.0.99";
    let cases: &[(&[&str], i32, &str)] = &[
        (&["trace", "-f", WORLD, QUESTION], 0, "answer"),
        (&["trace", "-f", doubtful, QUESTION, "with", "reply", "--level", "full"], 0, "answer"),
        (&["trace", "-f", WORLD, forged], 0, "answer"),
        (&["trace", "-f", REFERENCE, "CA -> CB icmp echo with reply"], 0, "answer"),
        (&["trace", "-f", WORLD, QUESTION, "--expect", "dropped"], 1, "answer"),
        (&["trace", "-f", WORLD, QUESTION, "--expect", "alowed"], 3, "diagnostics"),
        (&["trace", "-f", WORLD, "shop/client -> nobody:80"], 3, "diagnostics"),
        (&["trace", "-f", broken, "a -> b"], 3, "diagnostics"),
        (&["trace", "-f", "no-such.hop", "a -> b"], 3, "failure"),
        (&["trace", "-f", WORLD, "shop/client -"], 2, "failure"),
        (&["trace", "-f", WORLD], 2, "failure"),
        (&["debug", "-f", WORLD, QUESTION], 0, "halt"),
        (&["debug", "-f", WORLD, "shop/client -> nobody:80"], 3, "diagnostics"),
        (&["debug", latin], 3, "failure"),
        (&["test", "book/examples/first.hop"], 0, "suite"),
        (&["test", "book/examples/first.hop", "--run", "443"], 0, "suite"),
        (&["test", "book/examples/first.hop", "--run", "nothing-like-this"], 1, "suite"),
        (&["test", "--list", "book/examples/first.hop"], 0, "listing"),
        (&["test", tests], 1, "suite"),
        (&["test", doubtful], 1, "suite"),
        (&["test", broken], 3, "diagnostics"),
        (&["test", latin], 3, "failure"),
        (&["test", "--run"], 2, "failure"),
        (&["replay", CAPTURE, "-f", WORLD], 0, "replay"),
        (&["replay", CAPTURE, "-f", doubtful, "--policy", CAPTURED], 0, "replay"),
        (&["replay", CAPTURE, "-f", CAPTURED, "--expect", "allowed"], 1, "replay"),
        (&["replay", CAPTURE, "-f", WORLD, "--policy", broken], 3, "diagnostics"),
        (&["replay", latin, "-f", WORLD], 3, "failure"),
        (&["monitor", "--count", "0"], 2, "failure"),
        (&["monitor", "--on", "no-such-lab"], 3, "failure"),
        (&["attach", "no-such-name", "--confirm"], 3, "failure"),
        (&["attach", "-f", broken], 3, "diagnostics"),
        (&["status", "no-such-name"], 3, "failure"),
        (&["status"], 0, "listing"),
        (&["detach", "no-such-name"], 3, "failure"),
        (&["check", WORLD], 0, "diagnostics"),
        (&["check", doubtful, WORLD], 0, "diagnostics"),
        (&["check", broken, doubtful], 3, "diagnostics"),
        (&["check", latin], 3, "failure"),
        (&["check", "--nonsense"], 2, "failure"),
        (&["show", "pods", "-f", doubtful], 0, "listing"),
        (&["show", "pods", "-f", broken], 3, "diagnostics"),
        (&["show", "endpoints", "node03", "-f", WORLD], 3, "failure"),
        (&["show", "policy", "-f", WORLD], 2, "failure"),
        (&["show", "bogus"], 2, "failure"),
        (&["doctor"], 0, "listing"),
        (&["doctor", "extra"], 2, "failure"),
        (&["version"], 0, "listing"),
        (&["version", "extra"], 2, "failure"),
    ];
    for (arguments, code, kind) in cases {
        let document = document(hopwise().args(*arguments).args(["-o", "json"]), *code);
        validate(&validator, &arguments.join(" "), &document);
        assert_eq!(document["kind"], *kind, "{arguments:?}");
    }
    for ends_well in [true, false] {
        let tried = cases.iter().filter(|(_, code, _)| (*code == 0) == ends_well);
        let tried: BTreeSet<String> = tried.map(|(words, ..)| words[0].to_owned()).collect();
        let mut speakers = speakers_of_json();
        // What needs devices to end well says so in the tests that have some.
        speakers.retain(|command| !ends_well || !ELSEWHERE.contains(&command.as_str()));
        assert_eq!(tried, speakers, "each command ends well and badly here");
    }
}

#[test]
fn every_listing_is_of_the_schema() {
    let validator = strict();
    for (_, noun, argument, _) in NOUNS {
        let mut arguments = vec!["show", noun, "-f", REFERENCE, "-o", "json"];
        if argument.starts_with("[POD") {
            arguments.insert(2, "CA");
        }
        let document = document(hopwise().args(&arguments), 0);
        validate(&validator, noun, &document);
        assert_eq!(document["kind"], "listing", "{noun}");
    }
}

#[test]
fn what_the_machine_lacks_is_told_by_the_schema_too() {
    let validator = strict();
    for (arguments, kind) in [
        (&["trace", "-f", WORLD, QUESTION][..], "failure"),
        (&["test", "book/examples/first.hop"], "failure"),
        (&["doctor"], "listing"),
    ] {
        let mut lacking = hopwise();
        lacking.env("HOPWISE_BPF_OBJECT", "Cargo.toml").args(arguments).args(["-o", "json"]);
        let document = document(&mut lacking, 4);
        validate(&validator, &arguments.join(" "), &document);
        assert_eq!(document["kind"], kind, "{arguments:?}");
    }
}

/// Sessions print text, but a reply is a document whoever asks for it.
#[test]
fn every_command_of_a_session_replies_with_a_document_of_the_schema() {
    let (validator, folder) = (strict(), files("replied"));
    let mut session = kernel::session();
    let mut tried = BTreeSet::new();
    let saved = format!("save {}", folder.path("saved.hop"));
    let recorded = format!("record {} {QUESTION}", folder.path("asked.hoptrace"));
    for (line, kind) in [
        ("help", "text"),
        ("help trace", "text"),
        ("help nothing", "failure"),
        ("save", "text"),
        (&format!("load {}", root().join(WORLD).display()), "nothing"),
        ("load nowhere.hop", "failure"),
        ("time on", "nothing"),
        (&format!("trace {QUESTION}"), "answer"),
        ("why", "answer"),
        ("trace shop/client -> nobody", "diagnostics"),
        (&recorded, "answer"),
        (&format!("debug {QUESTION}"), "halt"),
        ("step 3", "halt"),
        ("display packet", "text"),
        ("step instruction 40", "halt"),
        ("break policy.rs:60", "text"),
        ("break policy.rs:6000", "failure"),
        ("print map policy", "text"),
        ("printt map", "diagnostics"),
        ("edit ttl = 9", "text"),
        ("edit remove policy shop/nothing", "diagnostics"),
        ("answer", "answer"),
        ("quit", "nothing"),
        ("show pods", "listing"),
        ("show policy nobody", "diagnostics"),
        ("test", "suite"),
        (&format!("replay {CAPTURE}"), "replay"),
        ("replay", "diagnostics"),
        ("lab list", "listing"),
        ("lab down no-such-lab", "failure"),
        ("monitor --verdict fine", "diagnostics"),
        ("monitor --on no-such-lab --count 1", "failure"),
        ("attach no-such-name --confirm", "failure"),
        ("attach --enforse", "diagnostics"),
        ("status no-such-name", "failure"),
        ("status", "listing"),
        ("detach no-such-name", "failure"),
        ("policy shop/idle { select { app = \"nobody\" }\n allow ingress\n}", "text"),
        ("policy shop/worse { selct {} }", "diagnostics"),
        ("check", "diagnostics"),
        ("diff", "text"),
        ("fmt", "text"),
        ("remove policy shop/idle", "text"),
        ("remove policy shop/idle", "diagnostics"),
        ("undo", "text"),
        (&saved, "text"),
        ("reload", "nothing"),
        ("set", "listing"),
        ("set level full", "nothing"),
        ("wait 60s", "failure"),
        ("set level fulll", "failure"),
        ("explain 133", "text"),
        ("explain HW9999", "failure"),
        ("doctor", "listing"),
        ("nonsense", "diagnostics"),
        ("quit", "nothing"),
        ("exit", "nothing"),
    ] {
        let reply = session.execute(line);
        let mut out = Vec::new();
        render::json(&reply, &mut out).expect("memory takes all");
        let document: Value = serde_json::from_slice(&out).expect("it is JSON");
        validate(&validator, line, &document);
        assert_eq!(document["kind"], kind, "{line}: {document:#}");
        assert_eq!(document["status"], reply.status.code(), "{line}");
        tried.insert(line.split_whitespace().next().unwrap_or_default().to_owned());
    }
    let known = TABLE.iter().map(|command| command.name.to_owned());
    let missed: Vec<String> = known.filter(|name| !tried.contains(name)).collect();
    assert!(missed.is_empty(), "no case for {missed:?}");
}

#[test]
fn a_field_that_the_schema_does_not_name_is_found_at_every_depth() {
    let (validator, files) = (strict(), files("closed"));
    let tests = files.path("tests.hop");
    let ran = document(hopwise().args(["test", &tests, "-o", "json"]), 1);
    let trace = ["trace", "-f", WORLD, QUESTION, "-o", "json"];
    let traced = document(hopwise().args(trace), 0);
    let checked = document(hopwise().args(["check", &files.path("broken.hop"), "-o", "json"]), 3);
    for (document, place) in [
        (&ran, ""),
        (&ran, "/cases/1"),
        (&ran, "/cases/1/misses/0"),
        (&ran, "/cases/1/misses/0/location"),
        (&traced, ""),
        (&traced, "/packet"),
        (&traced, "/hops/0/tunnel"),
        (&checked, "/diagnostics/0"),
        (&checked, "/diagnostics/0/labels/0/at"),
    ] {
        assert!(validator.is_valid(document), "{document:#}");
        let mut surplus = document.clone();
        let object = surplus.pointer_mut(place).and_then(Value::as_object_mut);
        object.expect("an object is there").insert("surplus".into(), json!(1));
        assert!(!validator.is_valid(&surplus), "{place}");
    }
}
