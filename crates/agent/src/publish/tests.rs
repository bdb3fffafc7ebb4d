//! What is said, and what is not, on a simulated engine.

use std::collections::BTreeMap;

use deployer_core::plan::Answer;
use deployer_core::replacement::{Failure, Phase};
use deployer_simulated::engine::Move;
use futures_util::FutureExt as _;
use serde_json::json;

use super::*;
use crate::fixture::{Fixture, digest, fixture, replacement, track};

/// Says what the engine shows of the track, as a look around does.
async fn say(fixture: &Fixture) {
    let world = &fixture.world;
    let survey = Survey::of(world).await.expect("listed");
    let view = TrackView::of(world, &survey, &track(), Answer::NotAsked).await.expect("read");
    let mut words = Words::default();
    words.tell(world, &survey, &view);
    let spoken = world.memory().speech.spoken();
    publish(world, &words, spoken).await.expect("said");
}

/// A look around that began before a replacement ended said after it that the instance was down.
#[tokio::test]
async fn a_look_that_began_before_a_replacement_ended_says_nothing_after_it() {
    let fixture = fixture().await;
    let world = &fixture.world;
    fixture.run("web");
    say(&fixture).await;
    let (key, spoken) = (world.keys.report(&track().to_string(), "a", "web"), world.memory().speech.spoken());
    let report = last_report(world, &key).expect("said");
    let (lease, _) = world.presence.borrow().lease.expect("registered");
    world.store.txn(say_too(world, Txn::new(), &key, &report, lease)).await.expect("said");
    note(world, &key, &report);
    world.bell.notified().now_or_never();
    publish(world, &Words::default(), spoken).await.expect("nothing to say");
    assert!(world.store.get(&key).await.expect("read").is_some(), "it is not withdrawn");
    assert!(world.bell.notified().now_or_never().is_some(), "another look is asked for");
    let ups = world.store.list(&world.keys.ups(&track().to_string())).await.expect("listed").0;
    assert_eq!(ups.len(), 1, "it is counted as up");
    publish(world, &Words::default(), spoken + 1).await.expect("said");
    assert!(world.store.list(&world.keys.all_ups()).await.expect("listed").0.is_empty());
}

/// It waited for its next replacement, which waited for it to be registered, for ever.
#[tokio::test]
async fn what_is_owed_is_an_instance_though_it_is_down() {
    let fixture = fixture().await;
    let world = &fixture.world;
    let mut owing = replacement();
    owing.phase = Phase::Returned;
    owing.reached = Phase::Started;
    owing.control = Some(true);
    owing.failure = Some(Failure::Candidate("exited".into()));
    fixture.run_and_stop("web");
    for (is_owed, expected) in [(false, None), (true, Some(false))] {
        if is_owed {
            world.memory().owed.note(owing.clone(), 0);
        }
        say(&fixture).await;
        let report = last_report(world, &world.keys.report(&track().to_string(), "a", "web"));
        assert_eq!(report.map(|report| report.up), expected);
    }
}

/// The keys of a node that outlast it.
async fn lasting(world: &World, node: &str) -> Vec<String> {
    let mut found = Vec::new();
    for prefix in [world.keys.all_instances(), world.keys.all_runs()] {
        found.extend(world.store.list(&prefix).await.expect("listed").0.into_iter().map(|entry| entry.key));
    }
    let of_node = world.keys.run(&track(), node).split_off(world.keys.runs(&track()).len());
    found.retain(|key| key.split('/').any(|part| part == of_node));
    found
}

/// A daemon that starts with nothing in memory.
async fn start_again(world: &World) {
    world.memory().speech = Speech::default();
    begin(world).await.expect("begun");
}

#[tokio::test]
async fn what_the_daemon_before_said_is_withdrawn_when_it_is_no_more() {
    let fixture = fixture().await;
    let world = &fixture.world;
    // The daemon before it was of a version that kept no index.
    assert_eq!(lasting(world, "a").await.len(), 1);
    start_again(world).await;
    say(&fixture).await;
    assert_eq!(lasting(world, "a").await, [""; 0]);

    let others = Instance { node: "b".into(), image: track(), container: "web".into(), off: false };
    let txn = Txn::new().put(world.keys.instance("web", "b", "web"), &others);
    world.store.txn(txn.put(world.keys.run(&track(), "b"), &json!({"services": ["web"]}))).await.expect("stored");
    ["web", "web-too"].into_iter().for_each(|name| fixture.run(name));
    say(&fixture).await;
    assert_eq!(lasting(world, "a").await.len(), 3, "two instances of a track");
    start_again(world).await;
    fixture.engine.remove_by_hand("web-too");
    say(&fixture).await;
    assert_eq!(lasting(world, "a").await.len(), 2);
    start_again(world).await;
    fixture.engine.remove_by_hand("web");
    say(&fixture).await;
    assert_eq!(lasting(world, "a").await, [""; 0]);
    assert_eq!(lasting(world, "b").await.len(), 2, "another node's stay");
}

#[tokio::test]
async fn what_somebody_removed_while_the_lease_was_gone_is_said_again() {
    let fixture = fixture().await;
    let world = &fixture.world;
    fixture.run("web");
    say(&fixture).await;
    let txn = lasting(world, "a").await.into_iter().fold(Txn::new(), Txn::delete);
    world.store.txn(txn.delete(world.keys.index("a"))).await.expect("forgotten");
    begin(world).await.expect("begun");
    say(&fixture).await;
    assert_eq!(lasting(world, "a").await.len(), 2);
    assert!(world.store.get(&world.keys.index("a")).await.expect("read").is_some());
}

