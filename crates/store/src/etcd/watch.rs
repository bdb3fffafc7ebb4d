//! Watches: one stream for all prefixes that are watched together, which ends rather than being silent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use deployer_core::store::{Change, Revision};
use etcd_client::{Client, WatchOptions, WatchResponse, WatchStream};
use futures_util::stream::{self, BoxStream, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::connection::{Connection, Link};
use super::failure::Failure;
use super::request;
use crate::store::StoreError;

/// After so long without a word the server is asked how far it is. A member that is cut off from the others, or a
/// stream that was lost on the way, may else be silent for ever although the connection lives.
const ASK_AFTER: Duration = Duration::from_secs(30);

/// How long the answer may take; then the stream ends.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);

/// What [`crate::store::Store::watch_all`] gives. A stream costs etcd some ten kilobytes, and a question each half a minute;
/// a prefix more on it costs next to nothing.
pub(super) async fn open(
    connection: &Arc<Connection>,
    prefixes: &[(String, Revision)],
) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
    let Some((first, others)) = prefixes.split_first() else { return Ok(stream::pending().boxed()) };
    let ask = |client| begin(client, first, others);
    let (link, (stream, page)) = connection.call_on_link(ask).await?;
    let reader =
        Reader { connection: Arc::clone(connection), link, stream, page, silence: Silence::begin(Instant::now()) };
    Ok(reader.into_stream())
}

fn asked((prefix, after): &(String, Revision)) -> (Vec<u8>, WatchOptions) {
    let (key, end) = request::range(prefix);
    // In fragments, since the stub refuses answers of more than 4 MiB, and many changes may wait.
    let options = WatchOptions::new().with_range(end).with_fragment();
    (key, options.with_start_revision(request::signed(after.saturating_add(1))))
}

/// Opens the stream and waits until the server has begun to watch each prefix, or has refused to. Gives what has changed
/// meanwhile, too.
async fn begin(
    mut client: Client,
    first: &(String, Revision),
    others: &[(String, Revision)],
) -> Result<(WatchStream, VecDeque<Change>), Failure> {
    let (key, options) = asked(first);
    let mut stream = client.watch(key, Some(options)).await?;
    for other in others {
        let (key, options) = asked(other);
        stream.watch(key, Some(options)).await?;
    }
    let (mut begun, mut page) = (0, VecDeque::new());
    while begun <= others.len() {
        match stream.message().await? {
            Some(response) if response.canceled() => return Err(Failure::of_canceled(&response)),
            Some(response) => {
                begun += usize::from(response.created());
                page.extend(response.events().iter().filter_map(request::change));
            }
            None => return Err(Failure::Away("the watch ended before it began".to_owned())),
        }
    }
    Ok((stream, page))
}

struct Reader {
    connection: Arc<Connection>,
    link: Arc<Link>,
    stream: WatchStream,
    page: VecDeque<Change>,
    silence: Silence,
}

impl Reader {
    fn into_stream(self) -> BoxStream<'static, Result<Change, StoreError>> {
        let steps = stream::unfold(Some(self), |reader| async {
            let mut reader = reader?;
            match reader.next().await {
                Ok(change) => Some((Ok(change), Some(reader))),
                Err(failure) => Some((Err(reader.connection.leave(&reader.link, failure)), None)),
            }
        });
        steps.boxed()
    }

    async fn next(&mut self) -> Result<Change, Failure> {
        loop {
            if let Some(change) = self.page.pop_front() {
                return Ok(change);
            }
            let response = self.response().await?;
            if response.canceled() {
                return Err(Failure::of_canceled(&response));
            }
            self.page.extend(response.events().iter().filter_map(request::change));
        }
    }

    /// The server's next word.
    async fn response(&mut self) -> Result<WatchResponse, Failure> {
        loop {
            tokio::select! {
                biased;
                response = self.stream.message() => {
                    self.silence = Silence::begin(Instant::now());
                    return response?.ok_or_else(|| Failure::Away("the server ended the watch".to_owned()));
                }
                () = sleep_until(self.silence.deadline()) => {}
            }
            if !self.silence.ask(Instant::now()) {
                let seconds = self.silence.heard.elapsed().as_secs();
                return Err(Failure::Away(format!("the watch was silent for {seconds} s")));
            }
            self.stream.request_progress().await?;
        }
    }
}

/// How long nothing was heard. What ends a watch is an unanswered question, not the time since the last word: nobody
/// hears anything while nobody reads.
struct Silence {
    heard: Instant,
    asked: Option<Instant>,
}

impl Silence {
    fn begin(now: Instant) -> Self {
        Self { heard: now, asked: None }
    }

    /// When to ask, or, if that was done, when to give up.
    fn deadline(&self) -> Instant {
        self.asked.map_or(self.heard + ASK_AFTER, |asked| asked + ANSWER_DEADLINE)
    }

    /// Whether there is still something to ask at the deadline.
    fn ask(&mut self, now: Instant) -> bool {
        self.asked.replace(now).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_once_and_then_ends() {
        let begun = Instant::now();
        let mut silence = Silence::begin(begun);
        assert_eq!(silence.deadline(), begun + Duration::from_secs(30));
        // Whoever reads again after an hour asks first.
        let much_later = begun + Duration::from_secs(3600);
        assert!(silence.ask(much_later));
        assert_eq!(silence.deadline(), much_later + Duration::from_secs(30));
        assert!(!silence.ask(silence.deadline()));
    }
}
