//! Several hosts, each with its engine and its daemon.

mod common;

use common::{BINARY, SOON, quick};
use deployer_testkit::{Behaviour, Cluster, ClusterOptions, wait_until};

#[test]
fn a_daemon_on_a_host_deploys_a_push_there() {
    let cluster = Cluster::start(BINARY, ClusterOptions { hosts: 1, etcd_members: 0 }, |builder| builder);
    cluster.push("v1", Behaviour::Serves);
    let containers = cluster.run("web", quick);
    let digest = cluster.push("v2", Behaviour::Serves);
    wait_until(SOON, "the push to be deployed", || match containers[0].digest() {
        Ok(found) if found == digest => Ok(()),
        other => Err(format!("{other:?}; {}", cluster.nodes[0].daemon.status())),
    });
    containers[0].wait_for_version("v2", SOON);
}
