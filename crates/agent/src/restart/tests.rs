//! Acts and short replacements on a simulated engine, with a real store and real journals.

use std::sync::Arc;

use deployer_core::availability::{Instance, Report};
use deployer_core::record::{Opinion, Record, Source};
use deployer_core::store::Txn;
use deployer_engine::{EngineError, Hand as _};
use deployer_simulated::engine::{Move, Spec};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::stage::SWEEP_EVERY;
use super::*;
use crate::fixture::{Fixture, digest, fixture, id, image, replacement, track};
use crate::journal::Late;
use crate::ledger;

mod broken;
mod coming_late;
mod gates;
mod hostile;
mod mended;
mod sharing;
mod unshown;

fn refused() -> EngineError {
    EngineError::Refused { what: "do it".into(), status: 500, message: "no".into() }
}

/// A replacement on its way back, from as far as the candidate's start.
fn returning() -> Replacement {
    let failure = Some(Failure::Candidate("exited".into()));
    let candidate = Some(id(2));
    Replacement { phase: Phase::Returning, reached: Phase::Started, failure, candidate, ..replacement() }
}

#[tokio::test(start_paused = true)]
async fn the_way_back_ends_though_somebody_removed_both_containers() {
    let fixture = fixture().await;
    let by_hand = Some(Failure::ByHand("removed by somebody".into()));
    let shutdown = CancellationToken::new();
    let site = fixture.site();
    let way_back = carry_through(&site, Replacement { failure: by_hand, ..returning() }.into(), &shutdown);
    tokio::time::timeout(Duration::from_secs(60), way_back).await.expect("it ends");
    assert_eq!(fixture.world.journals.all().expect("read"), []);
}

/// Until the old one runs, nothing serves: it is started again and again, without the slot that others wait for. A
/// shutdown does not wait for that; the journal stays, and the next start goes on.
#[tokio::test(start_paused = true)]
async fn an_old_one_that_does_not_start_is_owed_and_holds_up_neither_others_nor_a_shutdown() {
    let fixture = fixture().await;
    fixture.run_and_stop("web.old-00c0ffee");
    fixture.engine.refuse("start", refused());
    let starts = || fixture.engine.calls_of("start");
    let shutdown = CancellationToken::new();
    let (_sender, containers) = mpsc::channel(9);
    let restart =
        Restart { world: Arc::clone(&fixture.world), hand: fixture.hand(), containers, left: vec![returning().into()] };
    let mut stage = Box::pin(restart.run(shutdown.clone()));
    let an_hour = Duration::from_secs(3600);
    assert!(tokio::time::timeout(an_hour, &mut stage).await.is_err(), "the stage goes on");
    let tried = starts();
    let phases = || fixture.world.journals.all().expect("read").iter().map(|journal| journal.phase).collect::<Vec<_>>();
    assert_eq!(phases(), [Phase::Returned], "the slot is given back, and the journal open");
    assert!(tokio::time::timeout(an_hour, &mut stage).await.is_err(), "the stage goes on");
    assert!(starts() > tried, "it goes on trying");
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(120), stage).await.expect("it ends");
    assert_eq!(phases().len(), 1, "the next start goes on");
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_leaves_no_slot_taken() {
    let fixture = fixture().await;
    fixture.run("web");
    let world = &fixture.world;
    let mut replacement = replacement();
    let shutdown = CancellationToken::new();
    let event = acts::carry_out(&fixture.site(), &mut replacement, Act::Claim, &shutdown).await.expect("claimed");
    replacement.apply(event).expect("claimed");
    std::fs::remove_dir_all(fixture.folder.path().join("replacements")).expect("removed");
    carry_through(&fixture.site(), replacement.into(), &shutdown).await;
    let (claims, _) = world.store.list(&world.keys.locks()).await.expect("listed");
    assert!(claims.is_empty(), "{claims:?}");
}

/// All behind its ticket would have waited for nobody.
#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_leaves_no_place_in_line() {
    let fixture = fixture().await;
    let world = &fixture.world;
    let replacement = replacement();
    let key = world.keys.ticket("cluster", "0", "a", "web");
    world.memory().tickets.draw("web", &key);
    world.store.txn(Txn::new().put(key, &"a ticket")).await.expect("stored");
    std::fs::remove_dir_all(fixture.folder.path().join("replacements")).expect("removed");
    carry_through(&fixture.site(), replacement.into(), &CancellationToken::new()).await;
    assert!(world.store.list(&world.keys.locks()).await.expect("listed").0.is_empty());
}

