//! Two machines whose daemons bear one name, such as a cloned host: the second waits, and ends nothing of the first.
#![cfg(feature = "failpoints")]

use std::time::Duration;

use deployer_core::availability::Instance;
use deployer_core::replacement::Phase;
use deployer_core::slot::{Claim, ClaimPhase};
use deployer_simulated::engine::Spec;
use deployer_simulated::registry::Behaviour;
use tokio::time::{sleep, timeout};

use crate::simulated::cluster::Cluster;

/// Longer than a lease lasts.
const LONG: Duration = Duration::from_secs(90);

/// A cluster, and at its end a second machine whose daemon bears the first one's name and has a container of the track, too.
async fn with_twin(seed: u64) -> Cluster {
    let mut cluster = Cluster::start(3, &["web"], seed).await;
    let spec = Spec::new("web-too", &cluster.track);
    cluster.add_twin(0, &[spec], seed);
    cluster
}

/// Pushes, and waits until the first machine has stopped its container and goes no further.
async fn hold_first(cluster: &mut Cluster) -> deployer_core::image::Digest {
    cluster.members[0].node.hold_at(Phase::Stopped);
    let digest = cluster.push(Behaviour::Serves);
    cluster.notify(0).await;
    let held = async {
        while !cluster.members[0].node.is_held() {
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(Duration::from_secs(600), held).await.expect("its turn comes");
    digest
}

/// The claims that stand, as container, node and phase.
fn claims(cluster: &Cluster) -> Vec<(String, String, ClaimPhase)> {
    let keys = &cluster.members[0].node.world.keys;
    let entries = cluster.store.entries(&keys.claims("cluster"));
    let claims = entries.iter().map(|entry| serde_json::from_slice(&entry.value).expect("a claim"));
    claims.map(|Claim { container, node, phase, .. }| (container, node, phase)).collect()
}

fn first_past_its_fence() -> Vec<(String, String, ClaimPhase)> {
    vec![("web".to_owned(), "a".to_owned(), ClaimPhase::Stopping)]
}

#[tokio::test(start_paused = true)]
async fn a_twin_that_is_not_registered_ends_no_claim_past_its_fence() {
    let mut cluster = with_twin(1).await;
    let digest = hold_first(&mut cluster).await;
    sleep(LONG).await;
    assert_eq!(claims(&cluster), first_past_its_fence(), "{}", cluster.describe());
    cluster.members[0].node.let_go();
    cluster.remove_last().await;
    cluster.settle("let go").await;
    cluster.assert_converged(&digest, "let go");
}

#[tokio::test(start_paused = true)]
async fn a_twin_that_took_the_name_ends_no_claim_past_its_fence_and_withdraws_nothing_that_is_claimed() {
    let mut cluster = with_twin(2).await;
    let digest = hold_first(&mut cluster).await;
    cluster.members[0].node.freezer.freeze();
    sleep(LONG).await;
    let twin = &cluster.members[3].node;
    assert!(twin.world.presence.borrow().lease.is_some(), "the name is free");
    assert_eq!(claims(&cluster), first_past_its_fence(), "{}", cluster.describe());
    let keys = &twin.world.keys;
    let is_first = |instance: &Instance| instance.node == "a" && instance.container == "web";
    let instances = cluster.store.entries(&keys.all_instances());
    let instances = instances.iter().filter_map(|entry| serde_json::from_slice::<Instance>(&entry.value).ok());
    assert_eq!(instances.filter(is_first).count(), 1, "it counts as down until its claim ends");
    cluster.remove_last().await;
    cluster.members[0].node.freezer.thaw();
    cluster.members[0].node.let_go();
    cluster.settle("let go").await;
    cluster.assert_converged(&digest, "let go");
}
