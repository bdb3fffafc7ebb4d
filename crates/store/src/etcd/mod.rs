//! The store of a cluster: etcd v3, server 3.4 or later.
//!
//! `etcd-client` is used as a stub that sends one request and hands back one answer. What a cluster needs beyond
//! that is here: which member is spoken to, deadlines, a token that dies (`connection`), a watch that notices a
//! silent server (`watch`), and what each failure asks of the caller (`failure`). Nothing here spawns; a call or a
//! watch does its own waiting. Why it is made this way: `docs/adr/0008`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deployer_core::store::{Change, Entry, LeaseId, Listed, Outcome, Range, Revision, Txn};
use etcd_client::GetOptions;
use futures_util::stream::BoxStream;

use self::connection::Connection;
use crate::store::{Store, StoreError, flaw, flaw_of_ranges};

mod connection;
mod failure;
mod request;
mod settings;
mod watch;

pub use settings::{EtcdSettings, Password, Tls, User};

/// Bytes of one answer. A list that is longer fails: etcd should hold a cluster's facts, and those of ten thousand
/// nodes are a tenth of it.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// etcd as a store; see the module's head.
pub struct Etcd {
    connection: Arc<Connection>,
}

impl Etcd {
    /// The store behind these endpoints. It connects with the first call, and again whenever it has to.
    pub fn new(settings: EtcdSettings) -> Self {
        Self { connection: Arc::new(Connection::new(settings)) }
    }
}

#[async_trait]
impl Store for Etcd {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let answer = self.connection.call(|client| async move { client.kv_client().get(key, None).await }).await?;
        Ok(answer.kvs().first().and_then(request::entry))
    }

    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        let (key, end) = request::range(prefix);
        let options = GetOptions::new().with_range(end);
        let ask = |client: etcd_client::Client| {
            let (key, options) = (key.clone(), options.clone());
            let mut client = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
            async move { client.get(key, Some(options)).await }
        };
        let answer = self.connection.call(ask).await?;
        // etcd answers in the order of keys.
        Ok((answer.kvs().iter().filter_map(request::entry).collect(), request::revision(answer.header())))
    }

    async fn ranges(&self, ranges: &[Range]) -> Result<(Vec<Listed>, Revision), StoreError> {
        if let Some(message) = flaw_of_ranges(ranges) {
            return Err(StoreError::Broken(format!("etcd: {message}")));
        }
        let ask = |client: etcd_client::Client| {
            let txn = etcd_client::Txn::new().and_then(ranges.iter().map(request::question).collect::<Vec<_>>());
            let mut client = client.kv_client().max_decoding_message_size(ANSWER_BYTES_MAX);
            async move { client.txn(txn).await }
        };
        let answer = self.connection.call(ask).await?;
        let found: Vec<Listed> = answer.op_responses().iter().filter_map(request::found).collect();
        if found.len() != ranges.len() {
            return Err(StoreError::Broken("etcd: an answer of another form than was asked for".to_owned()));
        }
        Ok((found, request::revision(answer.header())))
    }

    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        if let Some(message) = flaw(&txn) {
            return Err(StoreError::Broken(format!("etcd: {message}")));
        }
        let ask = |mut client: etcd_client::Client| {
            let txn = request::txn(&txn);
            async move { client.txn(txn).await }
        };
        let answer = self.connection.call(ask).await?;
        Ok(Outcome { succeeded: answer.succeeded(), revision: request::revision(answer.header()) })
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let seconds = request::seconds(ttl);
        let answer = self.connection.call(|mut client| async move { client.lease_grant(seconds, None).await }).await?;
        Ok(LeaseId(answer.id()))
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        // One stream for one sign of life: there is one in many seconds, and a stream that is kept would have to
        // be watched over. The stub reads the first answer before it returns.
        self.connection.call(|mut client| async move { client.lease_keep_alive(lease.0).await }).await.map(drop)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        match self.connection.call(|mut client| async move { client.lease_revoke(lease.0).await }).await {
            Ok(_) | Err(StoreError::LeaseGone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        watch::open(&self.connection, &[(prefix.to_owned(), after)]).await
    }

    async fn watch_all(
        &self,
        prefixes: &[(String, Revision)],
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        watch::open(&self.connection, prefixes).await
    }
}
