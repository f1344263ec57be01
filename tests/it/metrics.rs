//! Metrics as others see them: a real Prometheus server scrapes them, `promtool` finds nothing wrong with them, and the dashboard asks
//! only for what there is. Without the server's programs (`make test-metrics` has them) that part is skipped.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use repl::metrics::{About, FAMILIES, Kind, Measured, Metrics, serve};
use serde_json::Value;

use crate::kernel;
use crate::tree::{read, root};

const DASHBOARD: &str = "fixtures/grafana/hopwise.json";

/// Labels that every series has, those of the scrape and those of queries that count series.
const EVERYWHERE: [&str; 4] = ["installation", "mode", "instance", "job"];

/// Labels that a text names: in selectors, behind `by`, and in a legend's braces.
fn labels(text: &str) -> BTreeSet<&str> {
    let mut found = BTreeSet::new();
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    for legend in text.split("{{").skip(1) {
        found.extend(legend.split("}}").next());
    }
    for inside in text.split(['{', ',']).skip(1) {
        let word = inside.split(|c| !is_part(c)).next().unwrap_or_default();
        let operator = inside.get(word.len()..).unwrap_or_default();
        let is_matcher = ["=\"", "=~\"", "!=\"", "!~\""].iter().any(|o| operator.starts_with(o));
        found.extend((is_matcher && !word.is_empty()).then_some(word));
    }
    for listed in text.split(" by (").skip(1) {
        let list = listed.split(')').next().unwrap_or_default();
        found.extend(list.split(',').map(str::trim));
    }
    found
}

/// Fails where a query or what is made of it names a label that its families do not have.
fn has_labels(query: &str, text: &str) {
    let of = |name: &str| FAMILIES.iter().find(|family| family.name == name);
    for label in labels(text) {
        let is_known = |name: &str| of(name).is_some_and(|family| family.labels.contains(&label));
        assert!(EVERYWHERE.contains(&label) || named(query).all(is_known), "{label}: {query}");
    }
}

#[test]
fn labels_of_a_query_are_found() {
    let query = "sum by (node, reason) (rate(x{node=~\"$node\",mode!=\"a\"}[1m])) {{hook}}";
    assert_eq!(labels(query).into_iter().collect::<Vec<_>>(), ["hook", "mode", "node", "reason"]);
}

/// Words of a text that are names of metrics.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split(move |c: char| !is_part(c)).filter(|word| word.starts_with("hopwise_"))
}

#[test]
fn the_dashboard_asks_for_what_there_is_and_for_all_of_it() {
    let dashboard: Value = serde_json::from_str(&read(&root().join(DASHBOARD))).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let mut asked = BTreeSet::new();
    for panel in panels {
        for target in panel["targets"].as_array().expect("targets") {
            let query = target["expr"].as_str().expect("a query");
            let names: Vec<&str> = named(query).collect();
            has_labels(query, query);
            has_labels(query, target["legendFormat"].as_str().unwrap_or_default());
            assert!(!names.is_empty(), "{query}");
            for name in names {
                let family = FAMILIES.iter().find(|family| family.name == name);
                let family = family.unwrap_or_else(|| panic!("there is no {name}: {query}"));
                let is_rated = query.contains("rate(");
                assert_eq!(is_rated, family.kind == Kind::Counter, "{query}");
                asked.insert(family.name);
            }
        }
    }
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        let query = variable["definition"].as_str().unwrap_or_default();
        assert!(named(query).all(|name| FAMILIES.iter().any(|f| f.name == name)), "{query}");
        has_labels(query, query);
        // `label_values(metric, label)`
        if let Some((_, label)) = query.trim_end_matches(')').rsplit_once(", ") {
            has_labels(query, &format!("{{{{{label}}}}}"));
        }
    }
    let all: BTreeSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
    assert_eq!(asked, all);
}

#[test]
fn the_book_names_every_family_with_its_labels() {
    let page = read(&root().join("book/src/metrics.md"));
    for family in FAMILIES {
        let row = page.lines().find(|line| line.contains(&format!("`{}`", family.name)));
        let row = row.unwrap_or_else(|| panic!("the book lacks {}", family.name));
        for label in family.labels {
            let is_party = label.starts_with("source_") || label.starts_with("destination_");
            let told = if is_party { "who" } else { label };
            assert!(row.contains(told), "{}: {label}", family.name);
        }
    }
}

/// Where the server's programs are.
fn programs() -> Option<PathBuf> {
    let folder = std::env::var_os("HOPWISE_PROMETHEUS").map(PathBuf::from);
    if folder.is_none() {
        assert!(!kernel::is_required("prometheus"), "HOPWISE_PROMETHEUS names no folder");
        kernel::skip("Prometheus: HOPWISE_PROMETHEUS names no folder (`make test-metrics` does)");
    }
    folder
}

