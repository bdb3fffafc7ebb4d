//! Watches of the simulated store: changes on their way to a node, which come late, in order, or not at all.

use std::collections::VecDeque;
use std::sync::Arc;

use deployer_core::store::{Change, Revision};
use deployer_store::StoreError;
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::Instant;

use super::away;
use super::network::{Shared, reached};

/// A watch of one node.
pub struct Reader {
    /// Which servers it listens to.
    pub servers: u32,
    pub shared: Arc<Shared>,
    pub node: String,
    pub prefix: String,
    /// Everything up to here is in `underway` or was read.
    pub seen: Revision,
    /// Changes that are sent and not read, with the moment of their arrival.
    pub underway: VecDeque<(Instant, Change)>,
}

impl Reader {
    pub fn into_stream(self) -> BoxStream<'static, Result<Change, StoreError>> {
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
            let told = self.shared.news.told();
            let now = Instant::now();
            if self.shared.lock().servers != self.servers {
                return Err(away("the servers are others now"));
            }
            let given_up = self.shared.given_up_at(&self.node);
            let until = match (given_up, self.underway.pop_front()) {
                (Some(end), _) if end <= now => return Err(away("the watch was silent")),
                (None, Some((arrival, change))) if arrival <= now => {
                    self.shared.lock().line(&self.node).count_change(&change);
                    return Ok(change);
                }
                (None, None) if self.take_out()? => continue,
                (given_up, first) => {
                    let until = given_up.or(first.as_ref().map(|(arrival, _)| *arrival));
                    first.into_iter().for_each(|first| self.underway.push_front(first));
                    until
                }
            };
            tokio::select! {
                biased;
                () = self.shared.news.beyond(told) => {}
                () = reached(until) => {}
            }
        }
    }

    /// Takes what is new out of the history; says whether there was anything.
    fn take_out(&mut self) -> Result<bool, StoreError> {
        let mut state = self.shared.lock();
        state.map.remembers(self.seen)?;
        let way = state.way(&self.node);
        self.underway = state.map.changes(&self.prefix, self.seen).into_iter().map(|(at, c)| (at + way, c)).collect();
        self.seen = self.seen.max(state.map.revision);
        Ok(!self.underway.is_empty())
    }
}
