//! A gate, while its engine does not answer or is not heard.

use deployer_core::gate::Gate;
use deployer_core::replacement::ANEW_MAX;
use deployer_simulated::engine::Move;
use deployer_simulated::registry::Behaviour;

use tokio::task::JoinSet;

use super::*;
use crate::fixture::unheard;

/// Longer than a second look at what does not pass takes, and shorter than a HEALTHCHECK takes to fail.
const A_WHILE: Duration = Duration::from_secs(3);

/// It was condemned for a HEALTHCHECK that its engine did not run meanwhile.
#[tokio::test(start_paused = true)]
async fn a_gate_is_not_missed_while_the_engine_does_not_answer() {
    let fixture = fixture().await;
    fixture.registry.mend(&digest(1), Behaviour::Sickens);
    fixture.engine.run_as(&Spec { has_check: true, ..Spec::new("web", &track()) });
    let mut facts = replacement().facts;
    let patience = Duration::from_secs(10);
    facts.gate.timeout_ms = 10_000;
    let away = EngineError::Timeout { what: "ask the engine".into(), limit: patience };
    ["inspect container", "info"].iter().for_each(|what| fixture.engine.refuse(what, away.clone()));
    let (candidate, shutdown) = (id(1), CancellationToken::new());
    let gate = Gate::new(facts.gate.clone());
    let mut watched = Box::pin(observe::watch(&fixture.world, &facts, &candidate, gate, &shutdown));
    assert!(tokio::time::timeout(patience * 10, &mut watched).await.is_err(), "the engine is waited for");
    // Its checks begin anew.
    assert!(fixture.engine.does("web", &Move::Restart));
    ["inspect container", "info"].iter().for_each(|what| fixture.engine.permit(what));
    assert!(tokio::time::timeout(A_WHILE, &mut watched).await.is_err(), "its time has only begun");
    fixture.engine.passes_its_check("web");
    assert_eq!(watched.await, observe::Watched::Passed);
}

/// At its gate it was waited for without end, with the slot held and the old one stopped.
#[tokio::test(start_paused = true)]
async fn a_candidate_that_the_engine_does_not_show_is_not_watched_for_ever() {
    let limit = Duration::from_secs(10);
    for error in [refused(), EngineError::Timeout { what: "inspect container".into(), limit }] {
        let fixture = fixture().await;
        fixture.run("web");
        fixture.engine.refuse("inspect container", error);
        let (facts, id, shutdown) = (replacement().facts, id(1), CancellationToken::new());
        let watched = observe::watch(&fixture.world, &facts, &id, Gate::new(facts.gate.clone()), &shutdown);
        let watched = tokio::time::timeout(Duration::from_secs(100), watched).await.expect("it ends");
        assert!(matches!(watched, observe::Watched::Unshown(_)), "{watched:?}");
    }
}

/// The service manager killed it ten minutes later.
#[tokio::test(start_paused = true)]
async fn a_gate_that_may_have_no_end_keeps_no_daemon_from_ending() {
    for is_paused in [true, false] {
        let fixture = fixture().await;
        fixture.engine.run_as(&Spec::new("web", &track()));
        if is_paused {
            assert!(fixture.engine.does("web", &Move::Pause));
        } else {
            ["inspect container", "info"].iter().for_each(|what| fixture.engine.refuse(what, refused()));
        }
        let left = Replacement { phase: Phase::Started, candidate: Some(id(1)), ..replacement() };
        fixture.world.journals.write(&left).expect("written");
        let (site, shutdown) = (fixture.site(), CancellationToken::new());
        let mut watching = Box::pin(carry_through(&site, left.into(), &shutdown));
        assert!(tokio::time::timeout(Duration::from_secs(600), &mut watching).await.is_err(), "it is waited for");
        shutdown.cancel();
        tokio::time::timeout(Duration::from_secs(120), watching).await.expect("it ends");
        assert_eq!(fixture.world.journals.all().expect("read").len(), 1, "the next start goes on");
    }
}

/// The engine had started it and ended it again before it was heard: the version was condemned for an end of the engine's.
#[tokio::test(start_paused = true)]
async fn a_process_that_ended_before_the_engine_was_heard_has_not_failed_for_certain() {
    for (is_heard, lives_first) in [(true, false), (false, false), (false, true)] {
        let fixture = unheard().await;
        let world = &fixture.world;
        if lives_first {
            fixture.engine.run_as(&Spec { policy: "no", ..Spec::new("web", &track()) });
        } else {
            fixture.run_and_end("web");
        }
        let candidate = id(1);
        let mut facts = replacement().facts;
        (facts.gate.timeout_ms, facts.gate.stable_ms) = (60_000, 60_000);
        if is_heard {
            world.engine_mirror.refresh().await.expect("the engine answers");
        }
        let (gate, shutdown) = (Gate::new(facts.gate.clone()), CancellationToken::new());
        let mut watched = Box::pin(observe::watch(world, &facts, &candidate, gate, &shutdown));
        assert!(is_heard || tokio::time::timeout(Duration::from_secs(5), &mut watched).await.is_err(), "not heard yet");
        world.engine_mirror.refresh().await.expect("the engine answers");
        if lives_first {
            assert!(tokio::time::timeout(Duration::from_secs(5), &mut watched).await.is_err(), "its window is open");
            assert!(fixture.engine.dies("web"));
        }
        let has_failed = matches!(watched.await, observe::Watched::Failed(_));
        assert_eq!(has_failed, is_heard || lives_first, "heard: {is_heard}");
    }
}

