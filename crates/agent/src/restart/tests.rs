//! Acts and short replacements against a stand-in for the engine, with a real store and real journals.

use deployer_core::availability::Instance;
use deployer_core::record::{Opinion, Record, Source};
use deployer_core::replacement::Facts;
use deployer_core::store::Txn;
use deployer_engine::{EngineError, ImageSummary};
use serde_json::{Value, json};

use super::*;
use crate::ledger;
use crate::stand_in::{Fixture, container, digest, fixture, replacement, track};

fn refused() -> EngineError {
    EngineError::Refused { what: "do it".into(), status: 500, message: "no".into() }
}

/// A replacement on its way back, from as far as the candidate's start.
fn returning() -> Replacement {
    let failure = Some(Failure::Candidate("exited".into()));
    let candidate = Some("new".to_owned());
    Replacement { phase: Phase::Returning, reached: Phase::Started, failure, candidate, ..replacement() }
}

#[tokio::test(start_paused = true)]
async fn the_way_back_ends_though_somebody_removed_both_containers() {
    let fixture = fixture().await;
    let by_hand = Some(Failure::ByHand("removed by somebody".into()));
    let shutdown = CancellationToken::new();
    let way_back = carry_through(&fixture.world, Replacement { failure: by_hand, ..returning() }, &shutdown);
    tokio::time::timeout(Duration::from_secs(60), way_back).await.expect("it ends");
    assert_eq!(fixture.world.journals.all().expect("read"), []);
}

/// Until the old one runs, nothing serves: it is started again and again, without the slot that others wait for. A
/// shutdown does not wait for that; the journal stays, and the next start goes on.
#[tokio::test(start_paused = true)]
async fn an_old_one_that_does_not_start_is_owed_and_holds_up_neither_others_nor_a_shutdown() {
    let fixture = fixture().await;
    {
        let mut state = fixture.engine.state();
        state.containers = vec![container("old", "web.old-00c0ffee", "exited")];
        state.refused.insert("start", refused());
    }
    let starts = || fixture.engine.state().calls.iter().filter(|call| *call == "start old").count();
    let shutdown = CancellationToken::new();
    let (_sender, containers) = mpsc::channel(9);
    let restart = Restart { world: Arc::clone(&fixture.world), containers, left: vec![returning()] };
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
    fixture.engine.state().containers = vec![container("old", "web", "running")];
    let world = &fixture.world;
    let mut replacement = replacement();
    let shutdown = CancellationToken::new();
    let event = acts::carry_out(world, &mut replacement, Act::Claim, &shutdown).await.expect("claimed");
    replacement.apply(event).expect("claimed");
    std::fs::remove_dir_all(fixture.folder.path().join("replacements")).expect("removed");
    carry_through(world, replacement, &shutdown).await;
    let (claims, _) = world.store.list(&world.keys.locks()).await.expect("listed");
    assert!(claims.is_empty(), "{claims:?}");
}

