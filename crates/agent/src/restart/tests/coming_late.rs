//! What an engine carries out long after it was given up.

use std::time::Duration;

use deployer_simulated::engine::Fault;

use super::*;

/// It ran on beside its successor, under a predecessor's name: it was taken for a person's. What alone serves is left alone, and
/// so is what a person started, or paused.
#[tokio::test(start_paused = true)]
async fn what_an_engine_starts_long_after_it_was_asked_to_goes_when_its_successor_has_passed() {
    let refused = |what| EngineError::Refused { what, status: 500, message: "no".into() };
    // Late; by a daemon before this one; so many seconds ago; the new one runs; the old one is paused; the stop is refused.
    for (is_late, is_before, seconds, new_runs, is_paused, is_refused, goes) in [
        (true, false, 30, true, false, false, true),
        (true, true, 30, true, false, false, true),
        (false, false, 30, true, false, false, false),
        (true, false, 200, true, false, false, false),
        (true, true, 200, true, false, false, false),
        (true, false, 30, false, false, false, false),
        (true, false, 30, true, true, false, false),
        (true, false, 30, true, false, true, false),
    ] {
        let case = format!("{is_late} {is_before} {seconds} {new_runs} {is_paused} {is_refused}");
        let fixture = fixture().await;
        let (world, site, shutdown) = (&fixture.world, fixture.site(), CancellationToken::new());
        fixture.run("web.old-00c0ffee");
        if is_late && is_before {
            let since = world.ambient.now() - seconds;
            world.journals.note_late(Late::Start, &id(1), since).expect("noted");
            late::remember(world);
        } else if is_late {
            late::may_be_started(world, &id(1));
            tokio::time::sleep(Duration::from_secs(seconds.unsigned_abs())).await;
        }
        fixture.run("web");
        if !new_runs {
            fixture.engine.stop_by_hand("web");
        }
        if is_paused {
            assert!(fixture.engine.does("web.old-00c0ffee", &Move::Pause));
        }
        if is_refused {
            fixture.engine.refuse("stop", refused("stop".into()));
        }
        let mut replacement = Replacement { phase: Phase::Released, candidate: Some(id(2)), ..replacement() };
        let removed = acts::carry_out(&site, &mut replacement, Act::RemovePredecessor, &shutdown).await;
        assert_eq!(removed.expect("answered"), Event::Done, "{case}");
        assert_eq!(fixture.engine.container_of("web.old-00c0ffee").is_none(), goes, "{case}");
    }
}

/// The same from the start that is given up.
#[tokio::test(start_paused = true)]
async fn a_start_that_is_given_up_is_noted() {
    for is_late in [true, false] {
        let fixture = fixture().await;
        fixture.run_and_stop("web");
        if is_late {
            fixture.engine.fail(1, Fault::Late(Duration::from_secs(20)));
        }
        assert_eq!(acts::start(&fixture.site(), &id(1)).await.is_err(), is_late);
        assert_eq!(fixture.world.memory().replacing.is_started_late(&id(1)), is_late);
        let noted = fixture.world.journals.late(Late::Start).expect("read");
        assert_eq!(noted.iter().any(|(of, _)| *of == id(1)), is_late);
    }
}