/// One that could not be started was started again and again, and its slot was taken for given back in the end.
#[tokio::test(start_paused = true)]
async fn only_what_has_passed_is_started_again_before_its_slot_is_given_back() {
    let failed = Some(Failure::Node("no such file".to_owned()));
    let refusal =
        || EngineError::Refused { what: "inspect container new".into(), status: 500, message: "broken".into() };
    for (failure, anew, refused, is_given_back) in [
        (None, 0, None, false),
        (None, ANEW_MAX, None, true),
        (None, 0, Some(refusal()), true),
        (failed, 0, None, true),
    ] {
        let case = format!("{failure:?}, anew {anew} times, {refused:?}");
        let fixture = fixture().await;
        let (site, shutdown) = (fixture.site(), CancellationToken::new());
        fixture.run("web");
        let mut replacement = replacement();
        acts::carry_out(&site, &mut replacement, Act::Claim, &shutdown).await.expect("claimed");

        fixture.run_and_end("candidate");
        refused.into_iter().for_each(|error| fixture.engine.refuse("inspect container", error));
        let candidate = Some(id(2));
        let mut replacement = Replacement { phase: Phase::Judged, candidate, failure, anew, ..replacement };
        let event = acts::carry_out(&site, &mut replacement, Act::Release, &shutdown).await.expect("answered");
        assert_eq!(event == Event::Done, is_given_back, "{case}");
        let claim = fixture.world.store.get(&fixture.world.keys.claim("cluster", 0)).await.expect("read");
        assert_eq!(claim.is_none(), is_given_back, "{case}");
        assert!(event == Event::Done || replacement.apply(event).is_ok(), "{case}");
    }
}

/// Since when its process had lived nobody knew, as after a restart of the daemon; the stop was heard all the same.
#[tokio::test(start_paused = true)]
async fn what_a_person_stopped_before_its_slot_was_given_back_is_not_started_again() {
    let fixture = unheard().await;
    let (world, site, shutdown) = (&fixture.world, fixture.site(), CancellationToken::new());
    let mut following = JoinSet::new();
    following.spawn(Arc::clone(&world.engine_mirror).run(Arc::clone(&world.ambient)));
    fixture.run("web");
    let mut replacement = replacement();
    acts::carry_out(&site, &mut replacement, Act::Claim, &shutdown).await.expect("claimed");
    fixture.run("candidate");
    world.engine_mirror.current().await.expect("it is heard");
    fixture.engine.stop_by_hand("candidate");
    let mut replacement = Replacement { phase: Phase::Judged, candidate: Some(id(2)), ..replacement };
    let event = acts::carry_out(&site, &mut replacement, Act::Release, &shutdown).await.expect("answered");
    assert_eq!(event, Event::Done);
}

/// PB04 on Engine 26: its policy allowed it two starts more, it lived for a moment in each, and in one of these nothing was owed
/// any more. When the policy was exhausted it stayed down, and a retry found nothing to do.
#[tokio::test(start_paused = true)]
async fn what_did_not_pass_is_owed_until_it_has_lived_on_for_a_while() {
    for (control, stays, lives, expected) in [
        (Some(false), false, Some(9), true),
        (Some(false), false, Some(11), false),
        (Some(false), false, None, false),
        (Some(true), false, Some(9), false),
        // A candidate that failed, and is all that is left; what went back before it had passed.
        (Some(true), true, Some(9), true),
        (Some(true), true, Some(11), false),
    ] {
        let fixture = fixture().await;
        fixture.engine.run_as(&Spec { policy: "no", ..Spec::new("web", &track()) });
        let mut returned = Replacement { phase: Phase::Returned, control, ..returning() };
        if stays {
            (returned.phase, returned.has_no_way_back, returned.candidate) = (Phase::Done, true, Some(id(1)));
        }
        let (world, shutdown) = (&fixture.world, CancellationToken::new());
        let dies = async {
            if let Some(seconds) = lives {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                assert!(fixture.engine.dies("web"), "it runs");
            }
        };
        let (is_owed, ()) = tokio::join!(owing::is_left_owing(world, &returned, &shutdown), dies);
        assert_eq!(is_owed, expected, "{control:?} {stays} {lives:?}");
        assert_eq!(world.memory().owed.has("web"), expected);
    }
}

/// A shutdown does not wait for that: the journal stays open, and the daemon after this one looks.
#[tokio::test(start_paused = true)]
async fn whether_it_lives_on_keeps_no_daemon_from_ending() {
    let fixture = fixture().await;
    fixture.run("web");
    let returned = Replacement { phase: Phase::Returned, control: Some(false), ..returning() };
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let begun = tokio::time::Instant::now();
    assert!(owing::is_left_owing(&fixture.world, &returned, &shutdown).await);
    assert!(begun.elapsed() < Duration::from_secs(1));
}
