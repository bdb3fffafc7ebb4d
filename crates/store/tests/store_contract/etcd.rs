//! etcd: the contract, on a real server of each kind.

use std::fs::read_to_string;
use std::sync::{Arc, Mutex, PoisonError};

use deployer_core::store::Txn;
use deployer_store::Store;
use deployer_store::etcd::{Etcd, EtcdSettings, Password, Tls, User};
use deployer_testkit::{self as testkit, Authority, EtcdOptions, Issued, Relay};
use futures_util::join;

use crate::contract::{Opened, holds_the_contract};

/// A server of one member, and a store on it.
pub struct InACluster {
    pub store: Arc<dyn Store>,
    pub etcd: Mutex<testkit::Etcd>,
    pub settings: EtcdSettings,
}

impl InACluster {
    /// A store on the server. `settings` says all but where it is.
    pub fn on(etcd: testkit::Etcd, settings: EtcdSettings) -> Self {
        let settings = EtcdSettings { endpoints: vec![etcd.url()], ..settings };
        Self { store: Arc::new(Etcd::new(settings.clone())), etcd: Mutex::new(etcd), settings }
    }

    /// Does something to the server.
    pub fn with_etcd<T>(&self, act: impl FnOnce(&mut testkit::Etcd) -> T) -> T {
        act(&mut self.etcd.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Opened for InACluster {
    fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    async fn forget(&self) {
        let (_, revision) = self.store.list("/t/").await.expect("a list");
        self.with_etcd(|etcd| etcd.control(["compaction", &revision.to_string()]));
    }

    async fn lose_answer(&self, txn: Txn) {
        let relay = Relay::start(&self.with_etcd(|etcd| etcd.address()));
        let (scheme, _) = self.settings.endpoints[0].split_once("://").expect("a URL");
        let endpoints = vec![format!("{scheme}://{}", relay.address())];
        let behind = Etcd::new(EtcdSettings { endpoints, ..self.settings.clone() });
        let (_, before) = behind.list("/t/").await.expect("a list");
        relay.lose_answers();
        let is_made = async {
            while self.store.list("/t/").await.expect("a list").1 == before {}
            relay.cut();
        };
        let (told, ()) = join!(behind.txn(txn), is_made);
        assert_eq!(told.map_err(|error| error.kind()), Err("away"));
    }

    async fn restart(&self) {
        self.with_etcd(testkit::Etcd::restart);
    }
}

/// As nobody, in the clear.
pub fn nobody() -> EtcdSettings {
    EtcdSettings { endpoints: Vec::new(), tls: None, user: None }
}

/// As a user with a password.
pub fn user(name: &str, password: &str) -> EtcdSettings {
    EtcdSettings { user: Some(User { name: name.into(), password: Password(password.into()) }), ..nobody() }
}

/// With certificates.
pub fn certified(authority: &Authority, identity: Option<&Issued>) -> EtcdSettings {
    let text = |path| read_to_string(path).expect("a file of the authority");
    let identity = identity.map(|issued| (text(issued.certificate.clone()), text(issued.key.clone())));
    EtcdSettings { tls: Some(Tls { ca: text(authority.certificate()), identity }), ..nobody() }
}

mod plain {
    use super::*;

    async fn open() -> InACluster {
        InACluster::on(testkit::Etcd::start(), nobody())
    }

    holds_the_contract! { open,
        plain: #[tokio::test(flavor = "multi_thread", worker_threads = 4)],
        leases: #[tokio::test]
    }
}

mod with_certificates {
    use super::*;

    async fn open() -> InACluster {
        let authority = Arc::new(Authority::new());
        let settings = certified(&authority, Some(&authority.issue("deployer")));
        let options = EtcdOptions { authority: Some(authority), ..EtcdOptions::default() };
        InACluster::on(testkit::Etcd::start_with(&options), settings)
    }

    holds_the_contract! { open,
        plain: #[tokio::test(flavor = "multi_thread", worker_threads = 4)],
        leases: #[tokio::test]
    }
}

mod with_a_password {
    use super::*;

    /// The contract is about all keys; a user of fewer is in `etcd_access`.
    async fn open() -> InACluster {
        let mut etcd = testkit::Etcd::start();
        etcd.require_users("deployer", "hunter2", "");
        InACluster::on(etcd, user("deployer", "hunter2"))
    }

    holds_the_contract! { open,
        plain: #[tokio::test(flavor = "multi_thread", worker_threads = 4)],
        leases: #[tokio::test]
    }
}
