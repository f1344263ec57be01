//! Questions as files: everything that a debugger needs to ask one again on another machine, and what was answered, so
//! that it can say whether the answer is the same there. JSON; bytes are in hex.

use std::path::Path;
use std::rc::Rc;

use datapath::object::Object;
use datapath::vm::Vm;
use engine::backend::{Backend, Remembered};
use engine::explain::Explanation;
use engine::source::SourceMap;
use engine::tables::Generation;
use lang::{Loader, Workspace};
use serde::{Deserialize, Serialize};

use super::Problem;
use super::edit::bytes_of;
use super::maps::hex;
use super::scene::{Earlier, Scene, Subject};
use crate::render;
use crate::reply::Reply;
use crate::session::State;

/// What a file begins to be recognised by.
const FORMAT: &str = "hopwise recording";
/// Raised when a field changes its meaning.
const VERSION: u32 = 1;

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Recording {
    format: String,
    version: u32,
    /// The program that wrote it.
    hopwise: String,
    /// Digest of the datapath's object that answered.
    object: String,
    question: String,
    /// The simulated clock, in seconds.
    now: u64,
    texts: Vec<Text>,
    /// Flows that were there before; absent where the question was on a conntrack of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    flows: Option<Vec<Flow>>,
    /// State of the tables that the flows were remembered under.
    generation: u32,
    /// The answer at the level `minimal`.
    answer: Vec<String>,
}

/// In what a recording is of another hopwise.
pub(crate) struct Difference {
    /// What to say.
    pub(crate) words: String,
    /// Whether the answer is another one.
    pub(crate) in_answer: bool,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    name: String,
    text: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Flow {
    node: String,
    ipv6: bool,
    key: String,
    value: String,
}

impl Recording {
    /// The recording of a question that was just answered. `flows` by node are those from before.
    pub(crate) fn of(
        scene: &Scene,
        flows: &[(String, Vec<Remembered>)],
        explanation: &Explanation,
    ) -> Self {
        let text = |document: &lang::workspace::Document| Text {
            name: document.name.clone(),
            text: document.text.clone(),
        };
        let flow = |node: &str, flow: &Remembered| Flow {
            node: node.to_owned(),
            ipv6: flow.is_v6,
            key: hex(&flow.key),
            value: hex(&flow.value),
        };
        let all = flows.iter().flat_map(|(node, flows)| flows.iter().map(|f| flow(node, f)));
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            hopwise: env!("CARGO_PKG_VERSION").to_owned(),
            object: Object::find().map(|object| object.digest()).unwrap_or_default(),
            question: scene.text.clone(),
            now: scene.now,
            texts: scene.state.workspace.documents().map(text).collect(),
            flows: (!matches!(scene.earlier, Earlier::None)).then(|| all.collect()),
            generation: scene.state.tables.generation.0,
            answer: render::minimal_lines(explanation),
        }
    }

    /// The text of the file.
    pub(crate) fn text(&self) -> String {
        // Plain data with string keys.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// Reads a file's text. An error says what is wrong with it.
    pub(crate) fn read(path: &Path, text: &str) -> Result<Self, Problem> {
        let wrong = |what: &str| {
            let what = what.escape_debug();
            let message = format!("`{}` is no recording: {what}", path.display());
            Problem::new(message, "`hopwise trace --record FILE QUESTION` writes one")
        };
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| wrong(&error.to_string()))?;
        if value["format"] != FORMAT {
            return Err(wrong("it does not say that it is one"));
        }
        if value["version"] != VERSION {
            let message = format!("`{}` is of version {}", path.display(), value["version"]);
            let remedy = format!("this hopwise reads version {VERSION}; record the question anew");
            return Err(Problem::new(message, remedy));
        }
        if holds_control(&value) {
            return Err(wrong("it holds control characters, which could write on the terminal"));
        }
        serde_json::from_value(value).map_err(|error| wrong(&error.to_string()))
    }

