//! Looks against a stand-in for the engine, with a real store.

use std::time::Duration;

use deployer_core::image::Digest;
use deployer_core::record::{Pending, Record};
use deployer_core::store::Txn;

use super::*;
use crate::stand_in::{Fixture, container, digest, fixture, track};
use crate::world::{Retry, Transition};

async fn notify(world: &World, named: Option<Digest>) {
    let pending = Pending { digest: named, at: 0 };
    world.store.txn(Txn::new().put(world.keys.pending(&track()), &pending)).await.expect("stored");
}

/// Looks at the track once, while a further notification comes in before the registry's first answer.
async fn look_overtaken(fixture: &Fixture) {
    let world = &fixture.world;
    let ((pulls, _tracks), (replacements, _names)) = (mpsc::channel(9), mpsc::channel(9));
    let permits = fixture.engine.answers.forget_permits(usize::MAX);
    assert!(permits > 0, "the registry answered before");
    let track = track();
    let push_again = async {
        fixture.engine.asked.notified().await;
        notify(world, Some(digest('3'))).await;
        fixture.engine.answers.add_permits(1);
    };
    let look = look_at(world, &track, &pulls, &replacements);
    let look = tokio::time::timeout(Duration::from_secs(5), look);
    // The registry is asked again for the further notification, and does not answer any more.
    let (_, ()) = tokio::join!(look, push_again);
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_comes_while_the_registry_is_asked_outlives_a_new_entry() {
    let fixture = fixture().await;
    fixture.engine.state().containers = vec![container("old", "web", "running")];
    notify(&fixture.world, None).await;
    look_overtaken(&fixture).await;
    let ledger = Ledger::read(&fixture.world, &track()).await.expect("read");
    assert_eq!(ledger.pending.and_then(|pending| pending.value.digest), Some(digest('3')));
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_comes_while_the_registry_is_asked_outlives_old_news() {
    let fixture = fixture().await;
    fixture.engine.state().containers = vec![container("old", "web", "running")];
    let record = Record::adopt(None, &digest('2'), Source::Hook, 0);
    let world = &fixture.world;
    world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
    notify(world, None).await;
    look_overtaken(&fixture).await;
    let ledger = Ledger::read(world, &track()).await.expect("read");
    assert_eq!(ledger.pending.and_then(|pending| pending.value.digest), Some(digest('3')));
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_comes_due_beside_another_wake_is_not_forgotten() {
    let fixture = fixture().await;
    let ((wake, wakes), (pulls, _tracks), (replacements, _names)) =
        (mpsc::channel(9), mpsc::channel(9), mpsc::channel(9));
    let world = Arc::clone(&fixture.world);
    let due = Instant::now() + Duration::from_secs(1);
    let retry = Retry { failures: 1, due, reason: String::new(), is_hopeless: false };
    world.memory().pulls.insert((track(), digest('2')), retry);
    let update = Update { world: Arc::clone(&world), wakes, pulls, replacements };
    let other_wake = async {
        // Wakes are taken before alarms, so this one is taken when the retry is due.
        tokio::time::sleep_until(due).await;
        wake.send(Wake::Track(track())).await.expect("the stage lives");
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    tokio::select! {
        biased;
        () = update.run(CancellationToken::new()) => {}
        () = other_wake => {}
    }
    // The look around at the start, the look at the track, and the look around for the retry.
    let looks = fixture.engine.state().calls.iter().filter(|call| *call == "containers").count();
    assert_eq!(looks, 3);
}

#[tokio::test(start_paused = true)]
async fn notifications_are_taken_while_a_container_stands_still_for_a_moment() {
    let fixture = fixture().await;
    let world = &fixture.world;
    let is_registered = async || {
        look_around(world).await.expect("looked");
        world.registered.borrow().as_ref().is_some_and(|tracks| tracks.contains(&track()))
    };
    assert!(!is_registered().await, "nobody runs it");
    fixture.engine.state().containers = vec![container("old", "web", "exited")];
    assert!(is_registered().await, "stopped by somebody, or by a replacement");
    fixture.engine.state().containers = vec![container("old", "web.old-00c0ffee", "exited")];
    world.memory().transitions.insert("web".to_owned(), Transition { track: track(), service: "web".to_owned() });
    assert!(is_registered().await, "between two names");
}

/// A look that panics is looked at again later, ever more rarely, and the stage and the other tracks go on.
#[tokio::test(start_paused = true)]
async fn security_1_a_panic_in_a_look_ends_that_look() {
    let fixture = fixture().await;
    let ((_wake, wakes), (pulls, _tracks), (replacements, _names)) =
        (mpsc::channel(9), mpsc::channel(9), mpsc::channel(9));
    fixture.engine.state().panics = vec!["containers"];
    let world = Arc::clone(&fixture.world);
    let update = Update { world: Arc::clone(&world), wakes, pulls, replacements };
    let outcome = tokio::time::timeout(Duration::from_secs(3600), update.run(CancellationToken::new())).await;
    assert!(outcome.is_err(), "the stage goes on");
    let looks = fixture.engine.state().calls.iter().filter(|call| *call == "containers").count();
    assert!((2..30).contains(&looks), "{looks} looks in an hour");
}

/// The pull stage goes on; the track rests before the next try.
#[tokio::test(start_paused = true)]
async fn security_1_a_panic_in_a_pull_ends_that_pull() {
    let fixture = fixture().await;
    let world = Arc::clone(&fixture.world);
    {
        let mut state = fixture.engine.state();
        state.containers = vec![container("old", "web", "running")];
        state.panics = vec!["pull"];
    }
    let record = Record::adopt(Some(&digest('1')), &digest('2'), Source::Hook, 0);
    world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
    let ((_wake, wakes), (pulls, tracks), (replacements, _names)) =
        (mpsc::channel(9), mpsc::channel(9), mpsc::channel(9));
    let update = Update { world: Arc::clone(&world), wakes, pulls, replacements };
    let pull = crate::pull::Pull { world: Arc::clone(&world), tracks };
    let stages = async {
        tokio::join!(update.run(CancellationToken::new()), pull.run(CancellationToken::new()));
    };
    assert!(tokio::time::timeout(Duration::from_secs(3600), stages).await.is_err(), "the stages go on");
    let pulls = fixture.engine.state().calls.iter().filter(|call| call.starts_with("pull")).count();
    assert!((2..30).contains(&pulls), "{pulls} pulls in an hour");
}
