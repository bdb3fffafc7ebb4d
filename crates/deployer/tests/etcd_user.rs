//! A daemon over an etcd that asks for certificates and lets it touch nothing but its own prefix.

mod common;

use std::sync::Arc;

use common::Stage;
use deployer_testkit::{Authority, Etcd, EtcdOptions};

const PREFIX: &str = "/fleet/deployer";

#[test]
fn a_user_of_its_prefix_alone_is_enough_to_deploy() {
    let authority = Arc::new(Authority::new());
    let options = EtcdOptions { authority: Some(Arc::clone(&authority)), ..EtcdOptions::default() };
    let mut etcd = Etcd::start_with(&options);
    etcd.require_users("deployer", "not asked for", &format!("{PREFIX}/"));
    let client = authority.issue("deployer");
    let table = format!(
        "[etcd]\nendpoints = [\"{}\"]\nprefix = \"{PREFIX}\"\nca_file = {:?}\ncert_file = {:?}\nkey_file = {:?}\n",
        etcd.url(),
        authority.certificate(),
        client.certificate,
        client.key
    );
    let stage = Stage::with(|builder| builder.settings(&table));
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let second = stage.push("v2");
    stage.wait_for_digest(web.name(), &second);

    etcd.restart();
    // A hook that the daemon could not write down was answered 503, and the registry sends it again.
    let third = stage.push("v3");
    stage.wait_for_digest(web.name(), &third);
    stage.assert_settled(&web, "v3");
    let keys = etcd.control(["get", "", "--prefix", "--keys-only"]);
    let keys: Vec<&str> = keys.lines().filter(|key| !key.is_empty()).collect();
    assert!(keys.len() > 3 && keys.iter().all(|key| key.starts_with(PREFIX)), "{keys:?}");
    assert!(!stage.daemon.state_directory().join("store.redb").exists(), "it has no store of its own");
}
