//! The mirror against an engine that does what the test says.

mod hearing;
mod looking;
mod on_engine;
mod scripted;

use std::sync::Arc;
use std::time::Duration;

use deployer_core::ambient::Ambient;
use deployer_core::ownership::Owner;
use deployer_engine::Engine;
use deployer_engine::mirror::{Hearing, Mirror, Snapshot};
use tokio::task::JoinSet;

use scripted::Scripted;

/// A mirror that follows an engine until it is dropped.
pub(crate) struct Following {
    pub(crate) mirror: Arc<Mirror>,
    _task: JoinSet<()>,
}

impl Following {
    pub(crate) fn begin(engine: impl Engine + 'static) -> Self {
        let mirror = Arc::new(Mirror::new(Arc::new(engine), || Box::new(|_| Owner::User)));
        let mut task = JoinSet::new();
        task.spawn(Arc::clone(&mirror).run(Arc::new(Ambient::chosen(|| 0, 7))));
        Self { mirror, _task: task }
    }

    /// The same, once everything was listed.
    pub(crate) async fn heard(engine: &Scripted) -> Self {
        let following = Self::begin(engine.clone());
        following.until(is_heard).await;
        settled().await;
        engine.asked();
        following
    }

    /// Waits until what is shown is as expected.
    #[track_caller]
    pub(crate) fn until(&self, is_so: impl Fn(&Snapshot) -> bool) -> impl Future<Output = ()> {
        let mut shown = self.mirror.subscribe();
        let place = std::panic::Location::caller();
        async move {
            let shown = tokio::time::timeout(Duration::from_secs(30), shown.wait_for(|snapshot| is_so(snapshot))).await;
            assert!(shown.is_ok(), "{place}: {:?}", self.mirror.snapshot());
        }
    }
}

pub(crate) fn is_heard(snapshot: &Snapshot) -> bool {
    matches!(snapshot.hearing, Hearing::Heard { .. })
}

/// The state's word of a container, or nothing.
pub(crate) fn state(snapshot: &Snapshot, id: &str) -> String {
    snapshot.containers.get(id).map(|container| container.state.clone()).unwrap_or_default()
}

/// Lets everything that can go on without time passing go on.
pub(crate) async fn settled() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
