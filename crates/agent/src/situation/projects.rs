//! Which of a machine's containers come before which, by their Compose projects.

use std::collections::BTreeSet;

use deployer_core::plan::{Action, Obstacle, decide};
use deployer_core::project::{Member, before};
use deployer_core::replacement::transitional;

use super::Decision;
use crate::survey::Survey;
use crate::world::World;

/// Lets what is about to be replaced wait for what its Compose project has before it, while that is replaced or about to be.
pub fn keep_to_projects(world: &World, survey: &Survey, decisions: &mut [Decision]) {
    let replaced = |decision: &Decision| decision.row.action == Action::Replace;
    if !decisions.iter().any(replaced) {
        return;
    }
    let begun = under_way(world);
    // Between two names it is still the one of its own.
    let own_name = |name: &str| transitional(name).map_or(name.to_owned(), |(name, _)| name.to_owned());
    let is_due = |id: &str| decisions.iter().any(|of| replaced(of) && of.container.summary.id == id);
    let all = survey.containers.iter().map(|seen| &seen.summary).chain(&survey.unfinished);
    let members: Vec<(Member, String, bool)> = all
        .filter_map(|seen| {
            let (member, name) = (Member::of(&seen.labels)?, own_name(&seen.name));
            let is_open = is_due(&seen.id) || begun.contains(&name);
            Some((member, name, is_open))
        })
        .collect();
    let first_of = |decision: &Decision| {
        let own = Member::of(&decision.container.summary.labels)?;
        let of_project = members.iter().filter(|(member, ..)| member.project == own.project);
        let open: Vec<_> = of_project.clone().filter(|(.., is_open)| *is_open).collect();
        if open.iter().all(|(member, ..)| member.service == own.service) {
            return None;
        }
        let of_project: Vec<Member> = of_project.map(|(member, ..)| *member).collect();
        let before = before(own, &of_project);
        open.into_iter().find(|(member, ..)| before.contains(member.service)).map(|(_, name, _)| name.clone())
    };
    let firsts: Vec<Option<String>> =
        decisions.iter().map(|decision| if replaced(decision) { first_of(decision) } else { None }).collect();
    for (decision, first) in decisions.iter_mut().zip(firsts) {
        let Some(first) = first else { continue };
        decision.situation.obstacle = Obstacle::Follows;
        decision.row = decide(&decision.situation);
        decision.note = format!("{first} comes first, on which it depends");
    }
}

/// The containers whose replacement has begun. What is only owed may be so for days, and is waited for by nobody.
fn under_way(world: &World) -> BTreeSet<String> {
    let memory = world.memory();
    let transitions = memory.replacing.transitions().into_iter().map(|(name, _)| name);
    transitions.filter(|name| !memory.owed.has(name)).collect()
}

#[cfg(test)]
mod tests {
    use deployer_core::plan::Answer;
    use deployer_core::record::{Record, Source};
    use deployer_core::store::Txn;
    use deployer_simulated::engine::Spec;
    use serde_json::json;

    use crate::fixture::{Fixture, digest, fixture, track};
    use crate::replacing::Transition;
    use crate::situation::{TrackView, state_of};
    use crate::survey::Survey;

    /// Stale containers of a project, each with its service and what that depends on.
    async fn stale(containers: &[(&str, &str, &str)]) -> Fixture {
        let fixture = fixture().await;
        for (name, service, after) in containers {
            fixture.engine.run_with(&Spec::new(name, &track()), |body| {
                body["Labels"]["com.docker.compose.project"] = json!("shop");
                body["Labels"]["com.docker.compose.config-hash"] = json!("00c0ffee");
                body["Labels"]["com.docker.compose.service"] = json!(service);
                body["Labels"]["com.docker.compose.depends_on"] = json!(after);
            });
        }
        fixture.push(2);
        fixture.bring(2);
        let world = &fixture.world;
        let record = Record::adopt(Some(&digest(1)), &digest(2), Source::Hook, 0);
        world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
        fixture
    }

    /// The rows that decide, by the containers' names.
    async fn rows(fixture: &Fixture) -> Vec<(String, &'static str)> {
        let survey = Survey::of(&fixture.world).await.expect("heard");
        let view = TrackView::of(&fixture.world, &survey, &track(), Answer::NotAsked).await.expect("read");
        let mut rows: Vec<_> =
            view.decisions.iter().map(|of| (of.container.summary.name.clone(), of.row.name)).collect();
        for of in view.decisions.iter().filter(|of| of.row.name == "follows") {
            assert_eq!(state_of(of), ("waiting", "web comes first, on which it depends".to_owned()));
        }
        rows.sort();
        rows
    }

    #[track_caller]
    fn check(found: &[(String, &'static str)], expected: &[(&str, &str)]) {
        let found: Vec<(&str, &str)> = found.iter().map(|(name, row)| (name.as_str(), *row)).collect();
        assert_eq!(found, expected);
    }

    /// Which went first was a matter of chance: a worker that ended on the database of before condemned the version for the web
    /// that would have migrated it.
    #[tokio::test(start_paused = true)]
    async fn case_pb02_what_depends_on_another_is_replaced_after_it() {
        let fixture = stale(&[("jobs", "jobs", "web:service_healthy:false"), ("web", "web", "")]).await;
        check(&rows(&fixture).await, &[("jobs", "follows"), ("web", "stale")]);
        let transition = Transition { track: track(), service: track().to_string() };
        fixture.world.memory().replacing.begin("web", transition);
        check(&rows(&fixture).await, &[("jobs", "follows"), ("web", "stale")]);
        fixture.world.memory().replacing.end("web");
        fixture.engine.remove_by_hand("web");
        check(&rows(&fixture).await, &[("jobs", "stale")]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_replaced_is_waited_for_by_nobody() {
        let fixture = stale(&[("jobs", "jobs", "web"), ("web", "web", "")]).await;
        fixture.engine.stop_by_hand("web");
        check(&rows(&fixture).await, &[("jobs", "stale"), ("web", "nothing_to_do")]);
        let both = stale(&[("a", "a", "b"), ("b", "b", "a")]).await;
        check(&rows(&both).await, &[("a", "stale"), ("b", "stale")]);
    }
}
