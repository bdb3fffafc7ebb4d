//! Acts and short replacements against a stand-in for the engine, with a real store and real journals.

use deployer_core::availability::Instance;
use deployer_core::record::{Record, Source};
use deployer_core::store::Txn;
use serde_json::json;

use super::*;
use crate::engine::{EngineError, ImageSummary};
use crate::stand_in::{Fixture, container, digest, fixture, replacement, track};

mod hostile;

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
    let shutdown = CancellationToken::new();
    let way_back = carry_through(&fixture.world, returning(), &shutdown);
    tokio::time::timeout(Duration::from_secs(60), way_back).await.expect("it ends");
    assert_eq!(fixture.world.journals.all().expect("read"), []);
}

/// Until the old one runs, nothing serves: it is tried for ever. A shutdown does not wait for that; the journal stays,
/// and the next start goes on.
#[tokio::test(start_paused = true)]
async fn the_old_ones_start_is_never_given_up_and_holds_up_no_shutdown() {
    let fixture = fixture().await;
    {
        let mut state = fixture.engine.state();
        state.containers = vec![container("old", "web.old-00c0ffee", "exited")];
        state.refused.insert("start", refused());
    }
    let shutdown = CancellationToken::new();
    let mut way_back = Box::pin(carry_through(&fixture.world, returning(), &shutdown));
    let waited = tokio::time::timeout(Duration::from_secs(3600), &mut way_back).await;
    assert!(waited.is_err(), "it goes on trying");
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(60), way_back).await.expect("it ends");
    let calls = fixture.engine.state().calls.clone();
    assert!(calls.contains(&"rename old".to_owned()), "{calls:?}");
    let journals = fixture.world.journals.all().expect("read");
    assert_eq!(journals.iter().map(|journal| journal.phase).collect::<Vec<_>>(), [Phase::NamesBack]);
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
    let image = |id: &str, letter| ImageSummary {
        id: id.to_owned(),
        repo_tags: Vec::new(),
        repo_digests: vec![format!("registry.test/web@{}", digest(letter))],
    };
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

/// Looks at the container until nothing more is tried.
async fn replace_until_left(world: &World) {
    loop {
        replace(world, "web", &CancellationToken::new()).await.expect("decided");
        let due = world.memory().unready.get("web").map(|retry| retry.due);
        let Some(due) = due else { return };
        tokio::time::sleep_until(due).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_engine_refuses_before_the_beginning_halts_the_container() {
    let fixture = stale().await;
    fixture.engine.state().refused.insert("changes", refused());
    replace_until_left(&fixture.world).await;
    assert_eq!(fixture.world.memory().failed_here.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn no_answer_before_the_beginning_is_asked_for_again_after_a_pause() {
    let fixture = stale().await;
    let timeout = EngineError::Timeout { what: "list changes".into(), limit: Duration::ZERO };
    fixture.engine.state().refused.insert("changes", timeout);
    let (sender, containers) = mpsc::channel(9);
    sender.send("web".to_owned()).await.expect("a place");
    let restart = Restart { world: Arc::clone(&fixture.world), containers, left: Vec::new() };
    let mut stage = Box::pin(restart.run(CancellationToken::new()));
    for (seconds, expected) in [(4, 1), (6, 2)] {
        assert!(tokio::time::timeout(Duration::from_secs(seconds), &mut stage).await.is_err(), "the stage goes on");
        let calls = fixture.engine.state().calls.iter().filter(|call| call.starts_with("changes")).count();
        assert_eq!(calls, expected, "after {seconds} s more");
    }
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
        let repo_tags = vec!["registry.test/web:1".to_owned()];
        let image = ImageSummary { id: tagged.to_owned(), repo_tags, repo_digests: Vec::new() };
        fixture.engine.state().images = vec![image];
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
    replace_until_left(world).await;
    fixture.engine.state().containers = vec![container("remade", "web", "running")];
    let survey = Survey::take(world).await.expect("seen");
    let view = TrackView::of(world, &survey, &track(), Answer::NotAsked).await.expect("read");
    let actions: Vec<Action> = view.decisions.iter().map(|decision| decision.row.action).collect();
    assert_eq!(actions, [Action::Replace]);
}
