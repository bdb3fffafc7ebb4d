//! Asking the registry when something is in the way: of one node, of its engine, of all, or of the truth.

use std::time::Duration;

use deployer_core::asking::TERM;
use deployer_core::image::Digest;
use deployer_simulated::registry::{Behaviour, Obstruction};
use tokio::time::sleep;

use crate::simulated::cluster::{Cluster, first};

/// The time in which a push is resolved though the nodes that ask first get nowhere.
const SOON: Duration = Duration::from_secs(180);
const AN_HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_node_that_cannot_reach_the_registry_keeps_no_push_from_the_others() {
    for obstruction in [Obstruction::Unreachable, Obstruction::Denied] {
        let mut cluster = Cluster::start(3, &["web"], 1).await;
        for push in 0..9 {
            let (machine, case) = (push % 3, format!("{obstruction:?}, push {push}"));
            let name = cluster.members[machine].node.name.clone();
            cluster.registry.obstruct(&name, Some(obstruction));
            let digest = cluster.push(Behaviour::Serves);
            cluster.notify(machine).await;
            cluster.wait_until(SOON, &case, |cluster| cluster.history().first() == Some(&digest)).await;
            cluster.registry.obstruct(&name, None);
            cluster.settle(&case).await;
            cluster.assert_converged(&digest, &case);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_turn_to_ask_is_given_back_by_a_node_whose_engine_is_dead() {
    for seed in 1..=3 {
        let case = format!("seed {seed}");
        let mut cluster = Cluster::start(3, &["web"], seed).await;
        for name in ["a", "b", "c"] {
            cluster.registry.obstruct(name, Some(Obstruction::Unreachable));
        }
        let digest = cluster.push(Behaviour::Serves);
        cluster.notify(0).await;
        let resolver = cluster.members[0].node.world.keys.resolver(&cluster.track);
        let is_taken = |cluster: &Cluster| !cluster.store.entries(&resolver).is_empty();
        cluster.wait_until(SOON, &case, is_taken).await;
        let entry = cluster.store.entries(&resolver).remove(0);
        let holder: serde_json::Value = serde_json::from_slice(&entry.value).expect("JSON");
        let holder = cluster.members.iter().find(|member| holder["node"] == member.node.name.as_str());
        holder.expect("one of them").node.engine.set_dead(true);
        for name in ["a", "b", "c"] {
            cluster.registry.obstruct(name, None);
        }
        // Sooner than the turn ends by itself.
        cluster.wait_until(TERM / 2, &case, |cluster| cluster.history().first() == Some(&digest)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_nobody_finds_is_not_asked_for_for_ever() {
    let cluster = Cluster::start(5, &["web"], 1).await;
    cluster.registry.remove_tag(&cluster.track);
    let asked = cluster.registry.resolves();
    cluster.notify(0).await;
    cluster.wait_until(AN_HOUR, "the notification is dropped", |cluster| !cluster.is_pending()).await;
    sleep(AN_HOUR).await;
    let asked = cluster.registry.resolves() - asked;
    assert!(asked <= 10, "asked {asked} times");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_have_is_asked_for_no_more_often_by_many_nodes_than_by_one() {
    let mut counts = Vec::new();
    for machines in [1, 5] {
        let cluster = Cluster::start(machines, &["web"], 1).await;
        for member in &cluster.members {
            cluster.registry.obstruct(&member.node.name, Some(Obstruction::Denied));
        }
        cluster.notify(0).await;
        // The first tries come soon after each other.
        sleep(AN_HOUR).await;
        let (asked, calls) = (cluster.registry.resolves(), cluster.members[0].line.calls());
        sleep(AN_HOUR).await;
        counts.push((cluster.registry.resolves() - asked, cluster.members[0].line.calls() - calls));
    }
    let [(one, _), (five, calls)] = counts[..] else { panic!("two counts") };
    assert!(one > 5 && five <= one * 3 + 3, "one node asked {one} times in an hour, five {five} times");
    assert!(calls < 2500, "{calls} calls to the store in an hour of nothing");
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_is_behind_takes_no_version_back() {
    for is_named in [true, false] {
        let case = format!("named: {is_named}");
        let mut cluster = Cluster::start(3, &["web"], 1).await;
        let second = cluster.push(Behaviour::Serves);
        cluster.notify(0).await;
        cluster.settle(&case).await;
        let third = cluster.push(Behaviour::Serves);
        cluster.registry.fall_behind(&first(), if is_named { 3 } else { 1 });
        let named = is_named.then_some(&third);
        cluster.members[0].node.notify_of(&cluster.track, named).await.expect("the store");
        cluster.settle(&case).await;
        cluster.assert_converged(&third, &case);
        assert_eq!(cluster.history(), [third, second, first()], "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tag_that_was_moved_back_is_followed_at_once_where_the_hook_names_it_and_else_after_a_second_thought() {
    for (is_named, longest) in [(true, 60), (false, 180)] {
        let case = format!("named: {is_named}");
        let mut cluster = Cluster::start(3, &["web"], 1).await;
        let second = cluster.push(Behaviour::Serves);
        cluster.notify(0).await;
        cluster.settle(&case).await;
        cluster.registry.push(&cluster.track, 1, Behaviour::Serves);
        let named = is_named.then(first);
        cluster.members[0].node.notify_of(&cluster.track, named.as_ref()).await.expect("the store");
        let expected: [Digest; 3] = [first(), second, first()];
        let longest = Duration::from_secs(longest);
        cluster.wait_until(longest, &case, |cluster| cluster.history() == expected).await;
        cluster.settle(&case).await;
        cluster.assert_converged(&first(), &case);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_restored_from_an_older_snapshot_takes_no_version_back() {
    for is_away in [false, true] {
        let case = format!("registry away: {is_away}");
        let mut cluster = Cluster::start(3, &["web"], 1).await;
        let push = async |cluster: &mut Cluster| {
            let digest = cluster.push(Behaviour::Serves);
            cluster.notify(0).await;
            cluster.settle(&case).await;
            digest
        };
        let second = push(&mut cluster).await;
        let record = cluster.store.entries(&cluster.members[0].node.world.keys.record(&cluster.track)).remove(0);
        let third = push(&mut cluster).await;
        for name in ["a", "b", "c"].into_iter().filter(|_| is_away) {
            cluster.registry.obstruct(name, Some(Obstruction::Unreachable));
        }
        cluster.store.put(&record.key, &record.value);
        assert_eq!(cluster.history(), [second.clone(), first()], "{case}");
        sleep(AN_HOUR).await;
        cluster.assert_converged(&third, &case);
        for name in ["a", "b", "c"] {
            cluster.registry.obstruct(name, None);
        }
        sleep(AN_HOUR).await;
        assert_eq!(cluster.history(), [third.clone(), second, first()], "{case}");
        cluster.settle(&case).await;
        cluster.assert_converged(&third, &case);
    }
}

#[tokio::test(start_paused = true)]
async fn a_target_that_the_registry_has_no_more_has_the_tag_asked_about_again() {
    let mut cluster = Cluster::start(3, &["web"], 1).await;
    let second = cluster.push(Behaviour::Serves);
    cluster.registry.collect_garbage(&second);
    cluster.notify(0).await;
    cluster.wait_until(SOON, "known", |cluster| cluster.history().first() == Some(&second)).await;
    // Its hook is lost.
    let third = cluster.push(Behaviour::Serves);
    cluster.wait_until(SOON, "asked again", |cluster| cluster.history().first() == Some(&third)).await;
    cluster.settle("deployed").await;
    cluster.assert_converged(&third, "deployed");
}
