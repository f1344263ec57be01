//! What is written down about an installation. Reads and writes nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::live::attachment::Place;

/// Of what form records are written now.
pub(super) const VERSION: u32 = 1;

/// What is installed, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Nodes and pods of our own.
    Lab,
    /// Programs on devices that were there before.
    Attached,
}

/// How far its maker came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Something of it is there.
    Building,
    /// All of it is there.
    Up,
    /// Something of it may be gone.
    Leaving,
}

/// A text that world and policies come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name, as answers print it.
    pub name: String,
    /// The text.
    pub text: String,
}

/// A node's part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Where its namespace was found; `None`: it was the maker's own.
    pub namespace: Option<PathBuf>,
    /// What the namespace is: device and inode of its files. `None`: its name is its own, as in labs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<(u64, u64)>,
    /// Where its programs hang, by namespace where they are not all in the node's.
    pub places: Vec<Place>,
}

/// A named namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Whose: `world`, a node's name, `NAMESPACE/POD`.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
}

/// What is written down about an installation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Of what form it is.
    pub version: u32,
    /// The version of the programs' side that it was made with.
    pub abi: u32,
    /// What it is.
    pub kind: Kind,
    /// How far it came.
    pub stage: Stage,
    /// The number of the generation that its programs have, which is also that of the tables that the sources compile to.
    pub number: u32,
    /// The process that wrote this.
    pub process: u32,
    /// When it was made, in seconds since 1970.
    pub since: u64,
    /// The texts, in the order in which they are loaded, with whatever they include.
    pub sources: Vec<Source>,
    /// The names among them that are loaded, without what they include.
    pub entries: Vec<String>,
    /// The nodes, in the order of the tables.
    pub nodes: Vec<Node>,
    /// The namespaces that were made for it.
    pub spaces: Vec<Space>,
    /// While it is changed: what it becomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Box<Record>>,
    /// What only its kind knows about.
    #[serde(default, skip_serializing_if = "serde_json::Value::is_null")]
    pub more: serde_json::Value,
}

impl Record {
    /// Its nodes, and those that it gets while it is changed.
    pub fn all_nodes(&self) -> impl Iterator<Item = &Node> {
        let is_new = |node: &&Node| self.nodes.iter().all(|known| known.name != node.name);
        let next = self.next.iter().flat_map(|next| &next.nodes);
        self.nodes.iter().chain(next.filter(is_new))
    }

    /// The record of something that begins to be made.
    pub fn new(kind: Kind, number: u32) -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        Self {
            version: VERSION,
            abi: datapath_abi::ABI_VERSION,
            kind,
            stage: Stage::Building,
            number,
            process: std::process::id(),
            since: now.map_or(0, |now| now.as_secs()),
            sources: Vec::new(),
            entries: Vec::new(),
            nodes: Vec::new(),
            spaces: Vec::new(),
            next: None,
            more: serde_json::Value::Null,
        }
    }
}