/// A container of the track that runs version 1, with version 2 recorded and on the machine.
async fn stale() -> Fixture {
    let fixture = fixture().await;
    let image = |id: &str, letter| ImageSummary::named(id, [track().at(&digest(letter)).to_string().as_str()]);
    {
        let mut state = fixture.engine.state();
        state.containers = vec![container("old", "web", "running")];
        state.containers[0]["HostConfig"]["NetworkMode"] = json!("host");
        state.images = vec![image("sha256:old", '1'), image("sha256:new", '2')];
    }
    let world = &fixture.world;
    let record = Record::adopt(Some(&digest('1')), &digest('2'), Source::Hook, 0);
    let service = track().to_string();
    let instance = Instance { node: "a".into(), image: track(), container: "web".into(), off: false };
    let txn = Txn::new().put(world.keys.record(&track()), &record);
    let txn = txn.put(world.keys.instance(&service, "a", "web"), &instance);
    world.store.txn(txn).await.expect("stored");
    fixture
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_refuses_before_the_beginning_halts_the_container() {
    let fixture = stale().await;
    fixture.engine.state().refused.insert("changes", refused());
    replace(&fixture.world, "web", &CancellationToken::new()).await.expect("decided");
    assert_eq!(fixture.world.memory().failed_here.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_answer_before_the_beginning_is_asked_for_again_after_a_pause() {
    let fixture = stale().await;
    let timeout = EngineError::Timeout { what: "list changes".into(), limit: Duration::ZERO };
    fixture.engine.state().refused.insert("changes", timeout);
    let (sender, containers) = mpsc::channel(9);
    sender.send("web".to_owned()).await.expect("a place");
    let begun = tokio::time::Instant::now();
    let restart = Restart { world: Arc::clone(&fixture.world), containers, left: Vec::new() };
    tokio::select! {
        biased;
        () = restart.run(CancellationToken::new()) => {}
        () = fixture.world.bell.notified() => {}
    }
    assert!(begun.elapsed() >= RETRY);
}

#[tokio::test(start_paused = true)]
async fn the_fence_is_not_passed_over_what_a_person_did_meanwhile() {
    let stopped = container("old", "web", "exited");
    let renamed = container("old", "blog", "running");
    for (seen, expected) in [
        (vec![], Some("the container was removed")),
        (vec![stopped], Some("the container was stopped")),
        (vec![renamed], Some("the container is /blog now")),
        (vec![container("old", "web", "running")], None),
    ] {
        let fixture = fixture().await;
        let (world, shutdown) = (&fixture.world, CancellationToken::new());
        let mut replacement = replacement();
        fixture.engine.state().containers = vec![container("old", "web", "running")];
        acts::carry_out(world, &mut replacement, Act::Claim, &shutdown).await.expect("claimed");
        fixture.engine.state().containers = seen;
        let event = acts::carry_out(world, &mut replacement, Act::Fence, &shutdown).await.expect("decided");
        let event_expected = expected.map_or(Event::Done, |why| Event::Failed(Failure::Superseded(why.to_owned())));
        assert_eq!(event, event_expected);
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_policy_that_may_have_been_taken_is_given_back() {
    for (reached, calls) in [(Phase::Claimed, 0), (Phase::Tagged, 0), (Phase::Created, 1), (Phase::Started, 1)] {
        let fixture = fixture().await;
        fixture.engine.state().containers = vec![container("old", "web", "running")];
        let mut replacement = Replacement { reached, ..returning() };
        let shutdown = CancellationToken::new();
        acts::carry_out(&fixture.world, &mut replacement, Act::RearmPredecessor, &shutdown).await.expect("done");
        assert_eq!(fixture.engine.state().calls.len(), calls, "{reached:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_tag_goes_back_only_from_the_candidates_image() {
    for (tagged, expected) in [("sha256:new", 1), ("sha256:built-meanwhile", 0)] {
        let fixture = fixture().await;
        fixture.engine.state().containers = vec![container("old", "web", "running")];
        fixture.engine.state().images = vec![ImageSummary::named(tagged, ["registry.test/web:1"])];
        let shutdown = CancellationToken::new();
        acts::carry_out(&fixture.world, &mut returning(), Act::MoveTagBack, &shutdown).await.expect("done");
        assert_eq!(fixture.engine.state().calls.len(), expected, "{tagged}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_answer_was_lost_is_found_again() {
    let fixture = fixture().await;
    let (mut replacement, shutdown) = (replacement(), CancellationToken::new());
    let mut claim = async || {
        replacement.token = None;
        let claim = acts::carry_out(&fixture.world, &mut replacement, Act::Claim, &shutdown);
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
    fixture.engine.state().refused.insert("changes", refused());
    replace(world, "web", &CancellationToken::new()).await.expect("decided");
    fixture.engine.state().containers = vec![container("remade", "web", "running")];
    let survey = Survey::take(world).await.expect("seen");
    let view = TrackView::of(world, &survey, &track(), Answer::NotAsked).await.expect("read");
    let actions: Vec<Action> = view.decisions.iter().map(|decision| decision.row.action).collect();
    assert_eq!(actions, [Action::Replace]);
}

/// What a pushed image says is added up: `HEALTHCHECK --interval=2562047h --timeout=2562047h --retries=2147483647
/// --start-period=1s` once ended every daemon that ran the track.
#[tokio::test(start_paused = true)]
async fn security_1_a_healthcheck_beyond_all_measure_does_not_end_the_daemon() {
    let most = 9_223_369_200_000_000_000_u64;
    let check = json!({"Test": ["CMD", "true"], "Interval": most, "Timeout": most, "Retries": 2_147_483_647,
                       "StartPeriod": 1_000_000_000});
    let (_fixture, facts) = prefetched(|container| container["Config"]["Healthcheck"] = check).await;
    let facts = facts.expect("found");
    assert_eq!(facts.gate.timeout_ms, 3_600_000, "an hour at most");
}

/// What prefetch makes of the container with a change of its inspection.
async fn prefetched(change: impl FnOnce(&mut Value)) -> (Fixture, Result<Facts, String>) {
    let fixture = stale().await;
    change(&mut fixture.engine.state().containers[0]);
    let world = &fixture.world;
    let survey = Survey::take(world).await.expect("seen");
    let view = TrackView::of(world, &survey, &track(), Answer::NotAsked).await.expect("read");
    let supervisors = Supervisors::default();
    let facts = prefetch::prefetch(world, &survey, &supervisors, &view, &view.decisions[0]).await;
    (fixture, facts.map_err(|error| error.to_string()))
}

#[tokio::test(start_paused = true)]
async fn security_7_a_container_that_may_take_longer_than_an_hour_to_stop_is_left_alone() {
    for (seconds, labelled, expected) in [
        (json!(null), None, Ok(10_000)),
        (json!(3600), None, Ok(3_600_000)),
        (json!(3601), None, Err("to stop (--stop-timeout 3601)")),
        (json!(i64::MAX), None, Err("to stop (--stop-timeout 9223372036854775807)")),
        (json!(-1), None, Err("to stop (--stop-timeout -1)")),
        (json!(-1), Some("1h"), Ok(3_600_000)),
        (json!(86400), Some("90s"), Ok(90_000)),
    ] {
        let (_fixture, facts) = prefetched(|container| {
            container["Config"]["StopTimeout"] = seconds.clone();
            if let Some(label) = labelled {
                container["Config"]["Labels"] = json!({"deployer.stop.timeout": label});
            }
        })
        .await;
        match (facts.map(|facts| facts.grace_ms), expected) {
            (Ok(grace), Ok(expected)) => assert_eq!(grace, expected, "{seconds}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{seconds}: {error}"),
            (outcome, _) => panic!("{seconds}: {outcome:?}"),
        }
    }
}

/// The limit is the gate's, and a person is told that it is not the image's.
#[tokio::test(start_paused = true)]
async fn security_7_a_healthcheck_beyond_an_hour_is_cut_with_a_note() {
    for (interval_seconds, expected) in [(1_u64, false), (899, false), (901, true)] {
        let fixture = stale().await;
        let mut told = fixture.world.account.follow();
        let check =
            json!({"Test": ["CMD", "true"], "Interval": interval_seconds * 1_000_000_000, "Timeout": 1, "Retries": 3});
        fixture.engine.state().containers[0]["Config"]["Healthcheck"] = check;
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        replace(&fixture.world, "web", &shutdown).await.expect("decided");
        let notes: Vec<String> = std::iter::from_fn(|| told.try_recv().ok()).map(|line| line.text).collect();
        let note = notes.iter().find(|text| text.contains("HEALTHCHECK"));
        assert_eq!(note.is_some(), expected, "{notes:?}");
    }
}

/// Hands the container to the stage, and lets an hour go by.
async fn an_hour_of_the_stage(fixture: &Fixture, left: Vec<Replacement>) {
    let (sender, containers) = mpsc::channel(9);
    if left.is_empty() {
        sender.send("web".to_owned()).await.expect("a place");
    }
    let restart = Restart { world: Arc::clone(&fixture.world), containers, left };
    let outcome = tokio::time::timeout(Duration::from_secs(3600), restart.run(CancellationToken::new())).await;
    assert!(outcome.is_err(), "the stage goes on");
}

#[tokio::test(start_paused = true)]
async fn security_1_a_panic_before_a_replacement_is_trouble_of_this_node() {
    let fixture = stale().await;
    fixture.engine.state().panics = vec!["changes"];
    an_hour_of_the_stage(&fixture, Vec::new()).await;
    let failed = fixture.world.memory().failed_here.values().cloned().collect::<Vec<_>>();
    assert!(matches!(&failed[..], [Trouble::Failed(reason)] if reason.contains("a fault of our own")), "{failed:?}");
}

/// The old one serves again, the slot is free, and nothing is tried again by itself.
#[tokio::test(start_paused = true)]
async fn security_1_a_panic_in_an_act_leads_back() {
    for panics in ["tag sha256:new", "create "] {
        let fixture = stale().await;
        fixture.engine.state().panics = vec![panics];
        an_hour_of_the_stage(&fixture, Vec::new()).await;
        let world = &fixture.world;
        let calls = fixture.engine.state().calls.iter().filter(|call| call.starts_with(panics)).count();
        assert!((1..10).contains(&calls), "{panics}: {calls}");
        assert_eq!(world.journals.all().expect("read"), [], "{panics}");
        assert_eq!(world.store.list(&world.keys.locks()).await.expect("listed").0, [], "{panics}");
        assert_eq!(world.memory().failed_here.len(), 1, "{panics}");
    }
}

/// What cannot be brought to its end keeps its journal for the next start, is shown, and takes no processor time.
#[tokio::test(start_paused = true)]
async fn security_1_a_panic_on_the_way_back_keeps_the_journal() {
    let fixture = fixture().await;
    {
        let mut state = fixture.engine.state();
        state.containers = vec![container("old", "web.old-00c0ffee", "exited")];
        state.panics = vec!["start old"];
    }
    an_hour_of_the_stage(&fixture, vec![returning()]).await;
    let world = &fixture.world;
    let phases: Vec<Phase> = world.journals.all().expect("read").iter().map(|journal| journal.phase).collect();
    assert_eq!(phases, [Phase::PolicyBack]);
    let calls = fixture.engine.state().calls.iter().filter(|call| *call == "start old").count();
    assert!((2..30).contains(&calls), "{calls} tries in an hour");
    let doing = world.memory().replacing.get("web").cloned().unwrap_or_default();
    assert!(doing.starts_with("stuck: ") && doing.contains("a fault of our own"), "{doing}");
}

/// What was thought before, what is seen now, and what stands.
async fn check_verdict(known: Opinion, act: Act, expected: Opinion) {
    let fixture = fixture().await;
    fixture.engine.state().containers = vec![container("old", "web", "running")];
    let (world, shutdown) = (&fixture.world, CancellationToken::new());
    ledger::write_verdict(world, "web", &digest('2'), known, "seen by another node").await.expect("stored");
    let mut replacement = Replacement { control: Some(true), ..returning() };
    if act == Act::Approve {
        replacement.failure = None;
    }
    acts::carry_out(world, &mut replacement, act, &shutdown).await.expect("done");
    let (verdicts, _) = ledger::verdicts(world, "web").await.expect("read");
    let standing = verdicts.0.get(&digest('2')).map(|verdict| verdict.verdict);
    assert_eq!(standing, Some(expected), "{known:?} {act:?}");
}

/// Two first instances at once: `max_unavailable` of two or more.
#[tokio::test(start_paused = true)]
async fn a_bad_digest_never_turns_good_because_another_instance_passed_later() {
    check_verdict(Opinion::Bad, Act::Approve, Opinion::Bad).await;
    check_verdict(Opinion::Good, Act::Approve, Opinion::Good).await;
    check_verdict(Opinion::Good, Act::Condemn, Opinion::Good).await;
}
