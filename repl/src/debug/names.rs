//! The names that a line at a stop may hold, for completion.

use datapath::vm::call::Helper;
use engine::reason::DropReason;
use lang::debug::NameKind;

use super::{Debugging, code, events};

/// Every kind of name.
const KINDS: [NameKind; 11] = [
    NameKind::Function,
    NameKind::SourceFile,
    NameKind::Map,
    NameKind::Helper,
    NameKind::Policy,
    NameKind::Rule,
    NameKind::Node,
    NameKind::Breakpoint,
    NameKind::Display,
    NameKind::DropReason,
    NameKind::EventKind,
];

impl Debugging {
    /// Names by kind as they are typed, as things stand now; those that need quotes are left out.
    pub(crate) fn names(&self) -> Vec<(NameKind, Vec<String>)> {
        let typed = |kind| self.names_of(kind).into_iter().filter(|name| is_typed(name)).collect();
        KINDS.into_iter().map(|kind| (kind, typed(kind))).collect()
    }

    fn names_of(&self, kind: NameKind) -> Vec<String> {
        let image = self.start.image();
        let policies = || self.scene.state.policies.iter().map(|(_, policy)| policy);
        match kind {
            // Whole too, for who begins with the module.
            NameKind::Function => {
                let whole = code::functions(image);
                let mut names = endings(&whole, "::");
                names.extend(owned(whole.into_iter()));
                names.sort_unstable();
                names.dedup();
                names
            }
            NameKind::SourceFile => {
                let files: Vec<String> =
                    code::sources(image).into_iter().map(|(file, _)| file).collect();
                let files: Vec<&str> = files.iter().map(String::as_str).collect();
                endings(&files, "/").into_iter().map(|file| file + ":").collect()
            }
            NameKind::Map => image.maps.iter().map(|map| map.name.clone()).collect(),
            NameKind::Helper => owned(Helper::ALL.iter().map(|helper| helper.name())),
            NameKind::Policy => policies().map(|policy| policy.handle.clone()).collect(),
            NameKind::Rule => policies()
                .flat_map(|policy| {
                    policy.rules.iter().map(|rule| format!("{}#{}", policy.handle, rule.name))
                })
                .collect(),
            NameKind::Node => {
                self.scene.state.world.nodes().map(|(_, node)| node.name.clone()).collect()
            }
            NameKind::Breakpoint => self.stops.iter().map(|stop| stop.number.to_string()).collect(),
            NameKind::Display => {
                self.displays.iter().map(|(number, ..)| number.to_string()).collect()
            }
            NameKind::DropReason => owned(DropReason::ALL.iter().map(|reason| reason.name())),
            NameKind::EventKind => owned(events::KINDS.into_iter()),
        }
    }
}

fn owned<'n>(names: impl Iterator<Item = &'n str>) -> Vec<String> {
    names.map(ToOwned::to_owned).collect()
}

/// Whether a name can be typed without quotes.
fn is_typed(name: &str) -> bool {
    !name.is_empty() && !name.contains(char::is_whitespace)
}

/// Names by their last part where only one ends in it, else whole.
fn endings(names: &[&str], separator: &str) -> Vec<String> {
    let last = |name: &str| name.rsplit(separator).next().unwrap_or_default().to_owned();
    let is_only = |end: &str| names.iter().filter(|name| last(name) == end).count() == 1;
    let short = |name: &&str| {
        let end = last(name);
        if is_only(&end) { end } else { (*name).to_owned() }
    };
    names.iter().map(short).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_last_part_where_that_is_enough() {
        let names = ["a::parse::new", "a::policy::new", "a::decide", "main"];
        assert_eq!(endings(&names, "::"), ["a::parse::new", "a::policy::new", "decide", "main"]);
        let files = ["x/src/lib.rs", "y/src/lib.rs", "x/ct.rs"];
        assert_eq!(endings(&files, "/"), ["x/src/lib.rs", "y/src/lib.rs", "ct.rs"]);
        assert!(is_typed("web/echo#https") && !is_typed("web/echo#to the web") && !is_typed(""));
    }
}
