//! etcd: who may do what, tokens that die, and certificates.

use std::sync::Arc;
use std::time::Duration;

use deployer_core::store::{Revision, Txn};
use deployer_store::Store;
use deployer_store::etcd::{Etcd, EtcdSettings};
use deployer_testkit::{self as testkit, Authority, EtcdOptions};
use tokio::time::sleep;

use crate::contract::{absent, done, get, grant, next, revision_of};
use crate::etcd::{InACluster, certified, nobody, user};
use crate::outage::again;

/// A server that asks for the password of a user of `/t/` alone, and a store of that user.
fn with_users(arguments: &[&str]) -> InACluster {
    let arguments = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let mut etcd = testkit::Etcd::start_with(&EtcdOptions { arguments, ..EtcdOptions::default() });
    etcd.require_users("deployer", "hunter2", "/t/");
    InACluster::on(etcd, user("deployer", "hunter2"))
}

/// A store of somebody else on the same server.
fn as_somebody(opened: &InACluster, settings: EtcdSettings) -> Arc<dyn Store> {
    Arc::new(Etcd::new(EtcdSettings { endpoints: opened.settings.endpoints.clone(), ..settings }))
}

/// Every call is refused for a reason that a person must mend, and says what to do.
async fn check_refused(store: &Arc<dyn Store>, key: &str, kind: &str, expected: &str) {
    let (watched, granted) =
        (store.watch(key, 0).await.map(drop), store.grant(Duration::from_secs(60)).await.map(drop));
    let put = store.txn(Txn::new().put(key.into(), &1)).await.map(drop);
    let read = [store.get(key).await.map(drop), store.list(key).await.map(drop), put, watched];
    // A lease is nobody's until a key is put under it.
    for outcome in read.into_iter().chain(granted.is_err().then_some(granted)) {
        let error = outcome.expect_err("refused");
        assert!(error.kind() == kind && error.to_string().contains(expected), "{error}");
    }
}

/// A call and a watch both work, at the first attempt.
async fn check_works(store: &Arc<dyn Store>, before: Revision) -> Revision {
    let mut changes = store.watch("/t/", before).await.expect("a watch");
    let written = done(store, Txn::new().put("/t/a".into(), &1)).await;
    assert_eq!(revision_of(&next(&mut changes).await), written);
    written
}

#[tokio::test]
async fn a_role_on_the_prefix_is_enough_and_nothing_is_done_beyond_it() {
    let opened = with_users(&[]);
    let store = &opened.store;
    let lease = grant(store).await;
    let txn = Txn::new().when(absent("/t/a")).put_leased("/t/a".into(), &1, lease);
    let before = done(store, txn).await;
    store.keep_alive(lease).await.expect("alive");
    check_works(store, before).await;
    store.revoke(lease).await.expect("revoked");
    assert_eq!(store.list("/t/").await.expect("a list").0.len(), 1);
    check_refused(store, "/elsewhere/a", "broken", "grant the user's role readwrite on the whole prefix").await;
    get(store, "/t/a").await;
}

#[tokio::test]
async fn who_is_not_known_is_told_what_to_set() {
    let opened = with_users(&[]);
    let hint = "check user and password_file";
    check_refused(&as_somebody(&opened, user("deployer", "wrong")), "/t/a", "broken", hint).await;
    check_refused(&as_somebody(&opened, user("nobody", "hunter2")), "/t/a", "broken", hint).await;
    check_refused(&as_somebody(&opened, nobody()), "/t/a", "broken", "set user and password_file").await;
}

#[tokio::test]
async fn a_token_that_expired_is_replaced() {
    let opened = with_users(&["--auth-token-ttl=1"]);
    let store = &opened.store;
    let mut before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    for _ in 0..2 {
        // Time has to pass for a token to expire; nothing shows from outside that it did.
        sleep(Duration::from_secs(3)).await;
        before = check_works(store, before).await;
    }
}

#[tokio::test]
async fn a_token_that_the_server_has_forgotten_is_replaced() {
    let opened = with_users(&[]);
    let store = &opened.store;
    let before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    opened.with_etcd(testkit::Etcd::restart);
    // The first of them may be the one that finds out that the connection is gone.
    drop(again(|| store.watch("/t/", before)).await);
    let before = check_works(store, before).await;
    opened.with_etcd(testkit::Etcd::restart);
    again(|| store.get("/t/a")).await;
    check_works(store, before).await;
}

#[tokio::test]
async fn a_change_of_users_is_no_trouble() {
    let opened = with_users(&[]);
    let store = &opened.store;
    let mut before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    for name in ["one:one", "two:two"] {
        opened.with_etcd(|etcd| etcd.control(["user", "add", name]));
        before = check_works(store, before).await;
    }
}

#[tokio::test]
async fn a_password_counts_from_the_moment_it_is_asked_for() {
    let opened = InACluster::on(testkit::Etcd::start(), user("deployer", "hunter2"));
    let store = &opened.store;
    let before = done(store, Txn::new().put("/t/a".into(), &1)).await;
    opened.with_etcd(|etcd| etcd.require_users("deployer", "hunter2", "/t/"));
    check_works(store, before).await;
}

#[tokio::test]
async fn a_certificate_names_the_user() {
    let authority = Arc::new(Authority::new());
    let options = EtcdOptions { authority: Some(Arc::clone(&authority)), ..EtcdOptions::default() };
    let mut etcd = testkit::Etcd::start_with(&options);
    etcd.require_users("deployer", "hunter2", "/t/");
    let opened = InACluster::on(etcd, certified(&authority, Some(&authority.issue("deployer"))));
    let before = done(&opened.store, Txn::new().put("/t/a".into(), &1)).await;
    opened.with_etcd(testkit::Etcd::restart);
    again(|| opened.store.get("/t/a")).await;
    check_works(&opened.store, before).await;
    check_refused(&opened.store, "/elsewhere/a", "broken", "grant the user's role").await;
}

#[tokio::test]
async fn who_cannot_be_trusted_is_not_spoken_to() {
    let authority = Arc::new(Authority::new());
    let options = EtcdOptions { authority: Some(Arc::clone(&authority)), ..EtcdOptions::default() };
    let known = certified(&authority, Some(&authority.issue("deployer")));
    let opened = InACluster::on(testkit::Etcd::start_with(&options), known.clone());
    get(&opened.store, "/t/a").await;

    let stranger = Authority::new();
    let other = certified(&stranger, Some(&authority.issue("deployer")));
    check_refused(&as_somebody(&opened, other), "/t/a", "broken", "invalid peer certificate").await;
    // It is refused after it has begun to speak, so that what it hears first is a matter of luck.
    let anonymous = as_somebody(&opened, certified(&authority, None));
    let text = anonymous.get("/t/a").await.expect_err("refused").to_string();
    assert!(text.contains("cert_file and key_file"), "{text}");
    let forged = certified(&authority, Some(&stranger.issue("deployer")));
    as_somebody(&opened, forged).get("/t/a").await.expect_err("refused");
    let in_the_clear =
        Etcd::new(EtcdSettings { endpoints: vec![opened.settings.endpoints[0].replace("https", "http")], ..nobody() });
    let in_the_clear: Arc<dyn Store> = Arc::new(in_the_clear);
    check_refused(&in_the_clear, "/t/a", "away", "https").await;
}
