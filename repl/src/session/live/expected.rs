//! What must come of a real packet, as a test says it behind `=>`: read in the world of what is asked about, before anything is sent, and held
//! against every answer.

use std::rc::Rc;

use engine::explain::Explanation;
use engine::topology::World;
use lang::suite::Expectation;

use super::super::Session;
use super::super::ask::ANY_QUESTION;
use super::trace::Live;
use crate::reply::Reply;
use crate::suite::misses;

/// See the module.
#[derive(Debug)]
pub(crate) struct Expected {
    expectation: Expectation,
    world: World,
}

impl Live {
    /// What an answer misses.
    pub(super) fn unmet(&self, came: &Explanation) -> Vec<String> {
        let expected = self.expected.as_ref();
        expected.map_or_else(Vec::new, |e| misses(&e.expectation, came, &e.world))
    }
}

impl Session {
    /// The same with an expectation.
    pub(super) fn expecting(&mut self, live: &Live, text: &str) -> Result<Live, Box<Reply>> {
        let expected = if self.asks_elsewhere(live) {
            Expected::of(&mut there(live.on.as_deref())?, text)?
        } else {
            Expected::of(self, text)?
        };
        Ok(Live { expected: Some(Rc::new(expected)), ..live.clone() })
    }

    /// Whether a question is about another world than the session's.
    fn asks_elsewhere(&self, live: &Live) -> bool {
        live.on.is_some() || (live.waits() && !self.holds_lab())
    }

    /// Whether there is a lab that goes with the session.
    pub(super) fn holds_lab(&self) -> bool {
        #[cfg(feature = "lab")]
        let holds = self.lab.0.is_some();
        #[cfg(not(feature = "lab"))]
        let holds = false;
        holds
    }
}

impl Expected {
    fn of(session: &mut Session, text: &str) -> Result<Self, Box<Reply>> {
        match session.expectation(ANY_QUESTION, text) {
            Ok(expectation) => Ok(Self { expectation, world: session.state.world.clone() }),
            Err(problems) => Err(Box::new(session.complain(problems))),
        }
    }
}

/// A session of what an installation's texts mean.
#[cfg(feature = "lab")]
fn there(name: Option<&str>) -> Result<Session, Box<Reply>> {
    use datapath::live::install::State;

    let state = State::standard();
    let opened = state.meant(name, None).and_then(|name| state.open(&name).map(|r| (name, r)));
    let (name, record) = opened.map_err(|error| super::source::complaint(&error))?;
    super::source::session(&record).ok_or_else(|| super::source::not_understood(&name))
}

#[cfg(not(feature = "lab"))]
fn there(_: Option<&str>) -> Result<Session, Box<Reply>> {
    super::source::open(&crate::monitor::Asked::default())
        .map(|_| Session::new(crate::backend::open))
}
