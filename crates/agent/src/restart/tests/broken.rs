//! An engine that answers, and not for one of a replacement's two containers: it is broken, or another call holds it.

use super::*;
use crate::restart::recovery::{Unshown, settle};

fn held() -> EngineError {
    EngineError::Timeout { what: "inspect container".into(), limit: Duration::from_secs(30) }
}

/// What the engine shows of a name after all that was left was done.
async fn carried_through(fixture: &Fixture, replacement: Replacement) -> Option<(String, &'static str)> {
    let (site, shutdown) = (fixture.site(), CancellationToken::new());
    let carried = carry_through(&site, replacement.into(), &shutdown);
    tokio::time::timeout(Duration::from_secs(3600), carried).await.expect("it ends");
    fixture.engine.container_of("web").map(|(id, _, state)| (id, state))
}

/// The old one, whole and stopped, was not started for as long as the candidate was not shown; or ran under another name, without
/// its policy.
#[tokio::test(start_paused = true)]
async fn a_candidate_that_is_broken_keeps_the_old_one_from_nothing() {
    for error in [refused(), held()] {
        let fixture = fixture().await;
        fixture.run_and_stop("web.old-00c0ffee");
        fixture.engine.run_as(&Spec { policy: "no", ..Spec::new("web", &track()) });
        fixture.engine.break_container(&id(2), error);
        let found = carried_through(&fixture, returning()).await;
        assert_eq!(found, Some((id(1), "running")));
        let policy =
            fixture.world.engine.container(&id(1)).await.expect("shown")["HostConfig"]["RestartPolicy"].clone();
        assert_eq!(policy, replacement().facts.restart_policy);
    }
}

/// On the way forward it was tried for ever to look at it, with the slot held and nothing that ran.
#[tokio::test(start_paused = true)]
async fn a_predecessor_that_is_broken_is_started_all_the_same() {
    for error in [refused(), held()] {
        let fixture = fixture().await;
        fixture.run_and_stop("web");
        let candidate = create(&fixture, "web.new-00c0ffee", json!({})).await;
        fixture.engine.break_container(&id(1), error);
        let stopped = Replacement { phase: Phase::Stopped, reached: Phase::Stopped, ..replacement() };
        let found = carried_through(&fixture, Replacement { candidate: Some(candidate), ..stopped }).await;
        assert_eq!(found, Some((id(1), "running")));
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_containers_one_that_is_not_shown_is_taken_for_down() {
    for (broken, phase, unshown, expected) in [
        (&[2][..], Phase::Swapped, Unshown::IsDown, Some(Phase::Swapped)),
        (&[2], Phase::Swapped, Unshown::Waits, None),
        (&[1], Phase::Created, Unshown::IsDown, Some(Phase::Stopped)),
        (&[1, 2], Phase::Swapped, Unshown::IsDown, None),
    ] {
        let fixture = fixture().await;
        fixture.run_and_stop("web.old-00c0ffee");
        fixture.run_and_stop("web");
        broken.iter().for_each(|number| fixture.engine.break_container(&id(*number), refused()));
        let mut left = Replacement { phase, candidate: Some(id(2)), ..replacement() };
        let settled = settle(&fixture.world, &mut left, unshown).await;
        assert_eq!(settled.is_ok().then_some(left.phase), expected, "{broken:?} {phase:?}");
    }
}

/// Nothing was left of it, and its journal, the only copy of what ran, was closed over one refusal.
#[tokio::test(start_paused = true)]
async fn what_is_made_anew_and_is_refused_is_tried_again() {
    for what in ["tag", "create", "rename", "start"] {
        let fixture = fixture().await;
        fixture.push(2);
        fixture.bring(2);
        fixture.engine.refuse(what, refused());
        let mut left =
            Replacement { phase: Phase::Fenced, reached: Phase::Started, has_no_way_back: true, ..replacement() };
        left.facts.predecessor = id(9);
        let (_sender, containers) = mpsc::channel(9);
        let left = vec![left.into()];
        let restart = Restart { world: Arc::clone(&fixture.world), hand: fixture.hand(), containers, left };
        let mut stage = Box::pin(restart.run(CancellationToken::new()));
        let mut for_a_while = async || tokio::time::timeout(Duration::from_secs(3600), &mut stage).await.is_ok();
        assert!(!for_a_while().await, "it goes on");
        assert_ne!(fixture.engine.container_of("web").map(|it| it.2), Some("running"), "{what}");
        fixture.engine.permit(what);
        assert!(!for_a_while().await, "it goes on");
        assert_eq!(fixture.engine.container_of("web").map(|it| it.2), Some("running"), "{what}");
    }
}
