//! Processes that have begun, by whose doing ever, are asked until they answer: before that nobody counts on them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use deployer_engine::mirror::Container;
use futures_util::StreamExt;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::probe;
use crate::world::World;

/// How long a process is not counted that does not answer at every port it is known for. What it exposes it need not open, so
/// it is counted after that as one that runs.
const SETTLES_WITHIN: Duration = Duration::from_secs(10);
/// The first pause between two attempts; it doubles up to the longest.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
const PAUSE_LONGEST: Duration = Duration::from_millis(320);

/// Asks every process of a managed container that has begun, until it has settled. Works for ever.
pub async fn run(world: Arc<World>) {
    let mut shown = world.engine_mirror.subscribe();
    let mut asked: BTreeSet<(String, String)> = BTreeSet::new();
    let mut asking = FuturesUnordered::new();
    loop {
        let now = Arc::clone(&shown.borrow_and_update());
        if now.is_heard().is_ok() {
            world.memory().settled.retain(&now);
            for container in now.containers.values().filter(|container| is_to_settle(&world, container)) {
                if asked.insert(process(container)) {
                    asking.push(settle(&world, Arc::clone(container)));
                }
            }
        }
        tokio::select! {
            biased;
            // The mirror lives as long as the world.
            _ = shown.changed() => {}
            Some(process) = asking.next() => {
                asked.remove(&process);
            }
        }
    }
}

fn process(container: &Container) -> (String, String) {
    (container.id.clone(), container.started_at.clone())
}

fn is_to_settle(world: &World, container: &Container) -> bool {
    container.state == "running"
        && world.settings.manage.includes(&container.labels)
        && !world.memory().settled.has(container)
}

/// Asks one process until it answers, its time is up, or it is not there any more.
async fn settle(world: &World, container: Arc<Container>) -> (String, String) {
    let process = process(&container);
    let begun = Instant::now();
    let mut pause = PAUSE_FIRST;
    while begun.elapsed() < SETTLES_WITHIN && !answers(world, &container).await {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_LONGEST);
        let is_of_now = |seen: &Arc<Container>| is_to_settle(world, seen) && seen.started_at == container.started_at;
        if !world.engine_mirror.snapshot().containers.get(&container.id).is_some_and(is_of_now) {
            return process;
        }
    }
    world.memory().settled.note(&container.id, &container.started_at);
    world.bell.notify_one();
    process
}

async fn answers(world: &World, container: &Container) -> bool {
    let asked = container.ports.iter().map(|port| probe::connects(world, &container.addresses, *port));
    join_all(asked).await.into_iter().all(|answers| answers)
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use deployer_simulated::engine::{Move, Spec};
    use tokio::time::sleep;

    use super::*;
    use crate::fixture::{A_CHECK, Fixture, digest, fixture, track};
    use crate::survey::Survey;

    /// Whether the container is up, and whether it is down, as this node says it.
    async fn stands(fixture: &Fixture) -> (bool, bool) {
        let survey = Survey::of(&fixture.world).await.expect("heard");
        let web = survey.named("web").expect("it is there");
        (web.is_up(), web.is_down())
    }

    /// Lets it ask, for so long, and tells whether the bell was rung.
    async fn rings_within(fixture: &Fixture, seconds: u64) -> bool {
        let mut settling = pin!(run(Arc::clone(&fixture.world)));
        tokio::select! {
            () = &mut settling => unreachable!("it works for ever"),
            () = fixture.world.bell.notified() => true,
            () = tokio::time::sleep(Duration::from_secs(seconds)) => false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_process_that_has_begun_is_not_up_before_it_answers_and_not_down_either() {
        let fixture = fixture().await;
        let look = async || fixture.world.engine_mirror.refresh().await.expect("answered");
        fixture.registry.expose(&digest(1), &[80]);
        fixture.run("web");
        look().await;
        assert_eq!(stands(&fixture).await, (false, false), "it has just begun");
        assert!(rings_within(&fixture, 1).await);
        assert_eq!(stands(&fixture).await, (true, false), "it answers");
        fixture.engine.set_cut_off(true);
        assert!(!rings_within(&fixture, 60).await, "one that has settled is not asked again");
        assert_eq!(stands(&fixture).await, (true, false), "it has settled");
        assert!(fixture.engine.does("web", &Move::Restart));
        look().await;
        assert_eq!(stands(&fixture).await, (false, false), "it was restarted");
        assert!(!rings_within(&fixture, 9).await);
        assert_eq!(stands(&fixture).await, (false, false), "it does not answer");
        assert!(rings_within(&fixture, 11).await);
        assert_eq!(stands(&fixture).await, (true, false), "it need not");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_port_is_up_as_soon_as_it_runs_and_what_has_a_check_once_that_passed() {
        let fixture = fixture().await;
        fixture.run("web");
        assert_eq!(stands(&fixture).await, (true, false), "without a check");
        fixture.engine.remove_by_hand("web");
        fixture.engine.run_as(&Spec { has_check: true, ..Spec::new("web", &track()) });
        assert_eq!(stands(&fixture).await, (false, false), "starting");
        sleep(A_CHECK).await;
        assert_eq!(stands(&fixture).await, (true, false), "healthy");
        assert!(fixture.engine.falls_ill("web", None));
        assert_eq!(stands(&fixture).await, (false, true), "unhealthy");
    }
}
