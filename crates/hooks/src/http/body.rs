//! Bodies: one within its limit, all of them together within theirs, and none for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, Limited};

/// Longest body of one request: registries allow manifests of 4 MiB, and some senders embed them.
const BODY_BYTES_MAX: usize = 8 << 20;
/// All bodies held at once. Beyond it a sender is told to come back.
const BODIES_BYTES_MAX: usize = 64 << 20;
/// What is still read, and thrown away, of a refused body: a sender that is cut off in the middle of it never sees
/// why. What is longer is cut off.
const EXCESS_BYTES_MAX: usize = 16 << 20;
/// How long a sender may take over its body.
const BODY_LIMIT: Duration = Duration::from_secs(10);

/// What all bodies in hand come to.
#[derive(Clone, Debug, Default)]
pub struct Bodies {
    bytes: Arc<AtomicUsize>,
}

/// A body that was read whole; it counts until it is dropped.
#[derive(Debug)]
pub struct Held {
    /// Its bytes, as they came.
    pub bytes: Vec<u8>,
    share: Share,
}

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Longer than 8 MiB.
    TooLong,
    /// All bodies together are too many now.
    TooMany,
    /// Not here within 10 s.
    TooSlow,
    /// The connection broke, or the framing is wrong.
    Broken,
}

impl Unread {
    /// The status that says so.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany => StatusCode::SERVICE_UNAVAILABLE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

impl Bodies {
    /// Reads a body. What counts is what has come, not what was announced: a stranger that promises much and sends
    /// nothing must not shut others out.
    ///
    /// # Errors
    /// [`Unread`], after the rest of the body has been thrown away as far as that is worth it.
    pub async fn read(&self, headers: &HeaderMap, mut body: Body) -> Result<Held, Unread> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        let is_long = announced.is_some_and(|length: usize| length > BODY_BYTES_MAX);
        // This sender waits for our word before it sends: not reading is the word.
        if is_long && headers.contains_key(header::EXPECT) {
            return Err(Unread::TooLong);
        }
        let held = match is_long {
            true => Err(Unread::TooLong),
            false => tokio::time::timeout(BODY_LIMIT, self.collect(&mut body)).await.unwrap_or(Err(Unread::TooSlow)),
        };
        if matches!(held, Err(Unread::TooLong | Unread::TooMany)) {
            let mut rest = Limited::new(body, EXCESS_BYTES_MAX);
            let throw_away = async { while let Some(Ok(_)) = rest.frame().await {} };
            // A slow sender learns less; that is all.
            let _ = tokio::time::timeout(BODY_LIMIT, throw_away).await;
        }
        held
    }

    async fn collect(&self, body: &mut Body) -> Result<Held, Unread> {
        let mut held = Held { bytes: Vec::new(), share: Share { of: self.clone(), bytes: 0 } };
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(|_| Unread::Broken)?.into_data() else { continue };
            if held.bytes.len() + data.len() > BODY_BYTES_MAX {
                return Err(Unread::TooLong);
            }
            held.share.grow(data.len())?;
            held.bytes.extend_from_slice(&data);
        }
        Ok(held)
    }
}

/// One body's part of all.
#[derive(Debug)]
struct Share {
    of: Bodies,
    bytes: usize,
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), Unread> {
        self.bytes += bytes;
        let before = self.of.bytes.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > BODIES_BYTES_MAX { Err(Unread::TooMany) } else { Ok(()) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use futures_util::{StreamExt, stream};

    use super::*;

    /// A body without an announced length, in pieces of 1 MiB.
    fn pieces(count: usize) -> Body {
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        Body::from_stream(stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(piece.clone()))))
    }

    fn announcing(bytes: usize) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_LENGTH, bytes.into())])
    }

    #[tokio::test]
    async fn one_body_has_a_limit_whether_announced_or_not() {
        let bodies = Bodies::default();
        let read = async |headers: HeaderMap, body| bodies.read(&headers, body).await.map(|held| held.bytes.len());
        assert_eq!(read(HeaderMap::new(), pieces(8)).await, Ok(BODY_BYTES_MAX));
        assert_eq!(read(HeaderMap::new(), pieces(9)).await, Err(Unread::TooLong));
        assert_eq!(read(announcing(9 << 20), pieces(9)).await, Err(Unread::TooLong));
        assert_eq!(bodies.bytes.load(Ordering::Relaxed), 0, "nothing is held any more");
    }

    #[tokio::test]
    async fn who_waits_for_our_word_is_not_read() {
        let mut headers = announcing(9 << 20);
        headers.insert(header::EXPECT, axum::http::HeaderValue::from_static("100-continue"));
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        assert_eq!(Bodies::default().read(&headers, never).await.map(drop), Err(Unread::TooLong));
    }

    #[tokio::test]
    async fn all_bodies_in_hand_have_a_limit_and_promises_do_not_count() {
        let bodies = Bodies::default();
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(bodies.read(&announcing(8 << 20), pieces(8)).await.expect("room"));
        }
        assert_eq!(bodies.read(&announcing(1 << 20), pieces(1)).await.map(drop), Err(Unread::TooMany));
        assert!(bodies.read(&announcing(1 << 20), Body::empty()).await.is_ok(), "nothing came of the announced");
        held.pop();
        assert!(bodies.read(&HeaderMap::new(), pieces(8)).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_is_not_waited_for() {
        let bodies = Bodies::default();
        let began = tokio::time::Instant::now();
        let stuck = Body::from_stream(
            stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]).chain(stream::pending()),
        );
        assert_eq!(bodies.read(&HeaderMap::new(), stuck).await.map(drop), Err(Unread::TooSlow));
        assert_eq!(began.elapsed(), BODY_LIMIT);
        assert_eq!(bodies.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_body_that_breaks_off_is_no_body() {
        let broken = Body::from_stream(stream::iter([Err::<Bytes, _>(std::io::Error::other("reset"))]));
        assert_eq!(Bodies::default().read(&HeaderMap::new(), broken).await.map(drop), Err(Unread::Broken));
    }
}
