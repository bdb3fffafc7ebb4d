//! Watches: one stream each, which ends rather than being silent.

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

/// What [`crate::store::Store::watch`] gives.
pub(super) async fn open(
    connection: &Arc<Connection>,
    prefix: &str,
    after: Revision,
) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
    let (key, end) = request::range(prefix);
    // In fragments, since the stub refuses answers of more than 4 MiB, and many changes may wait.
    let options = WatchOptions::new().with_range(end).with_start_revision(request::signed(after + 1)).with_fragment();
    let ask = |client| begin(client, key.clone(), options.clone());
    let (link, stream) = connection.call_on_link(ask).await?;
    let reader = Reader {
        connection: Arc::clone(connection),
        link,
        stream,
        page: VecDeque::new(),
        heard: Instant::now(),
        asked: None,
    };
    Ok(reader.into_stream())
}

/// Opens the stream and waits until the server has begun to watch, or has refused to.
async fn begin(mut client: Client, key: Vec<u8>, options: WatchOptions) -> Result<WatchStream, Failure> {
    let mut stream = client.watch(key, Some(options)).await?;
    match stream.message().await? {
        Some(response) if response.canceled() => Err(Failure::of_canceled(&response)),
        Some(_) => Ok(stream),
        None => Err(Failure::Away("the watch ended before it began".to_owned())),
    }
}

struct Reader {
    connection: Arc<Connection>,
    link: Arc<Link>,
    stream: WatchStream,
    page: VecDeque<Change>,
    /// When the server last said anything.
    heard: Instant,
    /// When it was asked to.
    asked: Option<Instant>,
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

    /// The server's next word. What counts as silence begins when the server was asked, not when it was last heard:
    /// nobody hears anything while nobody reads.
    async fn response(&mut self) -> Result<WatchResponse, Failure> {
        loop {
            let deadline = self.asked.map_or(self.heard + ASK_AFTER, |asked| asked + ANSWER_DEADLINE);
            tokio::select! {
                biased;
                response = self.stream.message() => {
                    self.heard = Instant::now();
                    self.asked = None;
                    let ended = || Failure::Away("the server ended the watch".to_owned());
                    return response?.ok_or_else(ended);
                }
                () = sleep_until(deadline) => {}
            }
            if self.asked.is_some() {
                let silence = self.heard.elapsed().as_secs();
                return Err(Failure::Away(format!("the watch was silent for {silence} s")));
            }
            self.asked = Some(Instant::now());
            self.stream.request_progress().await?;
        }
    }
}
