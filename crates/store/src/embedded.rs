//! The store of one machine: a file beside the daemon.
//!
//! Reads come from memory. Writes that wait at the same moment are decided in their order of arrival, each on
//! what the one before leaves, and share one durable commit (group commit); whoever finds the file free makes
//! the commit for all who wait, so no task of its own is needed. Leases live in memory and end with the process,
//! as their holders do: what they held is removed when the file is opened. Time is tokio's.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::store::{Change, Entry, LeaseId, Listed, Outcome, Range, Revision, Txn, Write};
use futures_util::stream::BoxStream;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use self::feed::Feed;
use self::file::StoreFile;
use self::ledger::{Decided, Draft, Ledger};
use crate::store::{Store, StoreError, flaw, flaw_of_ranges};

pub use self::file::{Found, inspect};

mod feed;
mod file;
mod history;
mod ledger;

/// Writes that share one commit; the rest wait for the next. It bounds how long the first of them waits.
const COMMIT_WRITES_MAX: usize = 512;

/// How long [`Embedded::run`] waits after a commit failed before it tries to end due leases again.
const EXPIRY_RETRY: Duration = Duration::from_secs(1);

/// The embedded store; see the module's head.
pub struct Embedded {
    path: PathBuf,
    state: Mutex<State>,
    waiting: Mutex<VecDeque<Request>>,
    /// Empty after a failed commit: the next one opens the file anew.
    file: tokio::sync::Mutex<Option<StoreFile>>,
    feed: Feed,
    granted: Notify,
}

/// What readers see: only what is durable.
struct State {
    ledger: Ledger,
    leases: BTreeMap<LeaseId, Lease>,
    last_lease: i64,
}

struct Lease {
    ttl: Duration,
    deadline: Instant,
    /// Its end is decided and not yet durable.
    ending: bool,
}

impl Lease {
    fn is_over(&self, now: Instant) -> bool {
        self.ending || self.deadline <= now
    }
}

/// A write that waits for a commit. Its answer's receiver is dropped when the caller gave up: what was not
/// begun by then never is.
struct Request {
    work: Work,
    answer: Answer,
}

type Answer = oneshot::Sender<Result<Outcome, StoreError>>;

enum Work {
    Txn(Txn),
    Revoke(LeaseId),
    /// The end of due leases, with which every commit begins.
    Expire,
}

/// What a commit makes durable and whom it answers then.
struct Batch {
    decided: Decided,
    answers: Vec<(Answer, Result<Outcome, StoreError>)>,
}