/// All that stands in this node's name, by key.
async fn standing(world: &World) -> BTreeMap<String, Value> {
    let all = world.store.list(&world.keys.all()).await.expect("listed").0;
    let own = all.into_iter().filter(|entry| !entry.key.starts_with(&world.keys.nodes()));
    own.map(|entry| (entry.key, serde_json::from_slice(&entry.value).expect("readable"))).collect()
}

/// The instance that had been renamed since the snapshot waited for its registration for ever, and all others for one of the
/// old name.
#[tokio::test]
async fn what_a_restored_store_has_forgotten_is_said_again_and_what_it_brings_back_is_withdrawn() {
    let fixture = fixture().await;
    let world = &fixture.world;
    fixture.run("web");
    say(&fixture).await;
    let snapshot = standing(world).await;
    assert!(fixture.engine.does("web", &Move::Rename("renamed".to_owned())));
    say(&fixture).await;
    let (before, service) = (standing(world).await, track().to_string());
    assert!(!before.contains_key(&world.keys.instance(&service, "a", "web")));

    let gone = before.keys().filter(|key| !snapshot.contains_key(*key));
    let txn = gone.fold(Txn::new(), |txn, key| txn.delete(key.clone()));
    let txn = snapshot.iter().fold(txn, |txn, (key, value)| txn.put(key.clone(), value));
    world.store.txn(txn).await.expect("restored");
    world.bell.notified().now_or_never();
    look_back(world).await.expect("looked");
    assert!(world.bell.notified().now_or_never().is_some(), "a look around is asked for");
    say(&fixture).await;
    let index = world.keys.index("a");
    let without_index = |mut keys: BTreeMap<String, Value>| keys.remove(&index).map(|_| keys);
    assert_eq!(without_index(standing(world).await), without_index(before));

    look_back(world).await.expect("looked");
    assert!(world.bell.notified().now_or_never().is_none(), "all stands as it was said");
}

/// The line was cut while the store was restored, and a word that the engine was away wrote the index before anybody had looked
/// back: what was named there alone stood for ever, and all others waited for it to be up.
#[tokio::test]
async fn what_a_restored_index_names_is_not_written_over() {
    let fixture = fixture().await;
    let world = &fixture.world;
    fixture.run("web");
    say(&fixture).await;
    let snapshot = standing(world).await;
    fixture.engine.remove_by_hand("web");
    say(&fixture).await;
    let txn = snapshot.iter().fold(Txn::new(), |txn, (key, value)| txn.put(key.clone(), value));
    world.store.txn(txn).await.expect("restored");
    world.memory().speech = Speech::default();
    world.bell.notified().now_or_never();

    fixture.run("other");
    say(&fixture).await;
    let service = track().to_string();
    let of = |name: &str| world.keys.instance(&service, "a", name);
    assert!(standing(world).await.contains_key(&of("web")), "nobody has looked whether it is there");
    assert!(world.bell.notified().now_or_never().is_some(), "a look around is asked for");
    say(&fixture).await;
    let stands = standing(world).await;
    assert_eq!((stands.contains_key(&of("web")), stands.contains_key(&of("other"))), (false, true));

    for (goes, comes) in [("other", "third"), ("third", "fourth")] {
        fixture.engine.remove_by_hand(goes);
        fixture.run(comes);
        say(&fixture).await;
    }
    let named = index(world).await.expect("read").expect("there is one");
    assert!(!named.contains(&of("web")) && !named.contains(&of("other")), "what is gone for good is named no more");
}

#[tokio::test]
async fn a_node_that_is_off_is_not_counted_and_its_notifications_are_taken() {
    let fixture = fixture().await;
    let world = &fixture.world;
    fixture.run("web");
    say(&fixture).await;
    // Off before the next daemon has said anything, too.
    for _ in 0..2 {
        off(world).await.expect("said");
        let key = world.keys.instance(&track().to_string(), "a", "web");
        let entry = world.store.get(&key).await.expect("read").expect("it stays");
        assert!(decode::<Instance>(entry).expect("an instance").value.off);
        assert!(world.store.get(&world.keys.run(&track(), "a")).await.expect("read").is_some());
        start_again(world).await;
    }
}

/// A store that was restored brought back an instance, and the claim of the machine's last life on it. When a person had ended
/// that, everybody went on waiting for the instance until the next hourly look.
#[tokio::test(start_paused = true)]
async fn what_another_machines_claim_kept_from_being_withdrawn_is_looked_at_again_soon() {
    let fixture = fixture().await;
    let world = &fixture.world;
    fixture.run("web");
    say(&fixture).await;
    let claim = json!({
        "node": "a", "boot": "1", "txn": "0badcafe", "image": track(), "digest": digest(1), "container": "web",
        "phase": "stopping", "machine": "its last life", "state": "folder", "at": 0,
    });
    let key = world.keys.claim("cluster", 0);
    world.store.txn(Txn::new().put(key.clone(), &claim)).await.expect("stored");
    fixture.engine.remove_by_hand("web");
    let instance = world.keys.instance(&track().to_string(), "a", "web");
    let is_registered = async || world.store.get(&instance).await.expect("read").is_some();
    assert_eq!(world.memory().dues().count(), 0);
    let withdraw = async || {
        let spoken = world.memory().speech.spoken();
        publish(world, &Words::default(), spoken).await.expect("said");
    };
    withdraw().await;
    assert!(is_registered().await, "it counts as down for as long as it is claimed");
    let due = world.memory().dues().min().expect("it is looked at again");
    assert!(due <= Instant::now() + Duration::from_secs(60));
    world.store.txn(Txn::new().delete(key)).await.expect("ended by a person");
    withdraw().await;
    assert!(!is_registered().await);
}
