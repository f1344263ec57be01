//! `set` and `time`: how the session answers.

use lang::ast::Name;

use super::Session;
use crate::backend::Choice;
use crate::reply::Content;
use crate::reply::{Level, Listing, Reply, Status};

/// When a question may see the conntrack of earlier ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConntrackMode {
    /// Each question starts with an empty conntrack.
    #[default]
    Fresh,
    /// Questions share conntrack, as packets of one wire do.
    Keep,
}

/// When colour is used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ColorMode {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What `set` and `time` change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How much of an answer is shown.
    pub level: Level,
    /// What questions remember.
    pub conntrack: ConntrackMode,
    /// Colour.
    pub color: ColorMode,
    /// Whether replies say how long they took.
    pub time: bool,
    /// What runs packets.
    pub backend: Choice,
}

/// Every setting with the words it takes.
pub const SETTINGS: &[(&str, &[&str])] = &[
    ("level", &["minimal", "normal", "full"]),
    ("conntrack", &["fresh", "keep"]),
    ("color", &["auto", "always", "never"]),
    ("time", &["on", "off"]),
    ("backend", &["auto", "kernel", "vm", "both", "lab"]),
];

impl Settings {
    /// Sets by words; an error says what there is.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let known = SETTINGS.iter().find(|(name, _)| *name == key);
        let Some((_, values)) = known else {
            let names: Vec<&str> = SETTINGS.iter().map(|(name, _)| *name).collect();
            return Err(format!("no setting `{key}`; there are {}", names.join(", ")));
        };
        let Some(at) = values.iter().position(|v| *v == value) else {
            return Err(format!("`{key}` is one of {}, not `{value}`", values.join(", ")));
        };
        match key {
            "level" => self.level = [Level::Minimal, Level::Normal, Level::Full][at],
            "conntrack" => self.conntrack = [ConntrackMode::Fresh, ConntrackMode::Keep][at],
            "color" => {
                self.color = [ColorMode::Auto, ColorMode::Always, ColorMode::Never][at];
            }
            "backend" => {
                self.backend =
                    [Choice::Auto, Choice::Kernel, Choice::Vm, Choice::Both, Choice::Lab][at];
            }
            _ => self.time = at == 0,
        }
        Ok(())
    }

    /// The word that a setting has now; empty for an unknown one.
    pub fn get(&self, key: &str) -> &'static str {
        let at = match key {
            "level" => self.level as usize,
            "conntrack" => self.conntrack as usize,
            "color" => self.color as usize,
            "backend" => self.backend as usize,
            _ => usize::from(!self.time),
        };
        SETTINGS.iter().find(|(name, _)| *name == key).map_or("", |(_, values)| values[at])
    }
}

impl Session {
    pub(super) fn set(&mut self, setting: Option<(Name, Name)>) -> Reply {
        let Some((key, value)) = setting else { return self.list_settings() };
        let before = self.settings.conntrack;
        match self.settings.set(&key.node, &value.node) {
            Ok(()) if before == self.settings.conntrack => Reply::nothing(),
            // What a question on its own left is not what later ones shall find.
            Ok(()) => match self.forget_flows() {
                Ok(()) => Reply::nothing(),
                Err(error) => *super::refused(&error),
            },
            Err(message) => Reply::failure(Status::Usage, message, "`set` alone lists what is set"),
        }
    }

    /// Lets time pass, which only a conntrack that is kept tells.
    pub(super) fn wait(&mut self, seconds: u64) -> Reply {
        if self.settings.conntrack == ConntrackMode::Fresh {
            let message = "no flow is remembered that could grow older";
            return Reply::failure(
                Status::Usage,
                message,
                "`set conntrack keep` lets questions share conntrack, and its time",
            );
        }
        self.now = self.now.saturating_add(seconds);
        Reply::nothing()
    }

    pub(super) fn time(&mut self, on: bool) -> Reply {
        self.settings.time = on;
        Reply::nothing()
    }

    fn list_settings(&self) -> Reply {
        let columns = [("setting", "SETTING"), ("value", "VALUE"), ("values", "VALUES")];
        let mut listing = Listing::new("settings", &columns);
        for (key, values) in SETTINGS {
            let values: Vec<String> = values.iter().map(ToString::to_string).collect();
            listing.rows.push(vec![(*key).into(), self.settings.get(key).into(), values.into()]);
        }
        Reply::ok(Content::Listing(listing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_sets_what_it_says() {
        for (key, values) in SETTINGS {
            for value in *values {
                let mut settings = Settings::default();
                assert_eq!(settings.set(key, value), Ok(()));
                assert_eq!(settings.get(key), *value);
            }
        }
    }

    #[test]
    fn unknown_words_are_refused_with_what_there_is() {
        let mut settings = Settings::default();
        let refused = settings.set("level", "loud").unwrap_err();
        assert_eq!(refused, "`level` is one of minimal, normal, full, not `loud`");
        let refused = settings.set("colour", "on").unwrap_err();
        assert_eq!(
            refused,
            "no setting `colour`; there are level, conntrack, color, time, backend"
        );
    }
}
