//! Which member is spoken to, and as whom.
//!
//! One member at a time, over one connection. The stub's own balancing would go on sending every other call to a
//! member that is dead or hangs; here whatever goes wrong with a member makes the next call begin at the next one.
//! A connection is taken into use only after the member has answered on it and has a leader, so that a write is
//! not risked on one that may hang.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::time::timeout;

use super::failure::{Failure, NOBODY};
use super::settings::EtcdSettings;
use crate::store::StoreError;

/// For one answer of one member. Below the 7 s after which etcd itself gives up, and above the 3 s in which a new
/// leader is chosen.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// For a connection: TCP, TLS, the check of a password (a tenth of a second of etcd's processor), a first answer.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);

/// For a call, with all its connections and repetitions; then the store counts as away.
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// How often a call is sent, where nothing was done the time before: once more for a new token, once more for a
/// member that is gone.
const SENT_MAX: u32 = 3;

/// A connection with an open watch or call on it is asked for a sign of life this often. Never below 5 s: etcd
/// hangs up on those who ask more often. Without anything open nobody is asked, since etcd allows none then.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// How long that sign may take; then everything on the connection fails.
const PING_DEADLINE: Duration = Duration::from_secs(5);

/// The way to the cluster.
pub(super) struct Connection {
    settings: EtcdSettings,
    state: Mutex<State>,
    /// Held by the one who connects; the others wait for what comes of it.
    connecting: tokio::sync::Mutex<()>,
}

struct State {
    /// The endpoint that is used, or tried next.
    at: usize,
    link: Option<Arc<Link>>,
}

/// A connection to a member that has answered on it.
pub(super) struct Link {
    client: Client,
    endpoint: String,
}

impl Connection {
    pub fn new(settings: EtcdSettings) -> Self {
        Self { settings, state: Mutex::new(State { at: 0, link: None }), connecting: tokio::sync::Mutex::default() }
    }

    /// Asks a member, and gives its answer.
    pub async fn call<T, E, F>(&self, ask: impl Fn(Client) -> F) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, E>>,
        Failure: From<E>,
    {
        self.call_on_link(ask).await.map(|(_, answer)| answer)
    }

    /// The same, with the link that the answer came over.
    pub async fn call_on_link<T, E, F>(&self, ask: impl Fn(Client) -> F) -> Result<(Arc<Link>, T), StoreError>
    where
        F: Future<Output = Result<T, E>>,
        Failure: From<E>,
    {
        let answered = timeout(CALL_DEADLINE, self.send(ask)).await;
        answered.unwrap_or_else(|_| {
            let endpoints = self.settings.endpoints.join(", ");
            Err(StoreError::Away(format!("{endpoints}: no answer within {} s", CALL_DEADLINE.as_secs())))
        })
    }

    async fn send<T, E, F>(&self, ask: impl Fn(Client) -> F) -> Result<(Arc<Link>, T), StoreError>
    where
        F: Future<Output = Result<T, E>>,
        Failure: From<E>,
    {
        let mut sent = 0;
        loop {
            let link = self.link().await?;
            sent += 1;
            let failure = match timeout(ANSWER_DEADLINE, ask(link.client.clone())).await {
                Ok(Ok(answer)) => return Ok((link, answer)),
                Ok(Err(error)) => Failure::from(error),
                Err(_) => Failure::Away(format!("no answer within {} s", ANSWER_DEADLINE.as_secs())),
            };
            let is_last = sent == SENT_MAX || !failure.is_harmless();
            let error = self.leave(&link, failure);
            if is_last {
                return Err(error);
            }
        }
    }

    /// Draws the conclusion from what went wrong on a link, and says it as the store's error.
    pub fn leave(&self, link: &Arc<Link>, failure: Failure) -> StoreError {
        let mut state = self.lock();
        let is_current = state.link.as_ref().is_some_and(|current| Arc::ptr_eq(current, link));
        match &failure {
            // Several calls fail together; only the first of them may move on.
            _ if !is_current => {}
            Failure::Token(_) => state.link = None,
            Failure::Unsent(_) | Failure::Untrusted(_) | Failure::Away(_) => {
                state.link = None;
                state.at = (state.at + 1) % self.settings.endpoints.len();
            }
            Failure::LeaseGone | Failure::Compacted(_) | Failure::Broken(_) => {}
        }
        drop(state);
        match failure {
            Failure::Token(message) if message.contains(NOBODY) && self.settings.user.is_none() => {
                let hint = "it asks for a user: set user and password_file, or cert_file and key_file";
                Failure::Broken(format!("{message}: {hint}")).at(&link.endpoint)
            }
            failure => failure.at(&link.endpoint),
        }
    }

    /// The link in use, or a new one to the first member, in turn, that answers.
    async fn link(&self) -> Result<Arc<Link>, StoreError> {
        if let Some(link) = self.current() {
            return Ok(link);
        }
        let _connecting = self.connecting.lock().await;
        if let Some(link) = self.current() {
            return Ok(link);
        }
        let mut error = StoreError::Away("etcd has no endpoints".to_owned());
        for _ in &self.settings.endpoints {
            let (at, endpoint) = self.next_endpoint();
            let failure = match timeout(CONNECT_DEADLINE, connect(&self.settings, &endpoint)).await {
                Ok(Ok(client)) => {
                    tracing::info!(endpoint, "connected to etcd");
                    let link = Arc::new(Link { client, endpoint });
                    *self.lock() = State { at, link: Some(Arc::clone(&link)) };
                    return Ok(link);
                }
                Ok(Err(failure)) => failure.with_hint(self.settings.hint()),
                Err(_) => Failure::Away(format!("no connection within {} s", CONNECT_DEADLINE.as_secs())),
            };
            error = failure.at(&endpoint);
        }
        Err(error)
    }

    fn current(&self) -> Option<Arc<Link>> {
        self.lock().link.clone()
    }

    /// The endpoint whose turn it is. The turn passes on at once, so that a caller who gives up while it is tried
    /// does not leave it to the next one.
    fn next_endpoint(&self) -> (usize, String) {
        let mut state = self.lock();
        let at = state.at;
        state.at = (at + 1) % self.settings.endpoints.len();
        (at, self.settings.endpoints[at].clone())
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects to a member, says who asks, and has it answer.
async fn connect(settings: &EtcdSettings, endpoint: &str) -> Result<Client, Failure> {
    let mut options = ConnectOptions::new()
        .with_keep_alive(PING_INTERVAL, PING_DEADLINE)
        .with_connect_timeout(CONNECT_DEADLINE)
        .with_require_leader(true);
    if let Some(tls) = &settings.tls {
        let mut certificates = TlsOptions::new().ca_certificate(Certificate::from_pem(&tls.ca));
        if let Some((certificate, key)) = &tls.identity {
            certificates = certificates.identity(Identity::from_pem(certificate, key));
        }
        options = options.with_tls(certificates);
    }
    let mut client = Client::connect([endpoint], Some(options)).await?;
    if let Some(user) = &settings.user {
        let credentials = (user.name.clone(), user.password.0.clone());
        match client.update_user(Some(credentials)).await.map_err(Failure::from) {
            // Who is asked for no password may come in with one, as with etcdctl.
            Err(Failure::Away(message)) if message.contains("authentication is not enabled") => {}
            outcome => outcome?,
        }
    }
    match client.status().await.map_err(Failure::from) {
        // Whoever refuses this question has answered it.
        Ok(_) | Err(Failure::Broken(_)) => Ok(client),
        Err(failure) => Err(failure),
    }
}
