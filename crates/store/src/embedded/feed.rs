//! Watches: readers of the one history, each at its own place and pace.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use deployer_core::store::{Change, Revision};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;

use super::history::History;
use super::locked;
use crate::store::StoreError;

/// The history, and the bell that tells its readers of more.
pub(super) struct Feed {
    place: String,
    history: Arc<Mutex<History>>,
    newest: watch::Sender<Revision>,
}

impl Feed {
    /// A feed that begins after `revision`; `place` is the store's file, for messages.
    pub fn after(revision: Revision, place: String) -> Self {
        let history = Arc::new(Mutex::new(History::after(revision)));
        Self { place, history, newest: watch::Sender::new(revision) }
    }

    /// Shows changes to all readers.
    pub fn publish(&self, changes: Vec<(Revision, Vec<Change>)>) {
        let Some((newest, _)) = changes.last() else { return };
        let newest = *newest;
        let mut history = locked(&self.history);
        changes.into_iter().for_each(|(revision, changes)| history.push(revision, changes));
        self.newest.send_replace(newest);
    }

    /// Forgets everything up to `revision`: readers that have not seen it are told to list.
    pub fn forget(&self, revision: Revision) {
        *locked(&self.history) = History::after(revision);
        self.newest.send_replace(revision);
    }

    /// What [`crate::store::Store::watch`] gives.
    pub fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        let at = locked(&self.history).forgotten();
        if after < at {
            return Err(StoreError::Compacted(at));
        }
        let reader = Reader {
            place: self.place.clone(),
            history: Arc::clone(&self.history),
            newest: self.newest.subscribe(),
            prefix: prefix.to_owned(),
            seen: after,
            page: VecDeque::new(),
        };
        Ok(reader.into_stream())
    }
}

/// A place in the history. It keeps neither the file open nor more than a page of changes.
struct Reader {
    place: String,
    history: Arc<Mutex<History>>,
    newest: watch::Receiver<Revision>,
    prefix: String,
    seen: Revision,
    page: VecDeque<Change>,
}

impl Reader {
    fn into_stream(self) -> BoxStream<'static, Result<Change, StoreError>> {
        let steps = stream::unfold(Some(self), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(change) => Some((Ok(change), Some(reader))),
                Err(error) => Some((Err(error), None)),
            }
        });
        steps.boxed()
    }

    async fn next(&mut self) -> Result<Change, StoreError> {
        loop {
            if let Some(change) = self.page.pop_front() {
                return Ok(change);
            }
            let newest = *self.newest.borrow_and_update();
            if self.seen < newest {
                let history = locked(&self.history);
                let page = history.page(&self.prefix, self.seen);
                (self.page, self.seen) = page.ok_or(StoreError::Compacted(history.forgotten()))?;
            } else if self.newest.changed().await.is_err() {
                return Err(StoreError::Away(format!("{}: it was closed", self.place)));
            }
        }
    }
}
