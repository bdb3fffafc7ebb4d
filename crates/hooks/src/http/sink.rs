//! Where requests hand on what they say, and hear that it is durable. Who makes it so, and which images somebody runs, is
//! not known here.

use std::collections::BTreeSet;

use deployer_core::image::Track;
use deployer_core::record::Pending;
use deployer_core::webhook::Notice;
use tokio::sync::{mpsc, oneshot};

/// Notices of one request, and where it is said which of their tracks some node runs, once these are durable. Dropped
/// without a word, they are not.
pub type Waiting = (Vec<(Track, Pending)>, oneshot::Sender<BTreeSet<Track>>);

/// The way in, shared by all requests.
pub struct Sink {
    queue: mpsc::Sender<Waiting>,
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
    /// Hands on through `queue` what requests say, while there is no `trouble`.
    pub fn new(
        queue: mpsc::Sender<Waiting>,
        trouble: impl Fn() -> Option<&'static str> + Send + Sync + 'static,
    ) -> Self {
        Self { queue, trouble: Box::new(trouble) }
    }

    /// Why hooks cannot be taken now, if so, in fixed words: anybody may ask, and the store's own words name addresses,
    /// keys and nodes.
    pub fn trouble(&self) -> Option<&'static str> {
        (self.trouble)()
    }

    /// Makes the notices that concern this cluster durable.
    pub async fn take(&self, notices: Vec<Notice>) -> Result<Accepted, Refused> {
        if self.trouble().is_some() {
            return Err(Refused);
        }
        let named = notices.into_iter().map(|n| (Track::new(n.name, n.tag), Pending { digest: n.digest, at: 0 }));
        let named: Vec<(Track, Pending)> = named.collect();
        let mut names: Vec<Track> = named.iter().map(|(track, _)| track.clone()).collect();
        let total = names.len();
        if total == 0 {
            return Ok(Accepted { ours: Vec::new(), others: 0 });
        }
        let (answer, written) = oneshot::channel();
        self.queue.send((named, answer)).await.map_err(|_| Refused)?;
        let ours = written.await.map_err(|_| Refused)?;
        names.retain(|track| ours.contains(track));
        let others = total - names.len();
        Ok(Accepted { ours: names.iter().map(Track::to_string).collect(), others })
    }
}
