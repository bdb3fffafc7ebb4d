//! Findings of the coordination that one act or one look shows.

use std::time::Duration;

use deployer_core::queue::Ticket;
use deployer_core::slot::ClaimPhase;
use deployer_store::unopened::Unopened;
use serde_json::json;

use super::*;
use crate::fixture::A_CHECK;
use crate::journal::Journals;

/// Long enough for what is waited for, and shorter than the node's lease, which nobody keeps alive here.
const A_WHILE: Duration = Duration::from_secs(20);

async fn claims_within(fixture: &Fixture, replacement: &mut Replacement, time: Duration) -> bool {
    let (site, shutdown) = (fixture.site(), CancellationToken::new());
    let claim = acts::carry_out(&site, replacement, Act::Claim, &shutdown);
    tokio::time::timeout(time, claim).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn coordination_l3_a_slot_that_is_found_again_waits_for_the_other_replacement_of_the_machine() {
    let fixture = fixture().await;
    fixture.run("web");
    let (world, mut replacement) = (&fixture.world, replacement());
    let keys = &world.keys;
    let claim = slot::claim_of(world, &replacement, ClaimPhase::Acquired, 0);
    let txn = Txn::new().put(keys.claim("cluster", 0), &claim).put(keys.hold("cluster", 0), &replacement.txn);
    world.store.txn(txn).await.expect("stored");
    world.memory().replacing.resume_turn("0badcafe");
    assert!(!claims_within(&fixture, &mut replacement, A_WHILE / 4).await, "another one acts here");
    world.memory().replacing.leave_turn("0badcafe");
    assert!(claims_within(&fixture, &mut replacement, A_WHILE / 4).await);
    assert_eq!(world.memory().replacing.whose_turn(), Some(replacement.txn));
}

/// The line once had 512 places, and when it was full the one at its head could not go before one without a ticket, which
/// was down, had.
#[tokio::test(start_paused = true)]
async fn versions_b3_what_is_down_draws_a_ticket_whoever_waits() {
    const OTHERS: u64 = 600;
    for state in ["running", "exited"] {
        let fixture = fixture().await;
        fixture.run("web");
        if state == "exited" {
            fixture.engine.stop_by_hand("web");
        }
        let world = &fixture.world;
        world.memory().replacing.begin("web", Transition { track: track(), service: "web".to_owned() });
        let taken = json!({
            "node": "b", "boot": "2", "txn": "0badcafe", "image": track(), "digest": digest(2), "container": "api",
            "phase": "acquired", "at": 0,
        });
        let (claim, hold) = (world.keys.claim("cluster", 0), world.keys.hold("cluster", 0));
        world.store.txn(Txn::new().put(claim, &taken).put(hold, &"0badcafe")).await.expect("stored");
        for number in 0..OTHERS {
            let container = format!("web-{number}");
            let ticket = Ticket {
                node: "b".into(),
                container: container.clone(),
                image: track(),
                record: 0,
                is_down: false,
                is_blocked: false,
                runs: 1,
            };
            let txn = Txn::new().put(world.keys.ticket("cluster", &ticket.turn(0, number), "b", &container), &ticket);
            world.store.txn(txn).await.expect("stored");
        }
        assert!(!claims_within(&fixture, &mut replacement(), A_WHILE).await, "the slot is taken");
        let own = world.memory().tickets.last("web").expect("a ticket");
        let line = world.store.list(&world.keys.line("cluster")).await.expect("listed").0;
        let place = line.iter().position(|entry| entry.key == own).expect("it stands");
        assert_eq!(place == 0, state == "exited", "{place}: what is down goes first");
    }
}

/// Somebody builds under the same tag, once or for ever, between its move and the creation.
#[tokio::test(start_paused = true)]
async fn coordination_l4_a_candidate_of_another_image_is_made_again() {
    for (builds, expected) in [(0, 1), (1, 2), (9, 0)] {
        let fixture = fixture().await;
        let engine = &fixture.engine;
        fixture.run("web");
        [2, 3].into_iter().for_each(|number| fixture.push(number));
        fixture.bring(2);
        fixture.bring(3);
        engine.tag_by_hand(&image(2), &track().familiar());
        engine.hold("create");
        let (mut replacement, shutdown) =
            (Replacement { phase: Phase::Tagged, ..replacement() }, CancellationToken::new());
        let somebody = async {
            for number in 0.. {
                while !engine.is_waited_for("create") {
                    tokio::task::yield_now().await;
                }
                if number < builds {
                    engine.tag_by_hand(&image(3), &track().familiar());
                }
                engine.let_one_go("create");
                tokio::task::yield_now().await;
            }
        };
        let site = fixture.site();
        let event = tokio::select! {
            biased;
            event = acts::carry_out(&site, &mut replacement, Act::Create, &shutdown) => event.expect("decided"),
            () = somebody => unreachable!("it goes on for ever"),
        };
        assert_eq!(event == Event::Done, expected > 0, "{builds}: {event:?}");
        let created = engine.calls_of("create");
        assert!(expected == 0 || created == expected, "{builds}: {created}");
    }
}

#[tokio::test(start_paused = true)]
async fn coordination_l5_the_tag_goes_back_to_where_it_was_when_it_was_moved() {
    let fixture = fixture().await;
    fixture.push(2);
    fixture.bring(2);
    fixture.push(3);
    fixture.engine.pull_by_hand(&track(), None);
    let (mut replacement, shutdown) = (Replacement { phase: Phase::Fenced, ..replacement() }, CancellationToken::new());
    acts::carry_out(&fixture.site(), &mut replacement, Act::MoveTag, &shutdown).await.expect("done");
    assert_eq!(replacement.facts.tag_before.as_deref(), Some(&*image(3)), "not what was there hours ago");
}

#[tokio::test(start_paused = true)]
async fn coordination_l5_the_tag_stays_where_another_container_runs_its_image() {
    for (other, expected) in [("running", 0), ("exited", 1)] {
        let fixture = fixture().await;
        fixture.run("web");
        fixture.push(2);
        fixture.run_and_stop("web.new-00c0ffee");
        fixture.run("web-too");
        if other == "exited" {
            fixture.engine.stop_by_hand("web-too");
        }
        let shutdown = CancellationToken::new();
        let mut replacement = Replacement { reached: Phase::Started, ..returning() };
        acts::carry_out(&fixture.site(), &mut replacement, Act::MoveTagBack, &shutdown).await.expect("done");
        let moved = fixture.engine.calls_of("tag");
        assert_eq!(moved, expected, "{other}");
    }
}

/// Etcd is away, and the daemon ends: a container that merely waited has nothing to say.
#[tokio::test(start_paused = true)]
async fn coordination_l7_a_way_back_with_nothing_to_say_waits_for_no_store() {
    let fixture = fixture().await;
    let world = &fixture.world;
    let journals = Journals::open(fixture.folder.path()).expect("journals");
    let (settings, ambient) = (world.settings.clone(), Arc::clone(&world.ambient));
    let without_store = World::new(fixture.hand(), Arc::new(Unopened), settings, ambient, journals);
    let site = crate::site::Site::new(&without_store, fixture.engine.as_ref());
    let shutdown = CancellationToken::new();
    for (failure, expected) in [
        (Failure::Superseded("shutting down".into()), true),
        (Failure::ByHand("stopped".into()), true),
        (Failure::Candidate("exited".into()), false),
    ] {
        let failure = Some(failure);
        let mut replacement =
            Replacement { failure, control: Some(true), phase: Phase::PredecessorObserved, ..returning() };
        let outcome = acts::carry_out(&site, &mut replacement, Act::Condemn, &shutdown).await;
        assert_eq!(outcome.is_ok(), expected, "{:?}", replacement.failure);
    }
}

/// A network that both need is gone. The candidate was decided anew at once, each time with another stop of the old one, and
/// the old one counted as started.
#[tokio::test(start_paused = true)]
async fn coordination_m5_a_start_that_is_answered_404_says_nothing_of_a_container_that_is_there() {
    let missing = EngineError::NotFound { what: "start".into(), message: "network backend not found".into() };
    for is_there in [true, false] {
        let fixture = fixture().await;
        fixture.run_and_stop("web.old-00c0ffee");
        if is_there {
            create(&fixture, "web", json!({})).await;
        }
        fixture.engine.refuse("start", missing.clone());
        let mut replacement = Replacement { candidate: Some(id(2)), phase: Phase::Swapped, ..replacement() };
        let (site, shutdown) = (fixture.site(), CancellationToken::new());
        let event = acts::carry_out(&site, &mut replacement, Act::StartCandidate, &shutdown).await.expect("decided");
        assert_eq!(matches!(event, Event::Failed(Failure::Node(_))), is_there, "{event:?}");
        let outcome = acts::carry_out(&site, &mut returning(), Act::StartPredecessor, &shutdown).await;
        assert!(outcome.is_err(), "it is tried again: {outcome:?}");
    }
}

/// A slow disk: the engine says for minutes that the name is taken, and shows nothing under it.
#[tokio::test(start_paused = true)]
async fn coordination_m7_a_creation_that_the_engine_still_works_on_is_waited_for() {
    let fixture = fixture().await;
    let taken = EngineError::Conflict { what: "create".into(), message: "the name is taken".into() };
    fixture.push(2);
    fixture.engine.pull_by_hand(&track(), None);
    fixture.engine.refuse("create", taken.clone());
    let (mut replacement, shutdown) = (Replacement { phase: Phase::Tagged, ..replacement() }, CancellationToken::new());
    let site = fixture.site();
    let appears = async {
        tokio::time::sleep(Duration::from_secs(200)).await;
        fixture.engine.permit("create");
        create(&fixture, "web.new-00c0ffee", json!({})).await;
        fixture.engine.refuse("create", taken);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        event = acts::carry_out(&site, &mut replacement, Act::Create, &shutdown) => {
            assert_eq!(event.expect("decided"), Event::Done);
        }
        () = appears => {}
    }
    assert_eq!(replacement.candidate, Some(id(1)));
}

/// Its stop took long, and whoever could not wait for it removed the candidate and made another: both ran in the end.
#[tokio::test(start_paused = true)]
async fn a_container_made_anew_while_the_candidate_was_being_stopped_keeps_the_old_one_down() {
    for (is_there, expected) in [(false, 0), (true, 1)] {
        let fixture = fixture().await;
        ["web.old-00c0ffee", "web.new-00c0ffee"].into_iter().for_each(|name| fixture.run_and_stop(name));
        if !is_there {
            fixture.engine.remove_by_hand("web.new-00c0ffee");
        }
        fixture.run("web");
        let mut replacement = Replacement {
            candidate: Some(id(2)),
            failure: Some(Failure::Candidate("unhealthy".into())),
            reached: Phase::Started,
            phase: Phase::PolicyBack,
            ..returning()
        };
        let shutdown = CancellationToken::new();
        acts::carry_out(&fixture.site(), &mut replacement, Act::StartPredecessor, &shutdown).await.expect("done");
        let starts = fixture.engine.calls_of("start");
        assert_eq!((starts, replacement.was_ended_by_hand()), (expected, expected == 0));
    }
}

async fn act(fixture: &Fixture, replacement: &mut Replacement, act: Act) {
    let event = acts::carry_out(&fixture.site(), replacement, act, &CancellationToken::new()).await.expect("done");
    assert_eq!(event, Event::Done, "{act:?}");
}

/// The restart policy of the fixture's first container, which a replacement has set to `no` before.
async fn policy(fixture: &Fixture) -> String {
    let old = fixture.world.engine.container(&id(1)).await.expect("it is there");
    acts::text(&old, "/HostConfig/RestartPolicy/Name")
}

/// A replacement on its way back after this, whose old container always runs, and is disarmed.
async fn disarmed(fixture: &Fixture, name: &str, failure: Failure) -> Replacement {
    fixture.run_and_stop(name);
    fixture.site().hand.set_restart_policy(&id(1), &json!({"Name": "no"})).await.expect("set");
    let mut replacement = Replacement { candidate: Some(id(9)), failure: Some(failure), ..returning() };
    replacement.facts.restart_policy = json!({"Name": "always", "MaximumRetryCount": 0});
    replacement
}

/// The old one got its policy back, and went at the end only if it did not run: the machine rebooted in between, and from then
/// on it ran beside the new one under its strange name. Whoever is tired of waiting for the failed candidate's stop makes
/// another one, too.
#[tokio::test(start_paused = true)]
async fn what_another_container_has_taken_the_place_of_is_not_started_by_a_reboot() {
    let failures = [Failure::ByHand("removed by somebody".into()), Failure::Candidate("unhealthy".into())];
    for (failure, then, expected) in failures.into_iter().flat_map(|failure| {
        let ends = [("nothing", None), ("the other is removed", Some("exited")), ("it is started", Some("running"))];
        ends.map(|(then, expected)| (failure.clone(), then, expected))
    }) {
        let fixture = fixture().await;
        let mut replacement = disarmed(&fixture, "web.old-00c0ffee", failure).await;
        fixture.run("web");
        act(&fixture, &mut replacement, Act::RearmPredecessor).await;
        assert_eq!(policy(&fixture).await, "no", "{then}");
        let other_is_removed = then == "the other is removed";
        match then {
            "the other is removed" => fixture.engine.remove_by_hand("web"),
            "it is started" => assert!(fixture.engine.does("web.old-00c0ffee", &Move::Start)),
            _ => {}
        }
        act(&fixture, &mut replacement, Act::RemoveCandidate).await;
        let old = fixture.engine.container_of(if other_is_removed { "web" } else { "web.old-00c0ffee" });
        assert_eq!(old.map(|(_, _, state)| state), expected, "{then}");
        if expected.is_some() {
            assert_eq!(policy(&fixture).await, "always", "{then}: it is its owner's again");
        }
    }
}

/// The store was away, and the replacement at its end: what a person set then was set back.
#[tokio::test(start_paused = true)]
async fn a_policy_that_a_person_changes_after_the_way_back_stays() {
    let fixture = fixture().await;
    let mut replacement = disarmed(&fixture, "web", Failure::ByHand("stopped by somebody".into())).await;
    act(&fixture, &mut replacement, Act::RearmPredecessor).await;
    assert_eq!(policy(&fixture).await, "always");
    fixture.site().hand.set_restart_policy(&id(1), &json!({"Name": "no"})).await.expect("set by somebody");
    act(&fixture, &mut replacement, Act::RemoveCandidate).await;
    assert_eq!(policy(&fixture).await, "no");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_a_person_gives_after_the_way_back_stays() {
    let fixture = fixture().await;
    let mut replacement = disarmed(&fixture, "web", Failure::Candidate("unhealthy".into())).await;
    act(&fixture, &mut replacement, Act::SwapNamesBack).await;
    assert!(fixture.engine.does("web", &Move::Rename("legacy".to_owned())));
    act(&fixture, &mut replacement, Act::RemoveCandidate).await;
    assert_eq!(fixture.engine.container_of("legacy").map(|(_, _, state)| state), Some("exited"));
}

/// The store was away when it passed, and for so long that it had ended when the verdict could be written.
#[tokio::test(start_paused = true)]
async fn a_candidate_that_ended_before_its_verdict_was_written_is_put_back() {
    let own = Event::Failed(Failure::Candidate("ended after it had passed the gate".to_owned()));
    // Another daemon saw it pass: its engine may have ended it since.
    let unheard = Event::Failed(Failure::Interrupted("the new container ended unheard".to_owned()));
    let cases = [("running", true, Event::Done), ("exited", true, own.clone()), ("restarting", true, own)];
    for (state, was_seen_to_pass, expected) in cases.into_iter().chain([("exited", false, unheard)]) {
        let fixture = fixture().await;
        fixture.run_and_stop("web.old-00c0ffee");
        fixture.push(2);
        match state {
            "exited" => fixture.run_and_end("web"),
            _ => fixture.run("web"),
        }
        if state == "restarting" {
            fixture.crash_loop("web");
            // By now its engine tries ever more rarely: between two looks it stays as it is.
            tokio::time::sleep(Duration::from_secs(30)).await;
        }
        if was_seen_to_pass {
            let candidate = fixture.world.engine.container(&id(2)).await.expect("it is there");
            fixture.world.memory().settled.note(&id(2), &acts::text(&candidate, "/State/StartedAt"));
        }
        let mut replacement = Replacement { candidate: Some(id(2)), phase: Phase::Observed, ..replacement() };
        let shutdown = CancellationToken::new();
        let event = acts::carry_out(&fixture.site(), &mut replacement, Act::Approve, &shutdown).await.expect("done");
        assert_eq!(event, expected, "{state}");
    }
}

/// An engine that goes down has asked its containers to end first: one that does not pass at that moment is looked at again.
#[tokio::test(start_paused = true)]
async fn a_candidate_that_seems_to_live_and_does_not_pass_gets_a_second_look() {
    for (later, expected) in [("healthy", true), ("unhealthy", false)] {
        let fixture = fixture().await;
        fixture.engine.run_as(&Spec { has_check: true, ..Spec::new("web", &track()) });
        tokio::time::sleep(A_CHECK).await;
        let recovers_after = (later == "healthy").then_some(Duration::from_millis(500));
        assert!(fixture.engine.falls_ill("web", recovers_after));
        let mut replacement = Replacement { candidate: Some(id(1)), phase: Phase::Started, ..replacement() };
        let (site, shutdown) = (fixture.site(), CancellationToken::new());
        let event = acts::carry_out(&site, &mut replacement, Act::ObserveCandidate, &shutdown).await;
        assert_eq!(event.expect("decided") == Event::Done, expected, "{later}");
    }
}
