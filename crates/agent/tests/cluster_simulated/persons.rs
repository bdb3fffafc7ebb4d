//! What a person does to a container in the middle of its replacement is held against no version, and stands.

use std::time::Duration;

use deployer_core::image::Digest;
use deployer_simulated::engine::Move;
use deployer_simulated::registry::Behaviour;
use tokio::time::sleep;

use crate::simulated::cluster::{Cluster, first};

/// Time in which three containers are replaced one after the other, each watched.
const LONG: Duration = Duration::from_secs(1800);
/// From a start: at the gate, at the end of the gate, in the monitor.
const MOMENTS: [u64; 3] = [300, 4000, 20_000];

/// Three machines, of which one has just started a version that serves.
async fn at_the_gate(seed: u64) -> (Cluster, usize, Digest) {
    let mut cluster = Cluster::start(3, &["web"], seed).await;
    let digest = cluster.push(Behaviour::Serves);
    cluster.notify(0).await;
    let is_started = |cluster: &Cluster| (0..3).any(|machine| cluster.runs(machine, "web", &digest));
    cluster.wait_until(LONG, "a start", is_started).await;
    let machine = (0..3).find(|machine| cluster.runs(*machine, "web", &digest)).expect("just seen");
    (cluster, machine, digest)
}

fn is_condemned(cluster: &Cluster, digest: &Digest) -> bool {
    let keys = &cluster.members[0].node.world.keys;
    let verdict = cluster.store.entries(&keys.verdict(&cluster.track.to_string(), digest)).pop();
    verdict.is_some_and(|entry| String::from_utf8_lossy(&entry.value).contains("bad"))
}

#[tokio::test(start_paused = true)]
async fn coordination_h5_what_a_person_stops_or_kills_at_the_gate_stays_stopped_and_is_not_bad() {
    for (seed, after) in (1..).zip(MOMENTS) {
        let case = format!("after {after} ms");
        let (mut cluster, machine, digest) = at_the_gate(seed).await;
        sleep(Duration::from_millis(after)).await;
        cluster.members[machine].node.engine.stop_by_hand("web");
        cluster.settle(&case).await;
        assert!(!is_condemned(&cluster, &digest), "{case}: {}", cluster.describe());
        for other in 0..3 {
            let state = cluster.members[other].node.engine.container_of("web").expect("it is there").2;
            assert_eq!(state == "exited", other == machine, "{case}, {other}: {}", cluster.describe());
            assert!(other == machine || cluster.runs(other, "web", &digest), "{case}: {}", cluster.describe());
        }
        assert_eq!(cluster.violations(), [], "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn coordination_h5_what_a_person_restarts_at_the_gate_is_looked_at_anew_and_deployed() {
    for (seed, after) in (1..).zip(MOMENTS) {
        let case = format!("after {after} ms");
        let (mut cluster, machine, digest) = at_the_gate(seed).await;
        sleep(Duration::from_millis(after)).await;
        assert!(cluster.members[machine].node.engine.does("web", &Move::Restart), "{case}");
        cluster.settle(&case).await;
        assert!((0..3).all(|machine| cluster.runs(machine, "web", &digest)), "{case}: {}", cluster.describe());
        assert_eq!(cluster.violations(), [], "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn coordination_h5_whoever_restarts_it_time_and_again_keeps_the_slot_from_nobody() {
    let (mut cluster, machine, digest) = at_the_gate(1).await;
    let mut restarts = 0;
    while cluster.runs(machine, "web", &digest) && restarts < 20 {
        sleep(Duration::from_secs(3)).await;
        cluster.members[machine].node.engine.does("web", &Move::Restart);
        sleep(Duration::from_secs(2)).await;
        restarts += 1;
    }
    assert!(restarts < 20, "{}", cluster.describe());
    cluster.settle("put back").await;
    assert!(cluster.runs(machine, "web", &first()), "{}", cluster.describe());
    assert!(!is_condemned(&cluster, &digest));
}

/// The control after a bad version: a person stops what was just put back.
#[tokio::test(start_paused = true)]
async fn coordination_h5_what_a_person_stops_during_the_control_stays_stopped() {
    let mut cluster = Cluster::start(1, &["web"], 1).await;
    let digest = cluster.push(Behaviour::NeverListens);
    cluster.notify(0).await;
    let runs = |digest: Digest| move |cluster: &Cluster| cluster.runs(0, "web", &digest);
    cluster.wait_until(LONG, "a start", runs(digest.clone())).await;
    cluster.wait_until(LONG, "put back", runs(first())).await;
    cluster.members[0].node.engine.stop_by_hand("web");
    cluster.settle("stopped").await;
    let (_, runs, state) = cluster.members[0].node.engine.container_of("web").expect("it is there");
    assert_eq!((runs, state), (Some(first()), "exited"), "{}", cluster.describe());
    assert!(!is_condemned(&cluster, &digest), "the control was not seen to pass");
}

/// The old one was pruned, and the new one stopped: for want of a way back that was started again. One that stays for the same
/// reason had lost its restart policy on the way.
#[tokio::test(start_paused = true)]
async fn what_a_person_stopped_stays_so_though_there_is_no_way_back_and_has_its_policy() {
    for is_stopped in [true, false] {
        let case = format!("stopped: {is_stopped}");
        let mut cluster = Cluster::start(1, &["web"], 1).await;
        let digest = cluster.push(if is_stopped { Behaviour::Serves } else { Behaviour::NeverListens });
        cluster.notify(0).await;
        let is_started = |cluster: &Cluster| cluster.runs(0, "web", &digest);
        cluster.wait_until(LONG, "a start", is_started).await;
        let engine = &cluster.members[0].node.engine;
        let old = engine.containers().into_iter().map(|(name, ..)| name).find(|name| name.contains(".old-"));
        assert!(engine.does(&old.expect("set aside"), &Move::Remove), "{case}");
        if is_stopped {
            engine.stop_by_hand("web");
        }
        cluster.settle(&case).await;
        assert_eq!(cluster.runs(0, "web", &digest), !is_stopped, "{case}");
        let world = &cluster.members[0].node.world;
        let web = world.engine.container("web").await.expect("it is there");
        assert_eq!(web.pointer("/HostConfig/RestartPolicy/Name"), Some(&"always".into()), "{case}");
        let kinds: Vec<_> = cluster.violations().into_iter().map(|violation| violation.kind).collect();
        assert_eq!(kinds, [], "{case}");
    }
}
