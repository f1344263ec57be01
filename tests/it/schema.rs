//! Answers of the real datapath, as JSON, held against the published schema and against what the text
//! says: the fields that scripts may rely on.

use serde_json::{Value, json};

use repl::render;

use crate::kernel;
use crate::tree::root;

const WORLD: &str = "fixtures/worlds/two-nodes.hop";
const POLICY: &str = r#"policy shop/server {
  owner "team-shop"
  select { app = "server" }
  allow ingress as web from pods { app = "client" } on 80/tcp
  deny ingress as no-telnet on 23/tcp
}"#;

/// Asks in JSON, and checks the document before giving it back.
fn answers(questions: &[&str]) -> Vec<Value> {
    let mut session = kernel::session();
    let loaded = session.load(&[root().join(WORLD)]);
    assert!(loaded.is_ok(), "{}", kernel::text(&loaded));
    let changed = session.execute(POLICY);
    assert!(changed.is_ok(), "{}", kernel::text(&changed));
    let schema = jsonschema::draft202012::new(&render::schema()).expect("the schema is one");
    let mut ask = |question: &&str| {
        let reply = session.execute(question);
        let mut out = Vec::new();
        render::json(&reply, &mut out).expect("memory takes all");
        let document: Value = serde_json::from_slice(&out).expect("it is JSON");
        let errors: Vec<String> = schema.iter_errors(&document).map(|e| e.to_string()).collect();
        assert!(errors.is_empty(), "{question}: {errors:#?}\n{document:#}");
        document
    };
    questions.iter().map(&mut ask).collect()
}

#[test]
fn every_kind_of_answer_is_as_the_schema_says() {
    let answers = answers(&[
        "trace shop/client -> shop/server:80/tcp with reply",
        "trace shop/client -> shop/server:23/tcp",
        "trace shop/stranger -> shop/server:80/tcp",
        "trace world 8.8.8.8 -> shop/server:80/tcp",
        "trace shop/client -> shop/server icmp 3/4",
        "trace shop/client -> shop/server icmp echo from-ip 10.1.0.99",
        "trace shop/client -> world 8.8.8.8:53/udp",
        "trace node node02 -> shop/server:80/tcp",
        "trace shop/client -> shop/server udp fragment offset 1480",
    ]);
    let verdicts: Vec<&Value> = answers.iter().map(|a| &a["verdict"]).collect();
    let expected = [
        "allowed", "dropped", "dropped", "dropped", "allowed", "dropped", "allowed", "allowed",
        "dropped",
    ];
    assert_eq!(verdicts, expected);
    for answer in &answers {
        assert_eq!(answer["agreement"], "agree", "{answer:#}");
    }
}

#[test]
fn an_allowed_flow_names_rule_place_and_tunnel() {
    let answers = answers(&["trace shop/client -> shop/server:80/tcp with reply"]);
    let answer = &answers[0];
    assert_eq!((&answer["reason"], &answer["tunneled"]), (&Value::Null, &json!(true)));
    let [egress, ingress] = answer["decidedBy"].as_array().expect("a list").as_slice() else {
        panic!("two directions: {answer:#}")
    };
    assert_eq!((&egress["implied"], &egress["policy"]), (&json!("not-isolated"), &Value::Null));
    assert_eq!((&ingress["policy"], &ingress["rule"]), (&json!("shop/server"), &json!("web")));
    assert_eq!((&ingress["owner"], &ingress["outcome"]), (&json!("team-shop"), &json!("allow")));
    assert!(ingress["line"].is_u64() && ingress["entry"].as_u64() > Some(0), "{ingress:#}");
    let sent = &answer["hops"][0];
    assert_eq!((&sent["node"], &sent["hook"]), (&json!("node01"), &json!("from-container")));
    assert_eq!((&sent["tunnel"]["kind"], &sent["tunnel"]["port"]), (&json!("vxlan"), &json!(8472)));
    assert_eq!(sent["tunnel"]["destination"], "192.168.1.2");
    assert!(sent["undetermined"].as_array().is_some_and(|open| !open.is_empty()), "{sent:#}");
    let frame = sent["frame"].as_str().expect("hex");
    assert!(!frame.is_empty() && frame.chars().all(|c| c.is_ascii_hexdigit()), "{frame}");
    let reply = &answer["reply"];
    assert_eq!((&reply["verdict"], &reply["agreement"]), (&json!("allowed"), &json!("agree")));
    let skipped: Vec<&Value> =
        reply["decidedBy"].as_array().expect("a list").iter().map(|d| &d["implied"]).collect();
    assert_eq!(skipped, ["reply", "reply"]);
}

#[test]
fn a_default_deny_names_who_isolated_and_what_came_near() {
    let answers = answers(&["trace shop/stranger -> shop/server:80/tcp"]);
    let answer = &answers[0];
    assert_eq!(answer["reason"], json!({ "name": "policy-denied", "code": 133 }));
    assert_eq!(answer["droppedAt"]["endpoint"], "shop/server");
    assert_eq!(answer["isolatedBy"][0]["policy"], "shop/server");
    let near = answer["nearest"].as_array().expect("a list");
    assert_eq!(near.len(), 1, "the deny is none: {near:#?}");
    assert_eq!(near[0]["rule"], "shop/server#web");
    let conditions = near[0]["conditions"].as_array().expect("a list");
    let held: Vec<(&Value, &Value)> = conditions.iter().map(|c| (&c["name"], &c["ok"])).collect();
    let (from, port) = (json!("from"), json!("port"));
    assert_eq!(held, [(&from, &json!(false)), (&port, &json!(true))]);
    assert!(conditions[0]["wants"].is_string() && conditions[0]["location"]["line"].is_u64());
}