/// One was owed, the next waited for its slot as the daemon was killed. Both went on at once, and the end of the one let a
/// third begin beside the other: two versions ran under one name.
#[tokio::test(start_paused = true)]
async fn of_several_journals_of_one_container_one_goes_on_at_a_time() {
    let fixture = stale().await;
    let mut owed = Replacement { txn: "00000001".into(), reached: Phase::Started, ..returning() };
    (owed.phase, owed.candidate, owed.has_no_way_back) = (Phase::Started, Some(id(1)), true);
    owed.facts.gate.stable_ms = 60_000;
    owed.facts.predecessor = "removed".into();
    let waiting = Replacement { phase: Phase::Returning, ..replacement() };
    let (sender, containers) = mpsc::channel(9);
    let left = vec![owed.into(), waiting.into()];
    let restart = Restart { world: Arc::clone(&fixture.world), hand: fixture.hand(), containers, left };
    let shutdown = CancellationToken::new();
    let mut stage = Box::pin(restart.run(shutdown.clone()));
    for _ in 0..5 {
        assert!(tokio::time::timeout(Duration::from_secs(5), &mut stage).await.is_err(), "the stage goes on");
        sender.send("web".to_owned()).await.expect("it listens");
    }
    let has_begun = || fixture.engine.calls_of("changes") > 0;
    assert!(!has_begun(), "what is owed is looked at first");
    assert!(tokio::time::timeout(Duration::from_secs(60), &mut stage).await.is_err(), "the stage goes on");
    assert!(has_begun(), "then the new version comes");
}

/// A container of the track that runs version 1, with version 2 recorded and on the machine.
async fn stale() -> Fixture {
    stale_with(|_| {}).await
}

/// The same, with a change of what the container was made with.
async fn stale_with(change: impl FnOnce(&mut Value)) -> Fixture {
    let fixture = fixture().await;
    fixture.engine.run_with(&Spec::new("web", &track()), |body| {
        body["Labels"] = json!({});
        change(body);
    });
    // Kept already: of the calls that set a tag, the first is the one that begins a replacement.
    fixture.engine.tag_by_hand(&image(1), "deployer.invalid/kept/web:1");
    fixture.push(2);
    fixture.bring(2);
    let world = &fixture.world;
    let record = Record::adopt(Some(&digest(1)), &digest(2), Source::Hook, 0);
    let service = track().to_string();
    let instance = Instance { node: "a".into(), image: track(), container: "web".into(), off: false };
    let txn = Txn::new().put(world.keys.record(&track()), &record);
    let txn = txn.put(world.keys.instance(&service, "a", "web"), &instance);
    world.store.txn(txn).await.expect("stored");
    fixture
}

