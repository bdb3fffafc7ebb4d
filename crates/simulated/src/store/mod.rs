//! A simulated store with the documented semantics of etcd v3, shared by any number of nodes over a network that
//! can delay, cut and lose.
//!
//! A request is a letter: it arrives when it arrives, whether its sender still waits, was killed, or is frozen, and
//! its answer may never come back. Leases end on tokio's clock.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::store::{Change, Entry, LeaseId, Listed, Outcome, Range, Revision, Txn, Write};
use deployer_store::{Store, StoreError};
use futures_util::stream::BoxStream;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

mod map;
mod network;
mod watching;

use map::Map;
pub use map::Snapshot;
pub use network::Traffic;
use network::{Kind, Letter, Shared, State, keep_time};
use watching::Reader;

/// After this long without an answer a call has failed, whatever became of it.
pub const CALL_LIMIT: Duration = Duration::from_secs(5);

/// After this long without a connection a watch has ended: a sign of life every 10 s, waited for 5 s.
pub const SILENCE_LIMIT: Duration = Duration::from_secs(15);

/// How a call goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives.
    Unsent,
    /// It is done, and the answer is lost.
    Lost,
    /// It is done this long after the caller was told that there is no answer.
    Late(Duration),
}

/// The store itself: what all nodes share, and what a test can do to it from behind.
#[derive(Clone)]
pub struct SimulatedStore {
    shared: Arc<Shared>,
    _clock: Arc<JoinSet<()>>,
}

/// One node's way to the store.
pub struct Handle {
    shared: Arc<Shared>,
    node: String,
}

impl SimulatedStore {
    /// An empty store whose chances follow from a seed. Needs a runtime, for the task that ends leases.
    pub fn new(seed: u64) -> Self {
        let shared = Arc::new(Shared::new(seed));
        let mut clock = JoinSet::new();
        clock.spawn(keep_time(Arc::clone(&shared)));
        Self { shared, _clock: Arc::new(clock) }
    }

    /// A node's way to the store. A node that is started again takes the same one.
    pub fn handle(&self, node: &str) -> Handle {
        self.shared.lock().lines.entry(node.to_owned()).or_default();
        Handle { shared: Arc::clone(&self.shared), node: node.to_owned() }
    }

    /// Takes the quorum away: nothing is answered, and no lease ends.
    pub fn lose_quorum(&self) {
        self.shared.change(|state, now| state.away_since = state.away_since.or(Some(now)));
    }

    /// Gives it back: a new leader finishes what its log holds, and every lease gets its whole time again.
    pub fn regain_quorum(&self) {
        self.shared.change(|state, now| {
            if state.away_since.take().is_some() {
                state.map.renew_leases(now);
                let State { logged, map, .. } = state;
                logged.drain(..).for_each(|letter| letter(map, now));
            }
        });
    }

    /// Forgets all changes up to now.
    pub fn compact(&self) {
        self.shared.change(|state, _| state.map.compact());
    }

    /// Writes a value from behind, as the restoration of a snapshot does.
    pub fn put(&self, key: &str, value: &[u8]) {
        let write = Write::Put(key.to_owned(), value.to_vec(), None);
        let txn = Txn { when: Vec::new(), then: vec![write] };
        self.shared.change(|state, now| drop(state.map.txn("", txn, now)));
    }

    /// Tells of every change as it is made, and of the node that made it; of none where a lease ended.
    pub fn on_change(&self, listener: impl Fn(&str, &Change) + Send + 'static) {
        self.shared.change(|state, _| state.map.listener = Some(Box::new(listener)));
    }

    /// What the store holds now, for later.
    pub fn snapshot(&self) -> Snapshot {
        self.shared.settle();
        self.shared.lock().map.snapshot()
    }

    /// Puts new servers in the place of the old ones, with what a snapshot holds. What was on its way to the old ones is
    /// lost with its answers, and so is every watch.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.shared.change(|state, now| {
            state.map.restore(snapshot, now);
            state.lose_everything_underway();
        });
    }

    /// What the store holds, seen from behind.
    pub fn entries(&self, prefix: &str) -> Vec<Entry> {
        self.shared.settle();
        self.shared.lock().map.list(prefix)
    }
}

