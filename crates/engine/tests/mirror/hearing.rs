//! An engine that dies, hangs, breaks off, or forgets to tell.

use std::time::Duration;

use deployer_engine::EngineError;
use deployer_engine::mirror::{Hearing, Snapshot, Thing, nanos};
use serde_json::json;
use tokio::time::advance;

use crate::scripted::{Scripted, container, refused, unreachable_engine};
use crate::{Following, is_heard, settled, state};

fn is_lost(snapshot: &Snapshot) -> bool {
    matches!(snapshot.hearing, Hearing::Lost { .. })
}

/// Lets time pass in steps, so that everything that is due in it happens in turn.
async fn pass(seconds: u64) {
    for _ in 0..seconds {
        advance(Duration::from_secs(1)).await;
        settled().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_dies_is_told_of_and_one_that_returns_is_looked_at_anew() {
    let engine = Scripted::with(&[("a", "web"), ("b", "gone")]);
    let following = Following::heard(&engine).await;
    engine.die();
    following.until(is_lost).await;
    let snapshot = following.mirror.snapshot();
    assert_eq!(state(&snapshot, "a"), "running", "what was last so is kept");
    let error = following.mirror.current().await.expect_err("nobody knows").to_string();
    assert_eq!(error, "the engine is not heard: ask: cannot reach the engine at scripted: nobody there");
    pass(600).await;
    engine.asked();
    pass(60).await;
    let tries = engine.asked().len();
    assert!((4..=8).contains(&tries), "{tries} tries in a minute");
    // It was started meanwhile, which the list does not show.
    engine.state().containers.get_mut("a").expect("just made")["State"]["StartedAt"] = json!("1970-01-01T00:00:09Z");
    engine.state().containers.remove("b");
    engine.come_back();
    following.until(is_heard).await;
    let snapshot = following.mirror.current().await.expect("heard");
    assert_eq!(nanos(&snapshot.containers["a"].started_at), 9_000_000_000);
    assert_eq!(snapshot.containers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_after_long_is_made_anew_and_nobody_is_told() {
    let engine = Scripted::with(&[("a", "web")]);
    let following = Following::heard(&engine).await;
    pass(120).await;
    let mut shown = following.mirror.subscribe();
    engine.break_off();
    engine.state().containers.get_mut("a").expect("just made")["State"]["Status"] = json!("exited");
    let mut seen = Vec::new();
    while state(&shown.borrow_and_update(), "a") != "exited" {
        shown.changed().await.expect("it lives");
        seen.push(is_lost(&shown.borrow()));
    }
    settled().await;
    assert!(!seen.contains(&true) && is_heard(&shown.borrow()), "what was missed is seen, and the engine was heard");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_counts_as_not_heard_after_a_while() {
    let engine = Scripted::with(&[("a", "web")]);
    let following = Following::heard(&engine).await;
    for held in ["events", "containers"] {
        pass(120).await;
        engine.hold(held);
        engine.break_off();
        pass(9).await;
        assert!(is_heard(&following.mirror.snapshot()), "{held}");
        pass(2).await;
        assert!(is_lost(&following.mirror.snapshot()), "{held}");
        engine.let_go();
        pass(20).await;
        assert!(is_heard(&following.mirror.snapshot()), "{held}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_fails_is_asked_for_again() {
    // A list of images is tried a few times at once.
    for (list, most) in [("containers", 12), ("images", 40)] {
        let engine = Scripted::with(&[("a", "web")]);
        engine.state().failing.insert(list.to_owned(), refused());
        let following = Following::begin(engine.clone());
        following.until(is_lost).await;
        pass(60).await;
        let tries = engine.asked().iter().filter(|call| *call == list).count();
        assert!((4..=most).contains(&tries), "{tries} tries in a minute");
        engine.come_back();
        following.until(is_heard).await;
        assert_eq!(state(&following.mirror.snapshot(), "a"), "running");
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_event_told_is_found_within_ten_minutes_at_the_price_of_two_lists() {
    let engine = Scripted::with(&[("a", "web"), ("b", "other"), ("c", "gone")]);
    let following = Following::heard(&engine).await;
    engine.state().containers.get_mut("a").expect("just made")["Name"] = json!("/renamed");
    engine.state().containers.remove("c");
    pass(599).await;
    assert_eq!(engine.asked(), [""; 0]);
    pass(2).await;
    assert_eq!(engine.asked(), ["images", "containers", "container a"]);
    let snapshot = following.mirror.snapshot();
    assert_eq!((snapshot.containers["a"].name.as_str(), snapshot.containers.len()), ("renamed", 2));
}

#[tokio::test(start_paused = true)]
async fn a_container_that_goes_away_before_it_is_inspected_is_left_out() {
    let engine = Scripted::with(&[("a", "web"), ("b", "other")]);
    let following = Following::heard(&engine).await;
    engine.state().containers.insert("c".into(), container("c", "short"));
    engine.state().containers.remove("a");
    engine.tell("die", "", "a");
    engine.tell("create", "", "c");
    engine.state().containers.remove("c");
    settled().await;
    let snapshot = following.mirror.snapshot();
    assert_eq!(snapshot.containers.keys().collect::<Vec<_>>(), ["b"]);
    assert!(is_heard(&snapshot));
}

#[tokio::test(start_paused = true)]
async fn an_inspection_without_an_answer_ends_the_hearing() {
    let engine = Scripted::with(&[("a", "web")]);
    let following = Following::heard(&engine).await;
    engine.state().failing.insert("container".into(), unreachable_engine());
    engine.tell("die", "", "a");
    following.until(is_lost).await;
    let look = following.mirror.look_again(&Thing::Container("a".into())).await;
    assert!(matches!(look, Err(EngineError::Unreachable { .. })), "{look:?}");
}

/// Deeds of the time in between may be missing, which whoever asks for them has to know.
#[tokio::test(start_paused = true)]
async fn since_when_the_engine_is_heard_begins_anew_after_a_gap() {
    let engine = Scripted::with(&[("a", "web")]);
    let following = Following::heard(&engine).await;
    let first = following.mirror.snapshot().hearing.clone();
    pass(120).await;
    engine.break_off();
    following.until(|snapshot| is_heard(snapshot) && snapshot.hearing != first).await;
}
