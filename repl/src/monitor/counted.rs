//! `--metrics ADDR`: what is seen, counted for Prometheus while it is watched.

use std::cell::RefCell;
use std::rc::Rc;

use datapath::decode::Run;
use engine::backend::BackendError;
use engine::topology::NodeId;

use super::watch::Watch;
use super::{Scene, Source};
use crate::metrics::{About, Metrics, Names, Server, serve};

/// Metrics that are served as long as it is held.
pub(super) struct Counted {
    pub(super) metrics: Metrics,
    /// The names of the latest scene that a run was of.
    names: RefCell<Option<(Rc<Scene>, Names)>>,
    _server: Server,
}

impl Counted {
    pub(super) fn serve(address: &str, source: &dyn Source) -> Result<Self, BackendError> {
        let name = source.name();
        let installation = name.rsplit(' ').next().unwrap_or_default().to_owned();
        let metrics = Metrics::new(&About { installation, observes: source.observes() });
        let server =
            serve(address, metrics.clone()).map_err(|error| BackendError::Unsupported {
                what: format!("serving ({error})"),
                remedy: error.remedy().to_owned(),
            })?;
        Ok(Self { metrics, names: RefCell::new(None), _server: server })
    }

    /// Counts a run, with names that its tables have.
    pub(super) fn saw(&self, watch: &Watch, node: NodeId, run: &Run) {
        let Some(scene) = watch.known(run.generation) else {
            return self.metrics.unattributed(&watch.node(node));
        };
        let mut names = self.names.borrow_mut();
        if names.as_ref().is_none_or(|(known, _)| !Rc::ptr_eq(known, &scene)) {
            let Scene { world, policies, tables, .. } = &*scene;
            *names = Some((Rc::clone(&scene), Names::of(world, policies, tables)));
        }
        if let Some((_, names)) = &*names {
            self.metrics.saw(names, node, run);
        }
    }
}