impl Embedded {
    /// Opens the file, or makes it. Blocks for milliseconds; meant for the start of the daemon.
    ///
    /// # Errors
    /// [`StoreError::Broken`] with what, where and what to do: the file is damaged, not ours, of a newer form,
    /// open elsewhere, or cannot be written.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let (file, mut ledger) = StoreFile::open(path)?;
        let feed = Feed::after(ledger.revision, path.display().to_string());
        let mut draft = Draft::new(&ledger);
        draft.write(ledger.leased(|_| true).into_iter().map(Write::Delete).collect());
        let decided = draft.decided();
        if !decided.changes.is_empty() {
            file.write(&decided)?;
        }
        feed.publish(ledger.enter(decided));
        let state = State { ledger, leases: BTreeMap::new(), last_lease: 0 };
        Ok(Self {
            path: path.to_owned(),
            feed,
            state: Mutex::new(state),
            waiting: Mutex::default(),
            file: tokio::sync::Mutex::new(Some(file)),
            granted: Notify::new(),
        })
    }

    /// Ends leases when their time is over, until dropped. Without it they end at the next call.
    pub async fn run(&self) {
        loop {
            let next = self.lock().leases.values().map(|lease| lease.deadline).min();
            tokio::select! {
                biased;
                () = self.granted.notified() => continue,
                () = until(next) => {}
            }
            if let Err(error) = self.end_due_leases().await {
                tracing::warn!(%error, "leases that are over cannot be ended");
                tokio::time::sleep(EXPIRY_RETRY).await;
            }
        }
    }

    /// A read should not show what is over; that the end cannot be written now is no reason to show nothing.
    async fn settle(&self) {
        let _ = self.end_due_leases().await;
    }

    async fn end_due_leases(&self) -> Result<(), StoreError> {
        let now = Instant::now();
        if self.lock().leases.values().any(|lease| lease.is_over(now)) {
            self.submit(Work::Expire).await?;
        }
        Ok(())
    }

    async fn submit(&self, work: Work) -> Result<Outcome, StoreError> {
        let (answer, mut answered) = oneshot::channel();
        locked(&self.waiting).push_back(Request { work, answer });
        loop {
            tokio::select! {
                biased;
                outcome = &mut answered => return outcome.unwrap_or_else(|_| Err(self.away("the commit broke off"))),
                mut file = self.file.lock() => {
                    // Whoever is ready to write now may join this commit.
                    tokio::task::yield_now().await;
                    self.commit(&mut file);
                }
            }
        }
    }

    /// Decides what waits, makes it durable, shows it to readers and answers. Without a point at which the end
    /// of one caller could break off the others' write.
    fn commit(&self, file: &mut Option<StoreFile>) {
        let requests = self.take_waiting();
        if requests.is_empty() {
            return;
        }
        let opened = match file.take() {
            Some(file) => Ok(file),
            None => self.reopen(),
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => return requests.into_iter().for_each(|request| answer(request.answer, Err(error.clone()))),
        };
        let batch = self.decide(requests);
        let written = match batch.decided.changes.is_empty() {
            true => Ok(()),
            false => opened.write(&batch.decided),
        };
        match written {
            Ok(()) => {
                *file = Some(opened);
                self.enter(batch);
            }
            Err(error) => batch.answers.into_iter().for_each(|(to, _)| answer(to, Err(error.clone()))),
        }
    }

    fn take_waiting(&self) -> Vec<Request> {
        let mut waiting = locked(&self.waiting);
        let count = waiting.len().min(COMMIT_WRITES_MAX);
        waiting.drain(..count).filter(|request| !request.answer.is_closed()).collect()
    }

    /// Opens the file again after a failed commit. Whether that commit is in it is seen only now; if so, it is
    /// shown to readers, and watches list again.
    fn reopen(&self) -> Result<StoreFile, StoreError> {
        let (file, ledger) = StoreFile::open(&self.path)?;
        let mut state = self.lock();
        if state.ledger.revision != ledger.revision {
            self.feed.forget(ledger.revision);
            state.ledger = ledger;
        }
        Ok(file)
    }

    fn decide(&self, requests: Vec<Request>) -> Batch {
        let mut state = self.lock();
        let State { ledger, leases, .. } = &mut *state;
        let mut draft = Draft::new(ledger);
        let now = Instant::now();
        for (id, lease) in leases.iter_mut().filter(|(_, lease)| lease.is_over(now)) {
            end(*id, lease, &mut draft);
        }
        let mut answers = Vec::with_capacity(requests.len());
        for Request { work, answer } in requests {
            let outcome = match work {
                Work::Txn(txn) => decide_txn(txn, leases, &mut draft),
                Work::Revoke(id) => {
                    leases.get_mut(&id).into_iter().for_each(|lease| end(id, lease, &mut draft));
                    Ok(draft.write(Vec::new()))
                }
                Work::Expire => Ok(draft.write(Vec::new())),
            };
            answers.push((answer, outcome));
        }
        Batch { decided: draft.decided(), answers }
    }

    fn enter(&self, batch: Batch) {
        let mut state = self.lock();
        self.feed.publish(state.ledger.enter(batch.decided));
        state.leases.retain(|_, lease| !lease.ending);
        drop(state);
        batch.answers.into_iter().for_each(|(to, outcome)| answer(to, outcome));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        locked(&self.state)
    }

    fn away(&self, message: &str) -> StoreError {
        StoreError::Away(format!("{}: {message}", self.path.display()))
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.settle().await;
        Ok(self.lock().ledger.get(key))
    }

    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        self.settle().await;
        let state = self.lock();
        Ok((state.ledger.list(prefix), state.ledger.revision))
    }

    async fn ranges(&self, ranges: &[Range]) -> Result<(Vec<Listed>, Revision), StoreError> {
        if let Some(message) = flaw_of_ranges(ranges) {
            return Err(StoreError::Broken(format!("{}: {message}", self.path.display())));
        }
        self.settle().await;
        let state = self.lock();
        Ok((ranges.iter().map(|range| state.ledger.find(range)).collect(), state.ledger.revision))
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        if let Some(message) = flaw(&txn) {
            return Err(StoreError::Broken(format!("{}: {message}", self.path.display())));
        }
        self.submit(Work::Txn(txn)).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let mut state = self.lock();
        state.last_lease += 1;
        let id = LeaseId(state.last_lease);
        state.leases.insert(id, Lease { ttl, deadline: Instant::now() + ttl, ending: false });
        self.granted.notify_one();
        Ok(id)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let now = Instant::now();
        match self.lock().leases.get_mut(&lease) {
            Some(found) if !found.is_over(now) => {
                found.deadline = now + found.ttl;
                Ok(())
            }
            _ => Err(StoreError::LeaseGone),
        }
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.submit(Work::Revoke(lease)).await.map(drop)
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        self.feed.watch(prefix, after)
    }
}

/// Decides a transaction, unless it would put a key under a lease that is not there.
fn decide_txn(txn: Txn, leases: &BTreeMap<LeaseId, Lease>, draft: &mut Draft<'_>) -> Result<Outcome, StoreError> {
    if !draft.holds(&txn.when) {
        return Ok(draft.refused());
    }
    for write in &txn.then {
        if let Write::Put(_, _, Some(lease)) = write
            && leases.get(lease).is_none_or(|lease| lease.ending)
        {
            return Err(StoreError::LeaseGone);
        }
    }
    Ok(draft.write(txn.then))
}

fn end(id: LeaseId, lease: &mut Lease, draft: &mut Draft<'_>) {
    lease.ending = true;
    draft.write(draft.leased(id).into_iter().map(Write::Delete).collect());
}

/// A caller that is gone needs no answer.
fn answer(to: Answer, outcome: Result<Outcome, StoreError>) {
    let _ = to.send(outcome);
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Nothing panics while it holds one of these locks, and if it did, what they guard would still be whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
