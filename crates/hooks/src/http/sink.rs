//! Where requests hand on what they say, and hear that it is durable. Who makes it so is not known here.

use std::collections::BTreeSet;

use deployer_core::image::Track;
use deployer_core::record::Pending;
use deployer_core::webhook::Notice;
use tokio::sync::{mpsc, oneshot, watch};

/// Notices of one request, and where it is said that they are durable. Dropped without a word, they are not.
pub type Waiting = (Vec<(Track, Pending)>, oneshot::Sender<()>);

/// The way in, shared by all requests.
pub struct Sink {
    queue: mpsc::Sender<Waiting>,
    registered: watch::Receiver<Option<BTreeSet<Track>>>,
    trouble: Box<dyn Fn() -> Option<&'static str> + Send + Sync>,
}

/// What became of a request's notices.
pub struct Accepted {
    /// Written.
    pub ours: Vec<String>,
    /// Nobody runs these: nothing was stored.
    pub others: usize,
}

/// The notices cannot be made durable now; the sender should come back.
pub struct Refused;

impl Sink {
    /// Hands on through `queue` what concerns the tracks that some node runs, while there is no `trouble`.
    pub fn new(
        queue: mpsc::Sender<Waiting>,
        registered: watch::Receiver<Option<BTreeSet<Track>>>,
        trouble: impl Fn() -> Option<&'static str> + Send + Sync + 'static,
    ) -> Self {
        Self { queue, registered, trouble: Box::new(trouble) }
    }

    /// Why hooks cannot be taken now, if so, in fixed words: anybody may ask, and the store's own words name addresses,
    /// keys and nodes.
    pub fn trouble(&self) -> Option<&'static str> {
        let is_unheard = || self.registered.borrow().is_none();
        (self.trouble)().or_else(|| is_unheard().then_some("the engine or the store was not heard yet"))
    }

    /// Makes the notices that concern this cluster durable.
    pub async fn take(&self, notices: Vec<Notice>) -> Result<Accepted, Refused> {
        let (ours, others) = self.sort(notices).ok_or(Refused)?;
        let names = ours.iter().map(|(track, _)| track.to_string()).collect();
        if !ours.is_empty() {
            let (answer, written) = oneshot::channel();
            self.queue.send((ours, answer)).await.map_err(|_| Refused)?;
            written.await.map_err(|_| Refused)?;
        }
        Ok(Accepted { ours: names, others })
    }

    fn sort(&self, notices: Vec<Notice>) -> Option<(Vec<(Track, Pending)>, usize)> {
        let registered = self.registered.borrow();
        let registered = registered.as_ref()?;
        let total = notices.len();
        let ours: Vec<(Track, Pending)> = notices
            .into_iter()
            .map(|notice| (Track::new(notice.name, notice.tag), Pending { digest: notice.digest, at: 0 }))
            .filter(|(track, _)| registered.contains(track))
            .collect();
        let others = total - ours.len();
        Some((ours, others))
    }
}