impl Handle {
    /// Cuts the node off: what is sent does not arrive, what was asked is not answered.
    pub fn cut(&self) {
        self.shared.change(|state, now| {
            let line = state.line(&self.node);
            line.cut_since = line.cut_since.or(Some(now));
        });
    }

    /// Joins the line again.
    pub fn heal(&self) {
        self.shared.change(|state, _| state.line(&self.node).cut_since = None);
    }

    /// Lets each letter and each answer take up to this long.
    pub fn slow(&self, way_longest: Duration) {
        self.shared.change(|state, _| state.line(&self.node).way_longest = way_longest);
    }

    /// Lets the call of this number go wrong, counted from now.
    pub fn fail(&self, call: u64, fault: Fault) {
        self.shared.change(|state, _| {
            let line = state.line(&self.node);
            line.faults.insert(line.calls + call, fault);
        });
    }

    /// Faults that are still to come are not.
    pub fn forgive(&self) {
        self.shared.change(|state, _| state.line(&self.node).faults.clear());
    }

    /// Calls so far.
    pub fn calls(&self) -> u64 {
        self.shared.lock().line(&self.node).calls
    }

    /// What was read, and what came by watches, by kind of key.
    pub fn traffic(&self) -> BTreeMap<String, Traffic> {
        self.shared.lock().line(&self.node).traffic.clone()
    }

    /// Calls that went through the servers' log so far: transactions with writes, and leases begun and ended.
    pub fn writes(&self) -> u64 {
        self.shared.lock().line(&self.node).writes
    }

    /// One call, from its sending to its answer.
    async fn call<T: Send + 'static>(
        &self,
        kind: Kind,
        act: impl FnOnce(&mut Map, Instant) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let limit = Instant::now() + CALL_LIMIT;
        let (answer, answered) = oneshot::channel();
        // A caller that gave up or was killed hears nothing.
        let letter: Letter = Box::new(move |map, now| drop(answer.send(act(map, now))));
        let back = self.shared.send(&self.node, kind, letter);
        let answer = timeout_at(limit, async {
            let Ok(answer) = answered.await else { return std::future::pending().await };
            match back {
                Some(Duration::ZERO) => {}
                Some(back) => sleep(back).await,
                None => std::future::pending().await,
            }
            match self.shared.given_up_at(&self.node) {
                None => answer,
                Some(_) => std::future::pending().await,
            }
        });
        answer.await.map_err(|_| away("no answer in time"))
    }
}

#[async_trait]
impl Store for Handle {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let asked = key.to_owned();
        let found = self.call(Kind::Read, move |map, _| map.get(&asked)).await?;
        self.shared.lock().line(&self.node).count_read(key, &found);
        Ok(found)
    }

    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        let asked = prefix.to_owned();
        let (found, revision) = self.call(Kind::Read, move |map, _| (map.list(&asked), map.revision)).await?;
        self.shared.lock().line(&self.node).count_read(prefix, &found);
        Ok((found, revision))
    }

    async fn ranges(&self, ranges: &[Range]) -> Result<(Vec<Listed>, Revision), StoreError> {
        let asked = ranges.to_vec();
        let answer = self.call(Kind::Read, move |map, _| map.ranges(&asked).map(|found| (found, map.revision)));
        let (found, revision) = answer.await??;
        self.shared.lock().line(&self.node).count_question(ranges, &found);
        Ok((found, revision))
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        let kind = if txn.then.is_empty() { Kind::Read } else { Kind::Write };
        let writer = self.node.clone();
        self.call(kind, move |map, now| map.txn(&writer, txn, now)).await?
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.call(Kind::Write, move |map, now| map.grant(ttl, now)).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call(Kind::Read, move |map, now| map.keep_alive(lease, now)).await?
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let writer = self.node.clone();
        self.call(Kind::Write, move |map, now| map.end(&writer, lease, now)).await
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        let servers = self.shared.lock().servers;
        let reader = Reader {
            servers,
            shared: Arc::clone(&self.shared),
            node: self.node.clone(),
            prefix: prefix.to_owned(),
            seen: after,
            underway: VecDeque::new(),
        };
        self.call(Kind::Read, move |map, _| map.remembers(after)).await??;
        Ok(reader.into_stream())
    }
}

fn away(message: &str) -> StoreError {
    StoreError::Away(format!("simulated: {message}"))
}
