//! What a cluster does when nothing fails but what was pushed.

use deployer_simulated::registry::Behaviour;

use crate::simulated::cluster::{Cluster, first};

#[tokio::test(start_paused = true)]
async fn a_push_told_to_any_machine_reaches_all_and_the_registry_is_asked_once() {
    for told in 0..3 {
        let case = format!("told to {told}");
        let mut cluster = Cluster::start(3, &["web"], 1 + told as u64).await;
        let digest = cluster.push(Behaviour::Serves);
        let asked = cluster.registry.resolves();
        cluster.notify(told).await;
        cluster.settle(&case).await;
        cluster.assert_converged(&digest, &case);
        assert_eq!(cluster.registry.resolves() - asked, 1, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_push_touches_one_machine_only() {
    for behaviour in [Behaviour::ExitsAtOnce, Behaviour::NeverListens, Behaviour::StartRefused] {
        let case = format!("{behaviour:?}");
        let mut cluster = Cluster::start(3, &["web"], 1).await;
        let digest = cluster.push(behaviour);
        cluster.notify(0).await;
        cluster.settle(&case).await;
        cluster.assert_converged(&first(), &case);
        assert_eq!(cluster.registry.touched(&digest).len(), 1, "{case}");
    }
}
