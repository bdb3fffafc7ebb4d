//! etcd: the contract on a real server.

use std::sync::Arc;

use deployer::store::Store;
use deployer::store::etcd::{Etcd, EtcdSettings};
use deployer_testkit as testkit;

use crate::contract::{Opened, holds_the_contract};

struct InACluster {
    store: Arc<dyn Store>,
    etcd: testkit::Etcd,
}

impl Opened for InACluster {
    fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    async fn forget(&self) {
        let (_, revision) = self.store.list("/t/").await.expect("a list");
        self.etcd.control(["compaction", &revision.to_string()]);
    }
}

async fn open() -> InACluster {
    let etcd = testkit::Etcd::start();
    let endpoints = vec![format!("http://{}", etcd.address())];
    let store = Arc::new(Etcd::new(EtcdSettings { endpoints, tls: None, user: None }));
    InACluster { store, etcd }
}

holds_the_contract! { open,
    plain: #[tokio::test(flavor = "multi_thread", worker_threads = 4)],
    leases: #[tokio::test]
}
