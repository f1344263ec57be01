//! The JSON schema of every document that `-o json` prints. An answer's part comes from the engine's types, which describe
//! themselves; what `json` writes besides is described here. Fields may be added under the same `schemaVersion`, so
//! that nothing forbids unknown ones.

use engine::explain::{Explanation, SCHEMA_VERSION};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::debug::Halt;
use crate::monitor;
use crate::replay::{Flow, Report, Summary};
use crate::reply::Status;

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The schema of the documents that [`super::json`] writes, told apart by `kind`.
pub fn schema() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let explanation = generator.subschema_for::<Explanation>();
    let halt = generator.subschema_for::<Halt>();
    let report = generator.subschema_for::<Report>();
    let flow = generator.subschema_for::<Flow>();
    let summary = generator.subschema_for::<Summary>();
    let sighting = generator.subschema_for::<monitor::Sighting>();
    let lost = generator.subschema_for::<monitor::Lost>();
    let watched = generator.subschema_for::<monitor::Report>();
    let mut definitions: Map<String, Value> = generator.take_definitions(true);
    pin_version(&mut definitions);
    definitions.insert("Diagnostic".into(), diagnostic());
    definitions.insert("Place".into(), place());
    let mut answer = document("answer", "What hopwise says about one flow.", &answer_fields());
    answer["allOf"] = json!([explanation]);
    let mut stop = document("halt", "Where a debugged question stands.", &json!({}));
    stop["allOf"] = json!([halt]);
    let mut replay = document("replay", "What a replay of a capture came to.", &json!({}));
    replay["allOf"] = json!([report]);
    let kinds = [
        ("Answer", answer),
        ("Listing", document("listing", "What `show` and other lists hold.", &listing_fields())),
        ("Suite", document("suite", "What a run of tests came to.", &suite_fields())),
        (
            "Diagnostics",
            document(
                "diagnostics",
                "What is wrong with the input.",
                &json!({
                    "diagnostics": { "type": "array", "items": { "$ref": "#/$defs/Diagnostic" } }
                }),
            ),
        ),
        ("Failure", document("failure", "What could not be done.", &failure_fields())),
        ("Text", document("text", "Lines of text.", &json!({ "text": { "type": "string" } }))),
        ("Replay", replay),
        ("FlowLine", line("flow", &json!({ "flow": flow }))),
        ("SummaryLine", line("summary", &summary_line(&json!(summary)))),
        (
            "Watched",
            document(
                "watched",
                "What a monitor saw.",
                &watched_fields(&json!(watched), &json!(sighting)),
            ),
        ),
        ("SightingLine", line("sighting", &json!({ "sighting": sighting }))),
        ("LostLine", line("lost", &json!({ "lost": lost }))),
        ("SumsLine", line("sums", &json!({ "status": { "type": "integer" }, "report": watched }))),
        (
            "Missed",
            document(
                "missed",
                "That packets which were waited for did not come.",
                &missed_fields(),
            ),
        ),
        ("Stop", stop),
        ("Nothing", document("nothing", "Done, with nothing to show.", &json!({}))),
    ];
    let references: Vec<Value> =
        kinds.iter().map(|(name, _)| json!({ "$ref": format!("#/$defs/{name}") })).collect();
    definitions.extend(kinds.map(|(name, schema)| (name.to_owned(), schema)));
    json!({
        "$schema": DRAFT,
        "title": "Document",
        "description": "What `-o json` prints: one document, whatever happens.",
        "oneOf": references,
        "$defs": definitions,
    })
}