/// Metrics of which every family has something.
pub(crate) fn of_everything() -> Metrics {
    use datapath::decode::Runs;
    use datapath_abi as abi;
    use engine::source::SourceMap;
    use engine::tables::Generation;
    use engine::topology::NodeId;
    use engine::trace::Counter;
    use zerocopy::IntoBytes;

    let text = read(&root().join("fixtures/worlds/two-nodes.hop"));
    let entry = [("world.hop".to_owned(), text)];
    let loaded = lang::load(&entry, &mut lang::NoIncludes, &mut SourceMap::default());
    let tables = engine::compile::compile(&loaded.world, &loaded.policies, Generation(1));
    let tables = tables.expect("it compiles");
    let names = repl::metrics::Names::of(&loaded.world, &loaded.policies, &tables);
    let about = About { installation: "shop".to_owned(), observes: true };
    let metrics = Metrics::new(&about);
    let endpoint = &tables.nodes[0].endpoints[0];
    let header = |kind| abi::EventHeader { kind, hook: 0, cpu: 0, generation: 1 };
    let parsed = abi::ParsedEvent {
        header: header(abi::kind::PARSED),
        family: abi::family::V4,
        protocol: 6,
        ..Default::default()
    };
    let policy = abi::PolicyEvent {
        header: header(abi::kind::POLICY),
        endpoint: endpoint.id.0,
        protocol: 6,
        outcome: abi::outcome::DEFAULT_DENY,
        ..Default::default()
    };
    let outcome = |action, reason| abi::OutcomeEvent {
        header: header(abi::kind::OUTCOME),
        action,
        reason,
        time: 1,
        length: 60,
        ..Default::default()
    };
    let denied = abi::reason::POLICY_DENIED;
    for end in [
        outcome(abi::action::STACK, 0),
        outcome(abi::action::DROP, denied),
        outcome(abi::action::PASS, denied),
    ] {
        let mut runs = Runs::default();
        for record in [parsed.as_bytes(), policy.as_bytes(), end.as_bytes()] {
            for run in runs.take(record).expect("a record of this version") {
                metrics.saw(&names, NodeId(0), &run);
            }
        }
    }
    metrics.lost("node01", 1);
    metrics.unattributed("node01");
    let counter = Counter {
        hook: engine::net::Hook::FromContainer,
        reason: None,
        direction: engine::net::Direction::Egress,
        packets: 1,
        bytes: 60,
    };
    metrics.measured(
        "node01",
        Measured {
            counters: vec![counter],
            maps: vec![("CT4".to_owned(), 1, 8192)],
            programs: vec![("from_container".to_owned(), Duration::from_micros(3), 1)],
        },
    );
    metrics
}

/// A server that goes with the test, with what it writes.
struct Prometheus {
    process: Child,
    port: u16,
    folder: PathBuf,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Prometheus {
    fn start(programs: &Path, target: &str) -> Self {
        let folder =
            std::env::temp_dir().join(format!("hopwise-prometheus-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("prometheus.yml");
        let text = format!(
            "global: {{ scrape_interval: 500ms, scrape_timeout: 500ms }}\n\
             scrape_configs: [{{ job_name: hopwise, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
        );
        std::fs::write(&file, text).expect("its configuration");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        let port = port.expect("a port").port();
        let process = Command::new(programs.join("prometheus"))
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .args(["--web.console.libraries=none", "--web.console.templates=none"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("prometheus starts");
        Self { process, port, folder }
    }

    /// What a query gives; `None` while there is nothing.
    fn ask(&self, query: &str) -> Option<Vec<Value>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        let request = format!(
            "GET /api/v1/query?query={query} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let document: Value = serde_json::from_str(body).ok()?;
        let result = document["data"]["result"].as_array()?.clone();
        (!result.is_empty()).then_some(result)
    }

    fn wait_for(&self, query: &str) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            if let Some(result) = self.ask(query) {
                return result;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{query} gives nothing");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Fails where `promtool` finds something wrong with a text.
pub(crate) fn is_well_formed(programs: &Path, text: &str) {
    let mut tool = Command::new(programs.join("promtool"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    let mut input = tool.stdin.take().expect("its input");
    input.write_all(text.as_bytes()).expect("it reads");
    drop(input);
    let said = tool.wait_with_output().expect("it ends");
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.status.success() && words.is_empty(), "{words}\n{text}");
}

#[test]
fn a_prometheus_server_scrapes_every_family() {
    let Some(programs) = programs() else { return };
    let metrics = of_everything();
    is_well_formed(&programs, &metrics.text());
    let server = serve("127.0.0.1:0", metrics).expect("a port");
    let prometheus = Prometheus::start(&programs, &server.address().to_string());
    for family in FAMILIES {
        let result = prometheus.wait_for(family.name);
        let labels = result[0]["metric"].as_object().expect("labels");
        assert_eq!(labels["installation"], "shop", "{}", family.name);
        assert_eq!(labels["mode"], "observe", "{}", family.name);
        // Labels without a value are none to Prometheus.
        let own = ["__name__", "installation", "mode", "instance", "job"];
        let is_known =
            |name: &String| family.labels.contains(&name.as_str()) || own.contains(&name.as_str());
        assert!(labels.keys().all(is_known), "{}: {labels:?}", family.name);
    }
    let up = prometheus.wait_for("up");
    assert_eq!(up[0]["value"][1], "1");
}

/// Before anything is attached or listened to: an address that is none, and one that somebody has.
#[test]
fn an_address_that_cannot_be_had_changes_nothing() {
    if !crate::lab::is_possible() {
        return;
    }
    let home = crate::labs::named::Home::new("unserved");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    for (address, said) in [
        ("127.0.0.1:999999", "`127.0.0.1:999999` is no address to serve metrics at"),
        (&port, "another process has that port"),
    ] {
        let attach = ["attach", "m", "-f", "fixtures/worlds/two-nodes.hop", "--metrics", address];
        for arguments in [&attach[..], &["monitor", "--metrics", address]] {
            let output = home.hopwise(arguments).output().expect("hopwise starts");
            let (text, code) = crate::binary::seen(&output);
            assert_eq!(code, 4, "{arguments:?}: {text}");
            assert!(text.starts_with("error: ") && text.contains(said), "{arguments:?}: {text}");
            assert!(!text.contains("attached"), "{text}");
        }
    }
}
