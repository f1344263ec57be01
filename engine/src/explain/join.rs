//! The join itself.

use crate::eval::Judgement;
use crate::policy::PolicySet;
use crate::question::Question;
use crate::source::SourceMap;
use crate::tables::Tables;
use crate::topology::World;
use crate::trace::Trace;

use super::Explanation;

/// What an explanation is made from, besides the answers themselves.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The world.
    pub world: &'a World,
    /// The policies.
    pub policies: &'a PolicySet,
    /// The tables the trace ran on.
    pub tables: &'a Tables,
    /// Texts, for places.
    pub sources: &'a SourceMap,
}

/// Joins one journey of a packet with its provenance and the oracle's answer. Without a judgement the
/// agreement is `single`. The reply, where asked for, is explained by the caller the same way and put in.
pub fn explain(
    _context: &Context<'_>,
    _question: &Question,
    _trace: &Trace,
    _judgement: Option<&Judgement>,
) -> Option<Explanation> {
    None
}