/// A kind of document: what every document has, and fields of its own, all of which are always there.
fn document(kind: &str, description: &str, fields: &Value) -> Value {
    let mut properties = envelope(kind);
    let mut required = vec!["schemaVersion".to_owned()];
    required.extend(["kind", "status", "warnings"].map(str::to_owned));
    if let (Some(all), Some(own)) = (properties.as_object_mut(), fields.as_object()) {
        required.extend(own.keys().cloned());
        all.extend(own.clone());
    }
    json!({
        "description": description,
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

/// A line of a replay's JSON lines, with fields of its own.
fn line(kind: &str, fields: &Value) -> Value {
    let mut properties = json!({
        "schemaVersion": { "const": SCHEMA_VERSION },
        "kind": { "const": kind }
    });
    let mut required = vec!["schemaVersion".to_owned(), "kind".to_owned()];
    if let (Some(all), Some(own)) = (properties.as_object_mut(), fields.as_object()) {
        required.extend(own.keys().cloned());
        all.extend(own.clone());
    }
    json!({
        "description": "A line of `replay -o jsonl` or `monitor -o jsonl`.",
        "type": "object",
        "properties": properties,
        "required": required,
    })
}

fn summary_line(summary: &Value) -> Value {
    json!({
        "status": { "type": "integer" },
        "file": { "type": "string" },
        "policy": { "type": ["string", "null"] },
        "summary": summary,
    })
}

fn watched_fields(report: &Value, sighting: &Value) -> Value {
    json!({
        "report": report,
        "sightings": {
            "description": "Runs that were wanted, the first of them.",
            "type": "array",
            "items": sighting
        },
        "drawing": {
            "description": "Who was seen talking to whom, as Graphviz or Mermaid read it; null where none was asked for.",
            "type": ["string", "null"]
        }
    })
}

fn answer_fields() -> Value {
    json!({
        "unmet": {
            "description": "How the answer misses the expectation that came with the question.",
            "type": "array",
            "items": { "type": "string" }
        },
        "compared": {
            "description": "How simulation met a packet that was really sent; null where that was not asked for.",
            "type": ["object", "null"],
            "properties": {
                "backend": { "type": "string" },
                "difference": {
                    "description": "What they differ in first; null: in nothing.",
                    "type": ["object", "null"],
                    "properties": {
                        "hop": { "type": "integer" },
                        "what": { "type": "string" },
                        "simulated": { "type": "string" },
                        "live": { "type": "string" }
                    },
                    "required": ["hop", "what", "simulated", "live"]
                }
            },
            "required": ["backend", "difference"]
        },
        "http": {
            "description": "What became of the request of a real connection; null where none was asked for.",
            "type": ["string", "null"]
        },
        "kernel": {
            "description": "What the kernel says of a real packet that did not come to the next program.",
            "type": ["string", "null"]
        },
        "broken": {
            "description": "Devices of the lab that are gone or down, where a real packet did not come to the next program.",
            "type": "array",
            "items": { "type": "string" }
        },
        "entered": {
            "description": "The frame where it enters, in hex, and what comes with it; null where nothing was sent.",
            "type": ["object", "null"],
            "properties": {
                "node": { "type": "string" },
                "hook": { "$ref": "#/$defs/Hook" },
                "device": { "type": "string" },
                "mark": { "description": "The kernel's mark; of a packet at a hook.", "type": ["integer", "null"] },
                "vni": { "description": "What the tunnel device took off.", "type": ["integer", "null"] },
                "tunnelFrom": { "description": "The other end of that tunnel.", "type": ["string", "null"] },
                "frame": { "type": "string" }
            },
            "required": ["node", "hook", "device", "mark", "vni", "tunnelFrom", "frame"]
        }
    })
}

fn listing_fields() -> Value {
    json!({
        "noun": { "description": "What is listed.", "type": "string" },
        "items": {
            "description": "The rows, by column: null, a number, a text, or several texts.",
            "type": "array",
            "items": { "type": "object", "additionalProperties": {
                "type": ["null", "integer", "string", "array"],
                "items": { "type": "string" }
            } }
        },
        "notes": { "type": "array", "items": { "type": "string" } }
    })
}

fn suite_fields() -> Value {
    let count = json!({ "type": "integer", "minimum": 0 });
    let text = json!({ "type": "string" });
    let step = json!({
        "type": "object",
        "properties": {
            "step": text,
            "verdict": { "anyOf": [{ "$ref": "#/$defs/Verdict" }, { "type": "null" }] },
            "known": { "type": "array", "items": { "$ref": "#/$defs/KnownChange" } }
        },
        "required": ["step", "verdict", "known"]
    });
    let case = json!({
        "type": "object",
        "properties": {
            "file": text,
            "name": text,
            "line": { "type": "integer", "minimum": 1 },
            "outcome": { "enum": ["passed", "failed", "broken", "divergent"] },
            "checked": count,
            "misses": { "type": "array", "items": {
                "type": "object",
                "properties": {
                    "step": text,
                    "location": { "$ref": "#/$defs/Location" },
                    "reasons": { "type": "array", "items": text },
                    "explanation": { "anyOf": [
                        { "$ref": "#/$defs/Explanation" },
                        { "type": "null" }
                    ] },
                    "reproduce": { "type": ["string", "null"] }
                },
                "required": ["step", "location", "reasons", "explanation", "reproduce"]
            } },
            "steps": { "type": "array", "items": step }
        },
        "required": ["file", "name", "line", "outcome", "checked", "misses", "steps"]
    });
    json!({
        "cases": { "type": "array", "items": case },
        "passed": count,
        "failed": count,
        "broken": count,
        "divergent": count,
        "withoutTests": { "type": "array", "items": text },
        "backend": { "description": "What ran the packets.", "type": "string" },
        "filter": { "type": ["string", "null"] },
        "interrupted": { "type": "boolean" }
    })
}

fn missed_fields() -> Value {
    let count = json!({ "type": "integer", "minimum": 0 });
    json!({
        "what": { "enum": ["packet", "drop"] },
        "of": { "description": "Which were waited for, in words.", "type": "string" },
        "caught": count,
        "seconds": { "type": "number" },
        "lost": { "description": "Events lost meanwhile, among which there may have been more.", "type": "integer", "minimum": 0 }
    })
}

fn failure_fields() -> Value {
    json!({
        "message": { "type": "string" },
        "remedy": { "type": ["string", "null"] },
        "detail": { "type": "array", "items": { "type": "string" } }
    })
}

/// The only version that this program writes.
fn pin_version(definitions: &mut Map<String, Value>) {
    let version = definitions
        .get_mut("Explanation")
        .and_then(|e| e.pointer_mut("/properties/schemaVersion"))
        .and_then(Value::as_object_mut);
    if let Some(version) = version {
        version.insert("const".into(), json!(SCHEMA_VERSION));
    }
}

/// What every document has beside its content.
fn envelope(kind: &str) -> Value {
    let statuses = [
        Status::Ok,
        Status::Negative,
        Status::Usage,
        Status::Input,
        Status::Environment,
        Status::Divergence,
    ];
    let codes: Vec<u8> = statuses.into_iter().map(Status::code).collect();
    json!({
        "schemaVersion": { "const": SCHEMA_VERSION },
        "kind": { "description": "What the document holds.", "const": kind },
        "status": { "description": "The exit code.", "enum": codes },
        "warnings": {
            "description": "Warnings about the input.",
            "type": "array",
            "items": { "$ref": "#/$defs/Diagnostic" }
        },
        "elapsedMicroseconds": {
            "description": "How long it took, where that was asked for.",
            "type": "integer",
            "minimum": 0
        }
    })
}

fn diagnostic() -> Value {
    let strings = json!({ "type": "array", "items": { "type": "string" } });
    let place = json!({ "$ref": "#/$defs/Place" });
    json!({
        "description": "Something wrong or doubtful about the input.",
        "type": "object",
        "properties": {
            "code": { "type": "string", "pattern": "^HW[0-9]{4}$" },
            "severity": { "enum": ["error", "warning"] },
            "message": { "type": "string" },
            "labels": { "type": "array", "items": {
                "type": "object",
                "properties": {
                    "at": place,
                    "text": { "type": "string" },
                    "primary": { "type": "boolean" }
                },
                "required": ["at", "text", "primary"]
            } },
            "notes": strings,
            "helps": { "type": "array", "items": {
                "type": "object",
                "properties": {
                    "message": { "type": "string" },
                    "fix": { "anyOf": [
                        {
                            "type": "object",
                            "properties": { "at": place, "replacement": { "type": "string" } },
                            "required": ["at", "replacement"]
                        },
                        { "type": "null" }
                    ] }
                },
                "required": ["message", "fix"]
            } }
        },
        "required": ["code", "severity", "message", "labels", "notes", "helps"]
    })
}

fn place() -> Value {
    let from = |least: u8| json!({ "type": "integer", "minimum": least });
    json!({
        "description": "A range of a file: lines and columns from 1, in characters; bytes from 0, half open.",
        "type": "object",
        "properties": {
            "file": { "type": "string" },
            "line": from(1), "column": from(1), "endLine": from(1), "endColumn": from(1),
            "start": from(0), "end": from(0)
        },
        "required": ["file", "line", "column", "endLine", "endColumn", "start", "end"]
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::diag::Diagnostic;
    use engine::explain::{Agreement, Divergence, Step, Undecided, Verdict};
    use engine::source::{SourceMap, Span};
    use jsonschema::Validator;

    use super::*;
    use crate::reply::{Answer, Content, Level, Reply};
    use crate::sample::{decided, dropped, tunneled};

    /// The published schema, and with no other top-level field than those it names.
    fn strict() -> Validator {
        let mut schema = schema();
        schema["unevaluatedProperties"] = json!(false);
        jsonschema::draft202012::new(&schema).unwrap()
    }

    fn document(explanation: Explanation) -> Value {
        let answer = Answer {
            explanation,
            level: Level::Normal,
            unmet: vec!["missed".into()],
            came_with: None,
            live: None,
        };
        written(&Reply::ok(Content::Answer(Box::new(answer))))
    }

    fn written(reply: &Reply) -> Value {
        let mut out = Vec::new();
        crate::render::json(reply, &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    fn check(explanation: Explanation) {
        let document = document(explanation);
        let validator = strict();
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|e| format!("{} at {}", e, e.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{errors:#?}\n{document:#}");
    }

    #[test]
    fn answers_are_as_the_schema_says() {
        check(tunneled());
        check(dropped());
        let mut asked = tunneled();
        let reply = decided(
            engine::net::Direction::Ingress,
            "web/client",
            engine::explain::LegOutcome::Reply,
        );
        let mut answer = tunneled();
        answer.hops[1].steps.push(Step::Skipped { decided: reply });
        answer.hops[1].steps.push(Step::Stack { host: true, followed: false });
        asked.reply = Some(Box::new(answer));
        check(asked);
        let mut odd = tunneled();
        odd.verdict = Verdict::Undecided;
        odd.undecided = Some(Undecided::EventsLost);
        odd.agreement = Agreement::Differ;
        odd.divergence = Some(Divergence {
            what: "verdict".into(),
            datapath: "allowed".into(),
            oracle: "dropped".into(),
        });
        check(odd);
    }

    #[test]
    fn warnings_and_time_are_described_too() {
        let mut sources = SourceMap::default();
        let file = sources.add("a.hop", "policy");
        let code = lang::codes::ALL.first().unwrap().code;
        let span = Span { file, start: 0, end: 6 };
        let warning = Diagnostic::warning(code, "unused", span)
            .label("here")
            .note("nothing refers to it")
            .fix("remove it", span, "");
        let answer = Answer {
            explanation: dropped(),
            level: Level::Full,
            unmet: Vec::new(),
            came_with: None,
            live: None,
        };
        let mut reply = Reply::ok(Content::Answer(Box::new(answer)));
        reply.warnings = vec![warning];
        reply.sources = Arc::new(sources);
        reply.elapsed = Some(std::time::Duration::from_micros(5));
        let document = written(&reply);
        assert!(strict().is_valid(&document), "{document:#}");
    }

    #[test]
    fn the_schema_refuses_what_no_answer_is() {
        let validator = strict();
        let broken = |change: &dyn Fn(&mut Value)| {
            let mut document = document(dropped());
            change(&mut document);
            assert!(!validator.is_valid(&document), "{document:#}");
        };
        broken(&|d| d["verdict"] = json!("fine"));
        broken(&|d| d["reason"] = json!("policy-denied"));
        broken(&|d| d["reason"]["code"] = json!(1));
        broken(&|d| d["schemaVersion"] = json!(SCHEMA_VERSION + 1));
        broken(&|d| d["kind"] = json!("listing"));
        broken(&|d| d["surplus"] = json!(1));
        broken(&|d| d["hops"][0]["steps"][0]["step"] = json!("guess"));
        broken(&|d| {
            d["decidedBy"][0].as_object_mut().unwrap().remove("implied");
        });
        broken(&|d| {
            d.as_object_mut().unwrap().remove("agreement");
        });
    }

    /// The report of a dialogue with one step.
    fn dialogue() -> crate::suite::Report {
        use engine::explain::{FlowKind, FlowState, KnownChange, KnownFlow};
        let known = KnownChange {
            node: "node01".into(),
            kind: FlowKind::Service,
            protocol: engine::net::Protocol::Tcp,
            source: "10.0.0.1:1".into(),
            destination: "10.96.0.20:80".into(),
            translated: Some("10.0.0.2:8080".into()),
            before: None,
            after: Some(KnownFlow { state: Some(FlowState::New), expires_in: 60 }),
        };
        let step = crate::suite::StepReport {
            step: "a -> b:80/tcp".into(),
            verdict: Some(Verdict::Allowed),
            known: vec![known],
        };
        let case = crate::suite::CaseReport {
            file: "a.hop".into(),
            name: "a dialogue".into(),
            location: engine::source::Location { file: "a.hop".into(), line: 1, column: 1 },
            outcome: crate::suite::Outcome::Passed,
            misses: Vec::new(),
            checked: 1,
            steps: vec![step],
        };
        crate::suite::Report { cases: vec![case], ..crate::suite::Report::default() }
    }

    #[test]
    fn documents_of_other_kinds_are_described_too() {
        let validator = strict();
        let mut listing =
            crate::reply::Listing::new("pods", &[("name", "NAME"), ("count", "COUNT")]);
        listing.rows = vec![vec!["a".into(), 1_u32.into()], vec![crate::reply::Cell::None; 2]];
        let replies = [
            Reply::nothing(),
            Reply::text("lines"),
            Reply::failure(Status::Usage, "no", ""),
            Reply::failure(Status::Environment, "no", "do something"),
            Reply::diagnostics(Vec::new(), Arc::default()),
            Reply::ok(Content::Listing(listing)),
            Reply::ok(Content::Suite(crate::suite::Report::default())),
            Reply::ok(Content::Suite(dialogue())),
        ];
        for reply in &replies {
            let document = written(reply);
            assert!(validator.is_valid(&document), "{document:#}");
            let mut broken = document.clone();
            broken["status"] = json!(17);
            assert!(!validator.is_valid(&broken), "{broken:#}");
        }
    }

    #[test]
    fn every_promised_field_has_a_description() {
        let schema = schema();
        let definitions = schema["$defs"].as_object().unwrap();
        for (name, fields) in [
            (
                "Explanation",
                "verdict reason undecided tunneled agreement backend profile decidedBy isolatedBy nearest obstacle known unobserved assumed lost generation reply hops",
            ),
            ("Decided", "direction outcome policy rule file line entry implied"),
            ("HopReport", "node hook device steps tunnel undetermined quiet after frame"),
            ("Unobserved", "left by node hook device endpoint"),
            ("KnownChange", "node kind source destination translated before after"),
            ("TunnelReport", "kind source destination port vni"),
        ] {
            for field in fields.split(' ') {
                let described = definitions[name]["properties"][field]["description"].is_string();
                assert!(described, "{name}.{field}");
            }
        }
        assert!(definitions["HopReport"]["properties"].get("frameIn").is_none());
    }
}