    /// The state that it is about. An error is the reply that says what is wrong with its texts.
    pub(crate) fn scene(&self) -> Result<Scene, Box<Reply>> {
        let mut sources = SourceMap::default();
        let texts: Vec<_> = self.texts.iter().map(|t| (t.name.clone(), t.text.clone())).collect();
        let workspace = Workspace::load(&texts, &mut Recorded(&self.texts), &mut sources);
        let complain = |problems, sources: &SourceMap| {
            Box::new(Reply::diagnostics(problems, std::sync::Arc::new(sources.clone())))
        };
        let state = State::derive(workspace, &sources, Generation(self.generation.max(1)))
            .map_err(|problems| complain(problems, &sources))?;
        let file = sources.add(super::INPUT, self.question.as_str());
        let question = lang::command::parse_question(&self.question, file)
            .map_err(|problems| complain(problems, &sources))?;
        let question = lang::resolve::question(&state.world, &question)
            .map_err(|problem| complain(vec![problem], &sources))?;
        let earlier = if self.flows.is_some() { Earlier::Recorded } else { Earlier::None };
        let subject = Subject::Flow(Box::new(question));
        Ok(Scene { state, sources, earlier, now: self.now, subject, text: self.question.clone() })
    }

    /// Brings the flows from before to a backend that has the scene's tables.
    pub(crate) fn bring_flows(&self, scene: &Scene, vm: &mut Vm) -> Result<(), Box<Reply>> {
        let bad = |flow: &Flow| {
            let message = format!("the recording has a flow of {} that cannot be read", flow.node);
            Box::new(Problem::new(message, "record the question anew").reply())
        };
        for flow in self.flows.iter().flatten() {
            let node = scene.state.world.nodes().find(|(_, node)| node.name == flow.node);
            let bytes = |text: &str| text.strip_prefix("0x").and_then(bytes_of);
            let (Some((node, _)), Some(key), Some(value)) =
                (node, bytes(&flow.key), bytes(&flow.value))
            else {
                return Err(bad(flow));
            };
            let flows = [Remembered { is_v6: flow.ipv6, key, value }];
            vm.remember(node, &flows).map_err(|_| bad(flow))?;
        }
        Ok(())
    }

    /// How this hopwise answers otherwise than was recorded, if it does; or that its programs are others, which matters
    /// to who goes through their instructions.
    pub(crate) fn difference(&self, scene: &Rc<Scene>, vm: &Vm) -> Option<Difference> {
        let answer = scene.plan()(&mut vm.clone());
        let lines = match &answer {
            Ok(explanation) => render::minimal_lines(explanation),
            Err(error) => vec![error.to_string()],
        };
        let own = Object::find().map(|object| object.digest()).unwrap_or_default();
        if lines == self.answer {
            let words = "the recording is of another datapath: the answer is the same, lines and \
                         instructions may be others";
            let other = Difference { words: words.to_owned(), in_answer: false };
            return (own != self.object).then_some(other);
        }
        let why = if own == self.object {
            "although it has the same datapath"
        } else {
            "and has another datapath"
        };
        let odd = self.answer.iter().find(|line| !lines.contains(line));
        let odd = odd.map_or_else(String::new, |line| format!("; recorded was `{line}`"));
        let words = format!("this hopwise answers otherwise than the recording, {why}{odd}");
        Some(Difference { words, in_answer: true })
    }
}

/// Whether a text in it holds characters that a terminal obeys.
fn holds_control(value: &serde_json::Value) -> bool {
    use serde_json::Value;
    let obeyed = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    match value {
        Value::String(text) => text.contains(obeyed),
        Value::Array(values) => values.iter().any(holds_control),
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| key.contains(obeyed) || holds_control(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Includes out of the recording itself.
struct Recorded<'a>(&'a [Text]);

impl Loader for Recorded<'_> {
    fn load(&mut self, path: &str, relative_to: &str) -> Result<(String, String), String> {
        let base = Path::new(relative_to).parent().unwrap_or(Path::new(""));
        let name = crate::session::tidied(&base.join(path)).display().to_string();
        let known = self.0.iter().find(|text| text.name == name);
        let known = known.ok_or_else(|| "the recording does not hold it".to_owned())?;
        Ok((known.name.clone(), known.text.clone()))
    }
}