/// Looks at the container until nothing more is tried.
async fn replace_until_left(site: &Site<'_>) {
    loop {
        replace(site, "web", &CancellationToken::new()).await.expect("decided");
        let due = site.memory().replacing.dues().next();
        let Some(due) = due else { return };
        tokio::time::sleep_until(due).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_refuses_before_the_beginning_halts_the_container() {
    let fixture = stale().await;
    fixture.engine.refuse("changes", refused());
    replace_until_left(&fixture.site()).await;
    assert_eq!(fixture.world.memory().troubles.all().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_answer_before_the_beginning_is_asked_for_again_after_a_pause() {
    let fixture = stale().await;
    let timeout = EngineError::Timeout { what: "list changes".into(), limit: Duration::ZERO };
    fixture.engine.refuse("changes", timeout);
    let (sender, containers) = mpsc::channel(9);
    sender.send("web".to_owned()).await.expect("a place");
    let restart = Restart { world: Arc::clone(&fixture.world), hand: fixture.hand(), containers, left: Vec::new() };
    let mut stage = Box::pin(restart.run(CancellationToken::new()));
    for (seconds, expected) in [(4, 1), (6, 2)] {
        assert!(tokio::time::timeout(Duration::from_secs(seconds), &mut stage).await.is_err(), "the stage goes on");
        let calls = fixture.engine.calls_of("changes");
        assert_eq!(calls, expected, "after {seconds} s more");
    }
}

#[tokio::test(start_paused = true)]
async fn the_fence_is_not_passed_over_what_a_person_did_meanwhile() {
    for (what, expected) in [
        (Some(Move::Remove), Some("the container was removed")),
        (Some(Move::Stop), Some("the container was stopped")),
        (Some(Move::Rename("blog".to_owned())), Some("the container is /blog now")),
        (None, None),
    ] {
        let fixture = fixture().await;
        let shutdown = CancellationToken::new();
        let mut replacement = replacement();
        fixture.run("web");
        acts::carry_out(&fixture.site(), &mut replacement, Act::Claim, &shutdown).await.expect("claimed");
        what.into_iter().for_each(|what| assert!(fixture.engine.does("web", &what)));
        let event = acts::carry_out(&fixture.site(), &mut replacement, Act::Fence, &shutdown).await.expect("decided");
        let event_expected = expected.map_or(Event::Done, |why| Event::Failed(Failure::Superseded(why.to_owned())));
        assert_eq!(event, event_expected);
    }
}

/// Calls so far that change something.
fn changes(fixture: &Fixture) -> u64 {
    const NAMES: [&str; 10] =
        ["pull", "tag", "untag", "create", "connect", "start", "stop", "rename", "update", "remove"];
    NAMES.into_iter().map(|name| fixture.engine.calls_of(name)).sum()
}

#[tokio::test(start_paused = true)]
async fn only_a_policy_that_may_have_been_taken_is_given_back() {
    for (reached, calls) in [(Phase::Claimed, 0), (Phase::Tagged, 0), (Phase::Created, 1), (Phase::Started, 1)] {
        let fixture = fixture().await;
        fixture.run("web");
        let mut replacement = Replacement { reached, ..returning() };
        let shutdown = CancellationToken::new();
        acts::carry_out(&fixture.site(), &mut replacement, Act::RearmPredecessor, &shutdown).await.expect("done");
        assert_eq!(changes(&fixture), calls, "{reached:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_tag_goes_back_only_from_the_candidates_image() {
    for (tagged, expected) in [(2, 1), (3, 0)] {
        let fixture = fixture().await;
        fixture.run("web");
        fixture.push(tagged);
        fixture.engine.pull_by_hand(&track(), None);
        let shutdown = CancellationToken::new();
        acts::carry_out(&fixture.site(), &mut returning(), Act::MoveTagBack, &shutdown).await.expect("done");
        let moves = fixture.engine.calls_of("tag");
        assert_eq!(moves, expected, "{tagged}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_found_again() {
    let fixture = fixture().await;
    fixture.run("web");
    let (mut replacement, shutdown) = (replacement(), CancellationToken::new());
    let mut claim = async || {
        replacement.token = None;
        let site = fixture.site();
        let claim = acts::carry_out(&site, &mut replacement, Act::Claim, &shutdown);
        let claimed = tokio::time::timeout(Duration::from_secs(60), claim).await;
        (claimed.map(|event| event.expect("claimed")), replacement.token.clone())
    };
    let (first, again) = (claim().await, claim().await);
    assert_eq!(first, again);
    assert_eq!(first.0, Ok(Event::Done));
}

#[tokio::test(start_paused = true)]
async fn a_container_made_anew_under_the_same_name_is_tried_again() {
    let fixture = stale().await;
    let world = &fixture.world;
    fixture.engine.refuse("changes", refused());
    replace_until_left(&fixture.site()).await;
    assert!(fixture.engine.does("web", &Move::MakeAnew));
    let survey = Survey::of(world).await.expect("seen");
    let view = TrackView::of(world, &survey, &track(), Answer::NotAsked).await.expect("read");
    let actions: Vec<Action> = view.decisions.iter().map(|decision| decision.row.action).collect();
    assert_eq!(actions, [Action::Replace]);
}

/// What was thought before, what is seen now, and what stands.
async fn check_verdict(known: Opinion, act: Act, expected: Opinion) {
    let fixture = fixture().await;
    // One that has ended by now would be put back, and nothing said of its digest.
    fixture.run_and_stop("web.old-00c0ffee");
    fixture.push(2);
    fixture.run("web");
    let (world, shutdown) = (&fixture.world, CancellationToken::new());
    ledger::write_verdict(world, "web", &digest(2), known, "seen by another node").await.expect("stored");
    let mut replacement = Replacement { control: Some(true), ..returning() };
    if act == Act::Approve {
        replacement.failure = None;
    }
    acts::carry_out(&fixture.site(), &mut replacement, act, &shutdown).await.expect("done");
    let (verdicts, _) = ledger::verdicts(world, "web").await.expect("read");
    let standing = verdicts.0.get(&digest(2)).map(|verdict| verdict.verdict);
    assert_eq!(standing, Some(expected), "{known:?} {act:?}");
}

/// Two first instances at once: `max_unavailable` of two or more.
#[tokio::test(start_paused = true)]
async fn a_bad_digest_never_turns_good_because_another_instance_passed_later() {
    check_verdict(Opinion::Bad, Act::Approve, Opinion::Bad).await;
    check_verdict(Opinion::Good, Act::Approve, Opinion::Good).await;
    check_verdict(Opinion::Good, Act::Condemn, Opinion::Good).await;
}

/// Makes a container of what the tag names here, which nobody starts. Gives back its ID.
async fn create(fixture: &Fixture, name: &str, labels: Value) -> String {
    let body = json!({"Image": track().familiar(), "Labels": labels, "HostConfig": {}});
    fixture.engine.create(name, &body).await.expect("created")
}

/// Daemons share an engine by the value of a label, and each knows its own journals alone.
#[tokio::test(start_paused = true)]
async fn a_sweep_leaves_what_another_daemon_has_just_created() {
    for (enable, expected) in [("true", 1), ("blue", 0), ("false", 0)] {
        let fixture = fixture().await;
        fixture.run("web");
        let labels = json!({"deployer.txn": "0badcafe", "deployer.replaces": id(1), "deployer.enable": enable});
        create(&fixture, "web.new-0badcafe", labels).await;
        owing::sweep(&fixture.site()).await;
        assert_eq!(fixture.engine.calls_of("remove"), expected, "{enable}");
        assert_eq!(fixture.engine.container_of("web.new-0badcafe").is_none(), expected == 1, "{enable}");
    }
}

/// It ran on under that name, was no instance, and no version ever came to it.
#[tokio::test(start_paused = true)]
async fn what_was_renamed_after_its_replacement_had_ended_gets_its_name_back() {
    for (name, state, has_another, is_in_doubt, expected) in [
        // By a daemon before this one, whose journal was closed by then.
        ("web.old-0badcafe", "running", false, true, true),
        ("web.old-0badcafe", "exited", false, true, false),
        ("web.old-0badcafe", "running", true, true, false),
        ("web.new-0badcafe", "running", false, true, false),
        // A person gave it that name.
        ("web.old-20260115", "running", false, false, false),
    ] {
        let fixture = fixture().await;
        if is_in_doubt {
            fixture.world.journals.note_late(Late::Rename, &id(1), 0).expect("noted");
        }
        fixture.run(name);
        if state == "exited" {
            fixture.engine.stop_by_hand(name);
        }
        if has_another {
            fixture.run("web");
        }
        let (sender, containers) = mpsc::channel(9);
        let world = Arc::clone(&fixture.world);
        let stage = Restart { world, hand: fixture.hand(), containers, left: Vec::new() };
        let within = tokio::time::timeout(SWEEP_EVERY, stage.run(CancellationToken::new()));
        assert!(within.await.is_err(), "the stage goes on");
        drop(sender);
        let has_been = fixture.engine.calls_of("rename") > 0;
        assert_eq!(has_been, expected, "{name} {state} {has_another}");
    }
}

/// An engine that was stopped between the gate and the end took the instance along, and with the slot the others were told that
/// it is up: the next one went down beside it.
#[tokio::test(start_paused = true)]
async fn a_slot_is_given_back_with_what_the_engine_says_of_the_instance_by_then() {
    let away = || EngineError::Timeout { what: "list".into(), limit: Duration::ZERO };
    for (phase, state, refused, expected) in [
        (Phase::Judged, "running", None, true),
        (Phase::Judged, "exited", None, false),
        (Phase::Judged, "running", Some(away()), false),
        (Phase::ReturnJudged, "running", None, true),
        (Phase::ReturnJudged, "exited", None, false),
        (Phase::ReturnJudged, "running", Some(away()), false),
    ] {
        let case = format!("{phase:?}, {state}, {refused:?}");
        let fixture = fixture().await;
        let (world, site) = (&fixture.world, fixture.site());
        fixture.run("web");
        let (mut replacement, shutdown) = (replacement(), CancellationToken::new());
        acts::carry_out(&site, &mut replacement, Act::Claim, &shutdown).await.expect("claimed");
        let key = world.keys.report("web", "a", "web");
        let said = Report {
            up: true,
            id: id(1),
            image_id: image(1),
            digest: None,
            state: String::new(),
            reason: String::new(),
        };
        crate::publish::note(world, &key, &said);

        replacement.phase = phase;
        fixture.engine.remove_by_hand("web");
        fixture.push(2);
        fixture.run("web");
        if state == "exited" {
            fixture.engine.stop_by_hand("web");
        }
        refused.into_iter().for_each(|error| fixture.engine.refuse("list containers", error));
        let released = acts::carry_out(&site, &mut replacement, Act::Release, &shutdown).await;
        assert_eq!(released.expect("released"), Event::Done, "{case}");
        let report = world.store.get(&key).await.expect("read").expect("it is told");
        let report: Report = serde_json::from_slice(&report.value).expect("a report");
        assert_eq!(report.up, expected, "{case}");
    }
}
