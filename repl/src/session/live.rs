//! Commands about real packets: `monitor` and `trace --live`. Owns how their flags become what is asked, and where their items go; watching is
//! [`crate::monitor`]'s.

#[cfg(feature = "lab")]
mod caught;
mod elsewhere;
mod expected;
#[cfg(feature = "lab")]
mod http;
#[cfg(feature = "lab")]
mod kind;
#[cfg(feature = "lab")]
mod own;
mod source;
mod trace;

use std::io;

use engine::backend::BackendError;
use lang::command::Flag;

use super::{Session, refused};
use crate::monitor::{Asked, Item, Nobody, Sink, Source, Watched, draw, watch};
use crate::reply::{Content, Reply, Status};
pub(crate) use source::installed;
pub(crate) use trace::Live;

/// Items that a reply holds at most, where nobody shows them as they come.
const HELD: usize = 10_000;

/// Holds items for the reply.
#[derive(Debug, Default)]
struct Held(Vec<Item>);

impl Sink for Held {
    fn show(&mut self, items: &[Item]) -> io::Result<()> {
        let room = HELD.saturating_sub(self.0.len());
        self.0.extend(items.iter().take(room).cloned());
        Ok(())
    }
}

impl Session {
    /// Where items go as they come; without it a reply holds the first of them.
    pub fn set_sink(&mut self, sink: Box<dyn Sink>) {
        self.sink = Some(sink);
    }

    /// The command of a session.
    pub(super) fn monitor_words(&mut self, flags: &[Flag]) -> Reply {
        let mut asked = Asked::default();
        for flag in flags {
            let value = flag.value.as_ref();
            let text = value.map_or("", |value| value.node.as_str());
            if let Err(message) = asked.take(&flag.name.node, text) {
                let span = value.map_or(flag.name.span, |value| value.span);
                let problem =
                    engine::diag::Diagnostic::error(lang::codes::COMMAND_ARGUMENT, message, span);
                return self.complain(vec![problem.help("`help monitor` shows what it takes")]);
            }
        }
        self.monitor(&asked)
    }

    /// Watches what the programs of an installation say, until it was asked enough or is interrupted.
    pub fn monitor(&mut self, asked: &Asked) -> Reply {
        if let Some(path) = &asked.pcap
            && let Err(reply) = super::capture::replaceable(path)
        {
            return *reply;
        }
        if let Some(Err(error)) = asked.metrics.as_ref().map(|at| crate::metrics::check(at)) {
            return Reply::failure(Status::Environment, error.to_string(), error.remedy());
        }
        #[cfg(feature = "lab")]
        if asked.on.is_none()
            && let Some(mut own) = self.lab.0.take()
        {
            let reply = match own::Listened::to(&mut own, source::mode(asked)) {
                Ok(mut source) => self.monitored(&mut source, asked),
                Err(error) => *refused(&error),
            };
            self.lab.0 = Some(own);
            return reply;
        }
        match source::open(asked) {
            Ok(mut source) => self.monitored(&mut *source, asked),
            Err(reply) => *reply,
        }
    }

    /// Watches a source.
    pub fn monitored(&mut self, source: &mut dyn Source, asked: &Asked) -> Reply {
        let filter = match asked.filter.of(&source.present()) {
            Ok(filter) => filter,
            Err(Nobody { message, remedy }) => {
                return Reply::failure(Status::Input, message, remedy);
            }
        };
        let asked = &Asked { filter, ..asked.clone() };
        let interrupt = self.interrupt.clone();
        let mut held = Held::default();
        let sink: &mut dyn Sink = match &mut self.sink {
            Some(sink) => &mut **sink,
            None => &mut held,
        };
        match watch(source, asked, sink, &interrupt) {
            Ok(report) => {
                let drawing = asked.graph.map(|drawing| draw(&report.talks, drawing));
                let watched = Watched { report, items: held.0, drawing };
                Reply::ok(Content::Watched(Box::new(watched)))
            }
            Err(error) => watching(&error),
        }
    }
}

/// Why watching ended that should not have.
fn watching(error: &BackendError) -> Reply {
    match error {
        BackendError::System { call, .. } if call.starts_with("writing `") => {
            let remedy = "name a file in a folder that can be written";
            Reply::failure(Status::Environment, error.to_string(), remedy)
        }
        error => *refused(error),
    }
}
