//! The stage itself: which containers there is something to do for, one job each at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use deployer_core::dirty::Dirty;
use deployer_core::replacement::Phase;
use deployer_engine::Hand;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Left, fault, late, owing, unready, work};
use crate::fault::caught;
use crate::site::Site;
use crate::world::World;

/// How often it is looked for what an engine did too late.
pub(super) const SWEEP_EVERY: Duration = Duration::from_secs(600);

/// The stage with its channel.
pub struct Restart {
    /// What the stages share.
    pub world: Arc<World>,
    /// What makes, stops and removes containers.
    pub hand: Arc<dyn Hand>,
    /// Names of containers to be replaced.
    pub containers: mpsc::Receiver<String>,
    /// Replacements that a daemon before this one left, past what the engine alone can finish.
    pub left: Vec<Left>,
}

impl Restart {
    /// Works until shutdown; what is past its fence then is brought to its end first.
    pub async fn run(mut self, shutdown: CancellationToken) {
        late::remember(&self.world);
        let mut dirty: Dirty<String> = Dirty::default();
        let mut jobs = FuturesUnordered::new();
        for (container, left) in by_container(std::mem::take(&mut self.left)) {
            dirty.mark(container.clone());
            let _ = dirty.take();
            jobs.push(self.job(container, left, shutdown.clone()));
        }
        let mut seen = Instant::now();
        let mut sweep = seen;
        loop {
            let now = Instant::now();
            let due = self.world.memory().replacing.came_due(seen, now);
            due.into_iter().for_each(|container| dirty.mark(container));
            seen = now;
            while !shutdown.is_cancelled()
                && let Some(container) = dirty.take()
            {
                // Marked again when its time has come.
                if unready::rests(&self.world, &container, now) {
                    dirty.done(&container);
                } else {
                    jobs.push(self.job(container, Vec::new(), shutdown.clone()));
                }
            }
            if shutdown.is_cancelled() && jobs.is_empty() {
                return;
            }
            // One that is under way is due at once when that has ended.
            let owed = self.world.memory().owed.next(|container| !dirty.is_under_way(container));
            let is_due = async |due: Option<(Instant, String)>| match due {
                Some((due, container)) => {
                    tokio::time::sleep_until(due).await;
                    container
                }
                None => std::future::pending().await,
            };
            tokio::select! {
                biased;
                Some(ended) = jobs.next() => if let Some(container) = ended {
                    dirty.done(&container);
                    let mut memory = self.world.memory();
                    memory.replacing.fall_silent(&container);
                    if !memory.owed.has(&container) {
                        memory.replacing.end(&container);
                    }
                    drop(memory);
                    self.world.bell.notify_one();
                },
                container = is_due(owed), if !shutdown.is_cancelled() => {
                    dirty.mark(container);
                }
                () = shutdown.cancelled(), if !shutdown.is_cancelled() => {}
                container = self.containers.recv(), if !shutdown.is_cancelled() => match container {
                    Some(container) => dirty.mark(container),
                    // The update stage may be gone before this one has seen the shutdown: what is past its fence goes on.
                    None if shutdown.is_cancelled() => {}
                    None => return,
                },
                () = unready::next(&self.world, now), if !shutdown.is_cancelled() => {}
                () = tokio::time::sleep_until(sweep), if !shutdown.is_cancelled() => {
                    sweep += SWEEP_EVERY;
                    jobs.push(self.sweep(shutdown.clone()));
                }
            }
        }
    }

    /// Works on a container, and gives back which.
    fn job(
        &self,
        container: String,
        mut left: Vec<Left>,
        shutdown: CancellationToken,
    ) -> BoxFuture<'static, Option<String>> {
        let (world, hand) = (Arc::clone(&self.world), Arc::clone(&self.hand));
        Box::pin(async move {
            let site = Site::new(&world, hand.as_ref());
            let mut faults = 0;
            loop {
                match caught(work(&site, &container, left.pop(), &shutdown)).await {
                    Ok(()) if left.is_empty() => break,
                    Ok(()) => {}
                    Err(fault) => {
                        faults += 1;
                        if !fault::survive(&world, &container, &fault, faults, &shutdown).await {
                            break;
                        }
                    }
                }
            }
            Some(container)
        })
    }

    /// Sweeps as soon as the engine is heard: after a start it is not yet.
    fn sweep(&self, shutdown: CancellationToken) -> BoxFuture<'static, Option<String>> {
        let (world, hand) = (Arc::clone(&self.world), Arc::clone(&self.hand));
        let mut mirror = world.engine_mirror.subscribe();
        Box::pin(async move {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return None,
                heard = mirror.wait_for(|shown| shown.is_heard().is_ok()) => heard.map(drop).ok()?,
            }
            owing::sweep(&Site::new(&world, hand.as_ref())).await;
            None
        })
    }
}

/// What is left of each container, the first to go on with at the end: one that waited for its slot has touched nothing,
/// and ends before what is owed goes on.
fn by_container(left: Vec<Left>) -> BTreeMap<String, Vec<Left>> {
    let mut of: BTreeMap<String, Vec<Left>> = BTreeMap::new();
    for one in left {
        of.entry(one.replacement.facts.container.clone()).or_default().push(one);
    }
    for left in of.values_mut() {
        left.sort_by_key(|one| one.replacement.reached < Phase::Fenced);
    }
    of
}
