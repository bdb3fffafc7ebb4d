//! Looks at a simulated engine, with a real store.

use std::time::Duration;

use deployer_core::image::Digest;
use deployer_core::record::{Pending, Record};
use deployer_core::store::Txn;
use deployer_engine::EngineError;
use deployer_simulated::engine::{Move, Spec};
use deployer_simulated::registry::Behaviour;

use super::*;
use crate::fixture::{Fixture, digest, fixture, image, places_of_nonsense, track};
use crate::ledger;
use crate::presence;
use crate::replacing::Transition;
use crate::retries::Failed;

/// The call that each look makes once, where nobody follows the engine.
const LIST: &str = "list containers";

async fn notify(world: &World, named: Option<Digest>) {
    let pending = Pending { digest: named, at: 0 };
    world.store.txn(Txn::new().put(world.keys.pending(&track()), &pending)).await.expect("stored");
}

/// Looks at the track once, while a further notification comes in before the registry's first answer.
async fn look_overtaken(fixture: &Fixture) {
    let world = &fixture.world;
    let ((pulls, _tracks), (replacements, _names)) = (mpsc::channel(9), mpsc::channel(9));
    fixture.push(2);
    fixture.registry.slow_resolves(Duration::from_secs(3));
    let track = track();
    let push_again = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(fixture.registry.resolves(), 1, "the registry is being asked");
        notify(world, Some(digest(3))).await;
    };
    let look = look_at(world, &track, &pulls, &replacements);
    let look = tokio::time::timeout(Duration::from_secs(5), look);
    // The registry is asked again for the further notification, and does not answer in time.
    let (_, ()) = tokio::join!(look, push_again);
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_comes_while_the_registry_is_asked_outlives_a_new_entry() {
    let fixture = fixture().await;
    fixture.run("web");
    notify(&fixture.world, None).await;
    look_overtaken(&fixture).await;
    let ledger = Ledger::read(&fixture.world, &track()).await.expect("read");
    assert_eq!(ledger.pending.and_then(|pending| pending.value.digest), Some(digest(3)));
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_comes_while_the_registry_is_asked_outlives_old_news() {
    let fixture = fixture().await;
    fixture.run("web");
    let record = Record::adopt(None, &digest(2), Source::Hook, 0);
    let world = &fixture.world;
    world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
    notify(world, None).await;
    look_overtaken(&fixture).await;
    let ledger = Ledger::read(world, &track()).await.expect("read");
    assert_eq!(ledger.pending.and_then(|pending| pending.value.digest), Some(digest(3)));
}

#[tokio::test(start_paused = true)]
async fn a_retry_that_comes_due_beside_another_wake_is_not_forgotten() {
    let fixture = fixture().await;
    let ((wake, wakes), (pulls, _tracks), (replacements, _names)) =
        (mpsc::channel(9), mpsc::channel(9), mpsc::channel(9));
    let world = Arc::clone(&fixture.world);
    fixture.run_and_stop("web");
    let before = fixture.engine.calls_of(LIST);
    let record = Record::adopt(None, &digest(2), Source::Hook, 0);
    world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
    let due = Instant::now() + world.memory().fetches.fail(&track(), &digest(9), Failed::default(), 0);
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
    assert_eq!(fixture.engine.calls_of(LIST) - before, 3);
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
    fixture.run_and_stop("web");
    assert!(is_registered().await, "stopped by somebody, or by a replacement");
    assert!(fixture.engine.does("web", &Move::Rename("web.old-00c0ffee".to_owned())));
    world.memory().replacing.begin("web", Transition { track: track(), service: "web".to_owned() });
    assert!(is_registered().await, "between two names");
}

/// A container of an image that only a tag names, on an engine where that says nothing, and version 2 on the machine.
async fn perhaps_built_here() -> Fixture {
    let fixture = fixture().await;
    fixture.push(9);
    fixture.run("web");
    fixture.registry.collect_garbage(&digest(9));
    fixture.push(2);
    fixture.bring(2);
    fixture.engine.forget_origins();
    let record = Record::adopt(None, &digest(2), Source::Hook, 0);
    let world = &fixture.world;
    world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
    fixture
}

/// Looks once. Gives back the containers to be replaced.
async fn look(world: &World) -> Vec<String> {
    let ((pulls, _tracks), (replacements, mut names)) = (mpsc::channel(9), mpsc::channel(9));
    look_at(world, &track(), &pulls, &replacements).await.expect("looked");
    drop(replacements);
    std::iter::from_fn(|| names.try_recv().ok()).collect()
}

fn questions(fixture: &Fixture) -> u64 {
    fixture.engine.calls_of("has")
}

#[tokio::test(start_paused = true)]
async fn what_may_be_a_local_build_is_replaced_only_if_the_registry_has_it() {
    let fixture = perhaps_built_here().await;
    let world = &fixture.world;
    for _ in 0..600 {
        assert_eq!(look(world).await, Vec::<String>::new());
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let asked = questions(&fixture);
    assert!((2..=15).contains(&asked), "{asked} questions in ten minutes");
    assert!(world.memory().dues().next().is_none(), "the registry is left in peace until something happens");
    fixture.push(9);
    tokio::time::advance(Duration::from_secs(120)).await;
    assert_eq!((look(world).await, look(world).await), (vec!["web".to_owned()], vec!["web".to_owned()]));
    assert_eq!(questions(&fixture), asked + 1, "it is asked once");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_cannot_be_asked_leaves_a_local_build_alone_and_is_asked_again() {
    let fixture = perhaps_built_here().await;
    let silence = EngineError::Timeout { what: "ask".into(), limit: Duration::ZERO };
    fixture.engine.refuse("has", silence);
    assert_eq!(look(&fixture.world).await, Vec::<String>::new());
    assert_eq!(fixture.world.memory().dues().count(), 1);
}

/// A push from the same machine: the notification comes when the registry has it.
#[tokio::test(start_paused = true)]
async fn what_a_notification_names_is_no_local_build() {
    let fixture = perhaps_built_here().await;
    notify(&fixture.world, Some(digest(9))).await;
    fixture.engine.hold("resolve");
    let look = tokio::time::timeout(Duration::from_secs(5), look(&fixture.world)).await;
    assert!(look.is_err() && fixture.engine.is_waited_for("resolve"), "the registry is asked what the tag points to");
    assert_eq!(questions(&fixture), 0);
}

#[tokio::test(start_paused = true)]
async fn answers_for_images_that_are_gone_are_forgotten() {
    let fixture = perhaps_built_here().await;
    let world = &fixture.world;
    look(world).await;
    look_around(world).await.expect("looked");
    assert_eq!(world.memory().verified.dues().count(), 1);
    fixture.engine.remove_by_hand("web");
    fixture.engine.prune(Some(true));
    look_around(world).await.expect("looked");
    assert_eq!(world.memory().verified.dues().count(), 0);
}

/// A look that panics is looked at again later, ever more rarely, and the stage and the other tracks go on.
#[tokio::test(start_paused = true)]
async fn security_1_a_panic_in_a_look_ends_that_look() {
    let fixture = fixture().await;
    let ((_wake, wakes), (pulls, _tracks), (replacements, _names)) =
        (mpsc::channel(9), mpsc::channel(9), mpsc::channel(9));
    fixture.engine.panic_at(LIST);
    let before = fixture.engine.calls_of(LIST);
    let world = Arc::clone(&fixture.world);
    let update = Update { world: Arc::clone(&world), wakes, pulls, replacements };
    let outcome = tokio::time::timeout(Duration::from_secs(3600), update.run(CancellationToken::new())).await;
    assert!(outcome.is_err(), "the stage goes on");
    let looks = fixture.engine.calls_of(LIST) - before;
    assert!((2..30).contains(&looks), "{looks} looks in an hour");
}

/// The pull stage goes on; the track rests before the next try.
#[tokio::test(start_paused = true)]
async fn security_1_a_panic_in_a_pull_ends_that_pull() {
    let fixture = fixture().await;
    let world = Arc::clone(&fixture.world);
    fixture.run("web");
    fixture.push(2);
    fixture.engine.panic_at("pull");
    let record = Record::adopt(Some(&digest(1)), &digest(2), Source::Hook, 0);
    world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
    let ((_wake, wakes), (pulls, tracks), (replacements, _names)) =
        (mpsc::channel(9), mpsc::channel(9), mpsc::channel(9));
    let update = Update { world: Arc::clone(&world), wakes, pulls, replacements };
    let pull = crate::pull::Pull { world: Arc::clone(&world), hand: fixture.hand(), tracks };
    let stages = async {
        tokio::join!(update.run(CancellationToken::new()), pull.run(CancellationToken::new()));
    };
    assert!(tokio::time::timeout(Duration::from_secs(3600), stages).await.is_err(), "the stages go on");
    let pulls = fixture.engine.calls_of("pull");
    assert!((2..30).contains(&pulls), "{pulls} pulls in an hour");
}

/// The tag that is moved is docker.io's, and the engine would make the candidate from the alias, which still names the old.
#[tokio::test(start_paused = true)]
async fn an_image_under_an_alias_is_refused_with_the_name_to_write() {
    let fixture = fixture().await;
    let world = &fixture.world;
    let (track, alias) = (Track::parse("acme/web:1").expect("a track"), "registry.hub.docker.com/acme/web:1");
    fixture.registry.push(&track, 9, Behaviour::Serves);
    fixture.engine.pull_by_hand(&track, None);
    fixture.engine.tag_by_hand(&image(9), alias);
    fixture.engine.run_with(&Spec::new("web", &track), |body| body["Image"] = alias.into());
    let record = Record::adopt(None, &digest(2), Source::Hook, 0);
    world.store.txn(Txn::new().put(world.keys.record(&track), &record)).await.expect("stored");
    let survey = Survey::of(world).await.expect("seen");
    let view = TrackView::of(world, &survey, &track, Answer::NotAsked).await.expect("read");
    let rows: Vec<&str> = view.decisions.iter().map(|decision| decision.row.name).collect();
    assert_eq!(rows, ["refused"]);
    assert!(view.decisions[0].note.ends_with("name it acme/web:1"), "{}", view.decisions[0].note);
}

/// While it waited in line its report was frozen at what was said last.
#[tokio::test(start_paused = true)]
async fn coordination_h1_what_waits_in_line_is_reported_as_it_is_now() {
    let fixture = fixture().await;
    let world = &fixture.world;
    let transition = Transition { track: track(), service: track().to_string() };
    world.memory().replacing.begin("web", transition);
    let key = world.keys.report(&track().to_string(), "a", "web");
    fixture.run("web");
    for (state, expected) in [("running", true), ("restarting", false), ("running again", true)] {
        match state {
            "restarting" => fixture.crash_loop("web"),
            "running again" => {
                fixture.registry.mend(&digest(1), Behaviour::Serves);
                assert!(fixture.engine.does("web", &Move::Restart));
            }
            _ => {}
        }
        look_around(world).await.expect("looked");
        let report = world.store.get(&key).await.expect("read").expect("it is told");
        let report: serde_json::Value = serde_json::from_slice(&report.value).expect("a report");
        assert_eq!(report["up"], expected, "{state}");
    }
}

/// The daemon lives and its engine does not: everything here counted as up for ever, and then for five seconds, in which the
/// next one of a rollout went down.
#[tokio::test(start_paused = true)]
async fn coordination_h2_an_engine_that_is_not_heard_is_told_to_the_others() {
    let fixture = fixture().await;
    let world = Arc::clone(&fixture.world);
    fixture.run("web");
    let ((_wake, wakes), (pulls, _tracks), (replacements, _names)) =
        (mpsc::channel(9), mpsc::channel(9), mpsc::channel(9));
    let update = Update { world: Arc::clone(&world), wakes, pulls, replacements };
    let both = async { tokio::join!(update.run(CancellationToken::new()), crate::presence::run(&world)) };
    let mut stage = Box::pin(both);
    let key = world.keys.report(&track().to_string(), "a", "web");
    let is_up = async || {
        let report = world.store.get(&key).await.expect("read").expect("it is told");
        serde_json::from_slice::<serde_json::Value>(&report.value).expect("a report")["up"] == true
    };
    let a_while = Duration::from_secs(30);
    assert!(tokio::time::timeout(a_while, &mut stage).await.is_err());
    assert!(is_up().await);
    let away = EngineError::Timeout { what: "list".into(), limit: Duration::ZERO };
    fixture.engine.refuse(LIST, away);
    world.bell.notify_one();
    let at_once = Duration::from_millis(100);
    assert!(tokio::time::timeout(at_once, &mut stage).await.is_err());
    assert!(!is_up().await, "nobody knows what runs");
    assert!(tokio::time::timeout(a_while, &mut stage).await.is_err());
    assert!(!is_up().await, "nor later");
    fixture.engine.permit(LIST);
    assert!(tokio::time::timeout(a_while, &mut stage).await.is_err());
    assert!(is_up().await, "it is heard again");
}

/// One value that makes no sense, whoever wrote it, is named, and the node registers and looks all the same.
#[tokio::test(start_paused = true)]
async fn security_11_no_value_in_the_store_wedges_a_node() {
    let keys = fixture().await.world.keys.clone();
    for key in places_of_nonsense(&keys) {
        let fixture = fixture().await;
        let world = &fixture.world;
        fixture.run("web");
        world.store.txn(Txn::new().put(key.clone(), &"nonsense \u{1b}[2J")).await.expect("stored");
        presence::register(world).await.expect("registered").expect("nobody else bears the name");
        look_around(world).await.expect("looked around");
        let ((pulls, _tracks), (replacements, _names)) = (mpsc::channel(9), mpsc::channel(9));
        look_at(world, &track(), &pulls, &replacements).await.expect("looked");
        let own = world.keys.instance(&track().to_string(), "a", "web");
        assert!(world.store.get(&own).await.expect("read").is_some(), "{key}: it is told of what runs here");
        let survey = Survey::of(world).await.expect("seen");
        let view = TrackView::of(world, &survey, &track(), Answer::NotAsked).await.expect("read");
        let decision = &view.decisions[0];
        let is_record = key == keys.record(&track());
        assert_eq!(decision.row.name == "refused", is_record, "{key}: {}", decision.row.name);
        assert!(!is_record || decision.note.contains(&key), "{}", decision.note);
        // The others are read by those alone who wait for a slot or ask for the status, or are written over.
        let is_read = key == keys.claim("cluster", 0)
            || key == keys.verdict(&track().to_string(), &digest(3))
            || [keys.record(&track()), keys.pending(&track()), keys.halt(&track())].contains(&key);
        let named = ledger::nonsense(world).await.expect("read");
        let is_named = named.iter().any(|text| text.contains(&key) && text.contains("no sense"));
        // A verdict on what no record knows has been swept out by now.
        let is_gone = world.store.get(&key).await.expect("read").is_none();
        assert!(is_named || !is_read || is_gone, "{key}: {named:?}");
        world.store.txn(Txn::new().delete(key.clone())).await.expect("removed");
        assert_eq!(ledger::nonsense(world).await, Ok(Vec::new()), "{key}: nothing is named that is gone");
    }
}

/// Its survey is older than what the replacement did, or newer than what this node remembers of it.
#[tokio::test(start_paused = true)]
async fn a_tag_that_this_node_moves_is_not_taken_for_moved_by_hand() {
    let fixture = fixture().await;
    let world = &fixture.world;
    let pull = |number| {
        fixture.push(number);
        fixture.engine.pull_by_hand(&track(), None);
    };
    pull(1);
    let look = async || Survey::of(world).await.expect("seen");
    remember_tag(world, &look().await, &track());
    let before = look().await;
    // As the replacement does: the engine first, then the memory.
    pull(2);
    let transition = Transition { track: track(), service: track().to_string() };
    world.memory().replacing.begin("web", transition);
    world.memory().replacing.resume_turn("00c0ffee");
    assert!(!look().await.is_tag_moved(world, &track()), "its own hand");
    world.memory().tags.set(&track(), Some(image(2)));
    world.memory().replacing.end("web");
    world.memory().replacing.leave_turn("00c0ffee");
    assert!(!before.is_tag_moved(world, &track()), "seen before it");
    before.accept_tag(world, &track());
    assert!(!look().await.is_tag_moved(world, &track()), "and not taken back");
    pull(3);
    assert!(look().await.is_tag_moved(world, &track()), "somebody's hand");
}
