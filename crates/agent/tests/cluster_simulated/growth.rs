//! What is kept for ever is bounded: on the disk of a node, and in the store.

use std::time::Duration;

use deployer_core::record::HISTORY_MAX;
use deployer_simulated::registry::Behaviour;
use tokio::time::sleep;

use crate::simulated::cluster::Cluster;

const A_MINUTE: Duration = Duration::from_secs(60);
const A_DAY: Duration = Duration::from_secs(24 * 3600);

/// Images that deployer keeps on the first machine.
fn kept(cluster: &Cluster) -> Vec<String> {
    let names = cluster.members[0].node.engine.names();
    names.into_iter().filter(|name| name.starts_with("deployer.invalid/pulled/")).collect()
}

async fn push_and_wait(cluster: &mut Cluster, pushes: u32) {
    for _ in 0..pushes {
        cluster.push(Behaviour::Serves);
        cluster.notify(0).await;
        sleep(5 * A_MINUTE).await;
    }
}

/// Days on which the machine stands still but for some minutes, so that few things happen on them.
async fn let_days_pass(cluster: &Cluster, days: u32) {
    for _ in 0..days {
        cluster.members[0].node.freezer.freeze();
        sleep(A_DAY + 30 * A_MINUTE).await;
        cluster.members[0].node.freezer.thaw();
        sleep(5 * A_MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_replaced_has_nothing_pulled_for_it() {
    let mut cluster = Cluster::start(1, &["web"], 1).await;
    cluster.members[0].node.engine.stop_by_hand("web");
    // A process takes its time to end.
    sleep(A_MINUTE).await;
    push_and_wait(&mut cluster, 4).await;
    assert_eq!(kept(&cluster), [""; 0], "it does not run");
}

#[tokio::test(start_paused = true)]
async fn pushes_that_are_not_deployed_leave_no_image_each() {
    let mut cluster = Cluster::start(1, &["web"], 1).await;
    cluster.members[0].node.engine.lean_on(&cluster.track, "sidecar", "web");
    push_and_wait(&mut cluster, 8).await;
    assert!(kept(&cluster).len() <= 2, "refused: {:?}", kept(&cluster));

    let mut cluster = Cluster::start(1, &["web"], 1).await;
    cluster.members[0].node.command("pause", "night").await;
    push_and_wait(&mut cluster, 8).await;
    assert!(kept(&cluster).len() <= 2, "paused: {:?}", kept(&cluster));
}

#[tokio::test(start_paused = true)]
async fn a_track_that_left_takes_its_images_along() {
    let mut cluster = Cluster::start(1, &["web"], 1).await;
    push_and_wait(&mut cluster, 3).await;
    assert!(!kept(&cluster).is_empty());
    cluster.members[0].node.engine.remove_by_hand("web");
    sleep(A_DAY).await;
    assert_eq!(kept(&cluster), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn verdicts_go_with_the_version_that_they_are_about() {
    let mut cluster = Cluster::start(1, &["web"], 1).await;
    push_and_wait(&mut cluster, HISTORY_MAX as u32 + 10).await;
    let verdicts = cluster.store.entries(&cluster.members[0].node.world.keys.all_verdicts());
    assert_eq!(cluster.history().len(), HISTORY_MAX);
    assert!(verdicts.len() <= HISTORY_MAX, "{} verdicts of {HISTORY_MAX} versions", verdicts.len());
}

#[tokio::test(start_paused = true)]
async fn a_track_that_nobody_runs_any_more_leaves_nothing_in_the_store() {
    let mut cluster = Cluster::start(1, &["web"], 1).await;
    push_and_wait(&mut cluster, 2).await;
    cluster.members[0].node.engine.remove_by_hand("web");
    let_days_pass(&cluster, 3).await;
    assert_eq!(cluster.history().len(), 3, "it may come back");
    let_days_pass(&cluster, 6).await;
    let keys = &cluster.members[0].node.world.keys;
    for prefix in [keys.images(), keys.all_verdicts(), keys.locks()] {
        assert_eq!(cluster.store.entries(&prefix), []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_track_whose_container_stands_still_keeps_what_is_known_of_it() {
    let mut cluster = Cluster::start(1, &["web"], 1).await;
    push_and_wait(&mut cluster, 2).await;
    cluster.members[0].node.engine.stop_by_hand("web");
    let_days_pass(&cluster, 10).await;
    assert_eq!(cluster.history().len(), 3);
    assert!(!cluster.store.entries(&cluster.members[0].node.world.keys.all_verdicts()).is_empty());
}
