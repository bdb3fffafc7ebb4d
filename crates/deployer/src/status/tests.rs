//! What is shown of a store in which others write.

use deployer_agent::fixture::{digest, fixture, places_of_nonsense, track};
use deployer_core::record::{Record, Source};
use deployer_core::store::Txn;

use super::*;

/// One value that makes no sense is named and passed over; but a claim, which is shown with its slot, and a record, whose
/// track stands still.
#[tokio::test(start_paused = true)]
async fn security_11_no_value_in_the_store_keeps_status_from_showing() {
    let keys = fixture().await.world.keys.clone();
    for key in places_of_nonsense(&keys) {
        let fixture = fixture().await;
        let world = &fixture.world;
        fixture.run("web");
        world.store.txn(Txn::new().put(key.clone(), &"nonsense \u{1b}[2J")).await.expect("stored");
        let seen = status(world).await.expect("shown");
        let slots: Vec<&str> = seen.claims.iter().map(|claim| claim.slot.as_str()).collect();
        assert_eq!(slots == ["cluster/0"], key == keys.claim("cluster", 0), "{key}: {slots:?}");
        let container = &seen.tracks[0].containers[0];
        let is_record = key == keys.record(&track());
        assert_eq!(container.state == "held_back", is_record, "{key}: {container:?}");
        assert!(!is_record || container.reason.contains(&key), "{container:?}");
        // Read by those alone who wait for a slot.
        let others = [keys.deferral("cluster", &track()), keys.fetched_by(&track(), "gone")];
        let is_named = seen.troubles.iter().any(|trouble| trouble.contains(&key) && trouble.contains("no sense"));
        assert_eq!(is_named, !others.contains(&key), "{key}: {:?}", seen.troubles);
        assert!(!seen.troubles.concat().contains('\u{1b}'), "{:?}", seen.troubles);
        world.store.txn(Txn::new().delete(key.clone())).await.expect("removed");
        assert_eq!(status(world).await.expect("shown").troubles, [""; 0], "{key}: nothing is named that is gone");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pull_shows_how_far_it_has_come() {
    let fixture = fixture().await;
    let world = &fixture.world;
    fixture.run("web");
    let record = Record::adopt(Some(&digest(1)), &digest(2), Source::Hook, 0);
    world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
    let shown = async || {
        let seen = status(world).await.expect("shown");
        let container = &seen.tracks[0].containers[0];
        (container.state.clone(), container.reason.clone())
    };
    let (state, before) = shown().await;
    assert_eq!(state, "pulling", "{before}");
    world.memory().fetches.come_in(&track(), "3 of 40 MB".to_owned());
    assert_eq!(shown().await, ("pulling".to_owned(), "3 of 40 MB".to_owned()));
    world.memory().fetches.end(&track());
    assert_eq!(shown().await, ("pulling".to_owned(), before));
}
