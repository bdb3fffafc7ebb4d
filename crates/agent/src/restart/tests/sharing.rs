//! What a container of a replacement uses of others, and what becomes of that meanwhile.

use deployer_core::gate::Gate;
use deployer_core::plan::Answer;
use deployer_simulated::engine::Move;

use super::*;
use crate::situation::TrackView;
use crate::survey::Survey;

/// A container `vpn`, and one that uses its network, the engine's first and second.
async fn sharing() -> Fixture {
    let fixture = fixture().await;
    fixture.run("vpn");
    fixture.engine.run_with(&Spec::new("web", &track()), |body| {
        body["HostConfig"]["NetworkMode"] = json!(format!("container:{}", id(1)));
    });
    fixture.world.engine_mirror.refresh().await.expect("the engine answers");
    fixture
}

/// A good version was condemned everywhere: its candidate was left in the network of a process that was no more, and the old one,
/// started anew, was in that of the next.
#[tokio::test(start_paused = true)]
async fn what_is_at_its_gate_while_what_it_uses_is_restarted_has_not_failed() {
    let fixture = sharing().await;
    let (world, candidate) = (&fixture.world, id(2));
    let mut facts = replacement().facts;
    (facts.gate.timeout_ms, facts.gate.stable_ms) = (60_000, 60_000);
    let (gate, shutdown) = (Gate::new(facts.gate.clone()), CancellationToken::new());
    let mut watched = Box::pin(observe::watch(world, &facts, &candidate, gate, &shutdown));
    assert!(tokio::time::timeout(Duration::from_secs(5), &mut watched).await.is_err(), "its window is open");
    assert!(fixture.engine.does("vpn", &Move::Restart));
    world.engine_mirror.refresh().await.expect("the engine answers");
    assert_eq!(watched.await, observe::Watched::Deprived);
}

/// It had run until then: stopped, it could not be started again, nor could its successor.
#[tokio::test(start_paused = true)]
async fn what_waited_for_its_slot_while_what_it_uses_went_is_left_running() {
    for (what, expected) in [(Move::Stop, "does not run"), (Move::Remove, "is gone")] {
        let fixture = sharing().await;
        let world = &fixture.world;
        let mut replacement = replacement();
        replacement.facts.predecessor = id(2);
        assert_eq!(meanwhile::changed(world, &replacement).await.expect("seen"), None);
        assert!(fixture.engine.does("vpn", &what));
        world.engine_mirror.refresh().await.expect("the engine answers");
        let found = meanwhile::changed(world, &replacement).await.expect("seen");
        assert!(found.as_ref().is_some_and(|found| found.contains(expected)), "{what:?}: {found:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_has_no_network_of_its_own_answers_where_the_others_does() {
    let fixture = sharing().await;
    let world = &fixture.world;
    let [vpn, web] = [id(1), id(2)].map(|id| async move { world.engine.container(&id).await.expect("it is there") });
    let (vpn, web) = (vpn.await, web.await);
    let expected = providers::addresses_of(world, &vpn);
    assert!(!expected.is_empty());
    assert_eq!(providers::addresses_of(world, &web), expected);
}

/// In another container's network the files by which a container is known are that one's: deployer took it for its own, and
/// replaced itself.
#[tokio::test(start_paused = true)]
async fn deployers_own_may_be_either_of_two_that_share_a_network() {
    for (own, expected) in [(Some(id(1)), [true, true]), (Some(id(2)), [false, true]), (None, [false, false])] {
        let mut fixture = sharing().await;
        Arc::get_mut(&mut fixture.world).expect("nobody else has it").settings.own_container = own.clone();
        let survey = Survey::of(&fixture.world).await.expect("listed");
        let view = TrackView::of(&fixture.world, &survey, &track(), Answer::NotAsked).await.expect("read");
        let is_left = |name: &str| {
            let decision = view.decisions.iter().find(|decision| decision.container.summary.name == name);
            decision.expect("it is decided on").note.contains("does not replace itself")
        };
        assert_eq!(["vpn", "web"].map(is_left), expected, "{own:?}");
    }
}
