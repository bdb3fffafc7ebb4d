//! One short play for each finding of the hostile reading, named after it: what would show the fault. The checker says
//! whether it did.

use std::time::Duration;

use deployer_core::queue::Ticket;
use deployer_core::slot::Claim;
use deployer_simulated::engine::{Move, SimulatedEngine, Spec};
use deployer_simulated::registry::{Behaviour, digest};
use tokio::time::sleep;

use crate::simulated::checker::Violation;
use crate::simulated::cluster::{Cluster, LIMIT, Shape, track};

/// Findings whose faults are still in the code, by the name of their plays. A play that shows no fault any more is to be
/// taken out, which its test sees to.
const EXPECTED_TO_FAIL: &[&str] = &[];

/// Longer than any news takes.
const A_WHILE: Duration = Duration::from_secs(20);
/// Longer than any look, lease and barrier.
const LONG: Duration = Duration::from_secs(400);
const SOON: Duration = Duration::from_secs(120);

/// Plays a play, and holds what it shows against what is expected of it.
macro_rules! findings {
    ($($name:ident)+) => {
        $(
            #[tokio::test(start_paused = true)]
            async fn $name() {
                judge(stringify!($name), &mut plays::$name().await).await;
            }
        )+
    };
}

findings! {
    h1_the_report_of_one_that_waits_in_line_is_frozen
    h2_a_living_daemon_whose_engine_is_dead_says_that_all_is_up
    h4a_an_engine_that_dies_at_the_control_gate_leaves_nothing_that_serves
    h4c_an_engine_that_comes_back_starts_the_failed_candidate
    h5a_a_person_who_removes_the_candidate_condemns_its_version
    h5a_a_person_who_stops_the_candidate_has_the_old_one_started
    h5a_a_person_who_restarts_the_candidate_condemns_its_version
    h5b_an_engine_that_dies_at_the_gate_condemns_the_version
    h6_those_who_wait_leave_no_place_for_the_one_that_is_down
    h7_a_ticket_does_not_know_that_its_container_went_down
    m1_an_instance_that_was_down_may_always_go
    m6_a_prune_at_the_gate_takes_both
}

/// Lets everything come to its end, and asks the checker. A cluster that comes to no end is a fault, too.
async fn judge(name: &str, cluster: &mut Cluster) {
    let is_at_rest = cluster.comes_to_rest(LIMIT, |_| true).await;
    let violations: Vec<String> = cluster.violations().iter().map(Violation::to_string).collect();
    let shows_a_fault = !is_at_rest || !violations.is_empty();
    let is_expected = EXPECTED_TO_FAIL.contains(&name);
    if (shows_a_fault && !is_expected) || std::env::var_os("STORY").is_some() {
        let story: Vec<String> = cluster.story.entries().iter().map(ToString::to_string).collect();
        let (story, scene, violations) = (story.join("\n"), cluster.describe(), violations.join("\n"));
        panic!("{name}: at rest: {is_at_rest}\n{story}\n\n{scene}\n{violations}");
    }
    assert_eq!(shows_a_fault, is_expected, "{name} shows no fault any more: take it off the list");
}

/// The tickets that wait, the first drawn first. Whoever holds a slot keeps its ticket until it gives that back.
fn tickets(cluster: &Cluster) -> Vec<Ticket> {
    let mut entries = cluster.store.entries("/t/locks/");
    let claims: Vec<Claim> = entries.iter().filter_map(|entry| serde_json::from_slice(&entry.value).ok()).collect();
    let holds = |ticket: &Ticket| claims.iter().any(|c| c.node == ticket.node && c.container == ticket.container);
    entries.retain(|entry| entry.key.contains("/line/"));
    entries.sort_by_key(|entry| entry.create_revision);
    let tickets = entries.iter().map(|entry| serde_json::from_slice(&entry.value).expect("a ticket"));
    tickets.filter(|ticket| !holds(ticket)).collect()
}

mod plays {
    use super::*;

    fn checked(name: &str, number: usize) -> Spec {
        Spec { has_check: true, ..Spec::new(name, &track(number)) }
    }

    /// One machine with one container of a restart policy.
    async fn alone(policy: &'static str, port: Option<u16>) -> Cluster {
        let spec = Spec { policy, port, ..Spec::new("web", &track(1)) };
        Cluster::with(Shape { hosts: vec![vec![spec]], ..Shape::plain(1, &[]) }, 1).await
    }

    async fn push(cluster: &mut Cluster, behaviour: Behaviour) {
        cluster.push(behaviour);
        cluster.notify(0).await;
    }

    fn shows(cluster: &Cluster, machine: usize, name: &str, version: u32, word: &str) -> bool {
        let found = cluster.members[machine].node.engine.container_of(name);
        found.is_some_and(|(_, image, state)| image == Some(digest(version)) && state == word)
    }

    async fn until_candidate_runs(cluster: &Cluster) {
        cluster.wait_until(LONG, "at the gate", |cluster| shows(cluster, 0, "web", 2, "running")).await;
        sleep(Duration::from_secs(3)).await;
    }

    /// Lets nobody go on who has stopped something, and pushes to a track. Gives back the engines.
    async fn hold_the_slot(cluster: &mut Cluster, number: usize) -> Vec<SimulatedEngine> {
        let engines: Vec<_> = cluster.members.iter().map(|member| member.node.engine.clone()).collect();
        engines.iter().for_each(|engine| engine.hold("rename"));
        cluster.push_to(&track(number), Behaviour::Serves);
        cluster.notify_of(&track(number), 0).await;
        let is_held = |_: &Cluster| engines.iter().any(|engine| engine.is_waited_for("rename"));
        cluster.wait_until(LONG, "the slot is taken", is_held).await;
        engines
    }

    /// Waits until so many containers of the first track wait in line.
    async fn until_wait(cluster: &Cluster, count: usize) {
        let waits =
            |cluster: &Cluster| tickets(cluster).iter().filter(|ticket| ticket.image == track(1)).count() == count;
        cluster.wait_until(LONG, "all wait", waits).await;
    }

    pub async fn h1_the_report_of_one_that_waits_in_line_is_frozen() -> Cluster {
        let shape = Shape { hosts: vec![vec![checked("web", 1)]; 3], ..Shape::plain(3, &[]) };
        let mut cluster = Cluster::with(shape, 1).await;
        let engines = hold_the_slot(&mut cluster, 1).await;
        until_wait(&cluster, 2).await;
        sleep(A_WHILE).await;
        // Who drew last: the other one's turn comes before.
        let last = tickets(&cluster)[1].node.clone();
        let last = cluster.members.iter().find(|member| member.node.name == last).expect("one of them");
        assert!(last.node.engine.falls_ill("web", None));
        sleep(A_WHILE).await;
        engines.iter().for_each(|engine| engine.let_go("rename"));
        cluster
    }

    pub async fn h2_a_living_daemon_whose_engine_is_dead_says_that_all_is_up() -> Cluster {
        let mut cluster = Cluster::start(3, &["web"], 1).await;
        let engine = cluster.members[2].node.engine.clone();
        engine.shut_down();
        sleep(SOON).await;
        push(&mut cluster, Behaviour::Serves).await;
        sleep(LONG).await;
        engine.come_back();
        cluster
    }

    pub async fn h4a_an_engine_that_dies_at_the_control_gate_leaves_nothing_that_serves() -> Cluster {
        let mut cluster = alone("unless-stopped", None).await;
        push(&mut cluster, Behaviour::ExitsAtOnce).await;
        let is_put_back = |cluster: &Cluster| {
            let journals = cluster.members[0].node.journals();
            let is_on_the_way_back = journals.iter().any(|journal| journal.phase.is_return());
            is_on_the_way_back && shows(cluster, 0, "web", 1, "running")
        };
        cluster.wait_until(LONG, "put back", is_put_back).await;
        sleep(Duration::from_secs(2)).await;
        let engine = &cluster.members[0].node.engine;
        engine.crash();
        sleep(Duration::from_secs(1)).await;
        engine.come_back();
        cluster
    }

    pub async fn h4c_an_engine_that_comes_back_starts_the_failed_candidate() -> Cluster {
        let mut cluster = alone("always", Some(8080)).await;
        push(&mut cluster, Behaviour::NeverListens).await;
        until_candidate_runs(&cluster).await;
        let engine = cluster.members[0].node.engine.clone();
        engine.hold("rename");
        cluster.wait_until(LONG, "the candidate is stopped", |_| engine.is_waited_for("rename")).await;
        engine.crash();
        sleep(Duration::from_secs(1)).await;
        engine.come_back();
        engine.let_go("rename");
        cluster
    }

    async fn at_the_gate(what: &Move) -> Cluster {
        let mut cluster = Cluster::start(2, &["web"], 1).await;
        push(&mut cluster, Behaviour::Serves).await;
        let runs = |machine, cluster: &Cluster| shows(cluster, machine, "web", 2, "running");
        cluster.wait_until(LONG, "at a gate", |cluster| runs(0, cluster) || runs(1, cluster)).await;
        sleep(Duration::from_secs(3)).await;
        let machine = usize::from(!runs(0, &cluster));
        assert!(cluster.members[machine].node.engine.does("web", what));
        cluster
    }

    pub async fn h5a_a_person_who_removes_the_candidate_condemns_its_version() -> Cluster {
        at_the_gate(&Move::Remove).await
    }

    pub async fn h5a_a_person_who_stops_the_candidate_has_the_old_one_started() -> Cluster {
        at_the_gate(&Move::Stop).await
    }

    pub async fn h5a_a_person_who_restarts_the_candidate_condemns_its_version() -> Cluster {
        at_the_gate(&Move::Restart).await
    }

    pub async fn h5b_an_engine_that_dies_at_the_gate_condemns_the_version() -> Cluster {
        let mut cluster = alone("unless-stopped", None).await;
        push(&mut cluster, Behaviour::Serves).await;
        until_candidate_runs(&cluster).await;
        let engine = &cluster.members[0].node.engine;
        engine.crash();
        sleep(Duration::from_secs(1)).await;
        engine.come_back();
        cluster
    }

    pub async fn h6_those_who_wait_leave_no_place_for_the_one_that_is_down() -> Cluster {
        let specs = (0..20).map(|number| checked(&format!("web{number:02}"), 1)).collect();
        let mut cluster = Cluster::with(Shape { hosts: vec![specs], ..Shape::plain(1, &[]) }, 1).await;
        assert!(cluster.members[0].node.engine.falls_ill("web19", None));
        sleep(A_WHILE).await;
        push(&mut cluster, Behaviour::Serves).await;
        cluster.comes_to_rest(LIMIT, Cluster::runs_what_was_pushed).await;
        cluster
    }

    pub async fn h7_a_ticket_does_not_know_that_its_container_went_down() -> Cluster {
        let web = ["web1", "web2", "web3"].map(|name| checked(name, 1));
        let api = Spec::new("api", &track(2));
        let hosts = vec![web.into_iter().chain([api]).collect()];
        let tracks = vec![track(1), track(2)];
        let mut cluster = Cluster::with(Shape { tracks, hosts, ..Shape::plain(1, &[]) }, 1).await;
        let engines = hold_the_slot(&mut cluster, 2).await;
        push(&mut cluster, Behaviour::Serves).await;
        until_wait(&cluster, 3).await;
        let last = tickets(&cluster)[2].container.clone();
        assert!(engines[0].falls_ill(&last, None));
        sleep(A_WHILE).await;
        engines[0].let_go("rename");
        cluster.comes_to_rest(LIMIT, Cluster::runs_what_was_pushed).await;
        cluster
    }

    pub async fn m1_an_instance_that_was_down_may_always_go() -> Cluster {
        let host = vec![checked("web", 1), Spec::new("api", &track(2))];
        let tracks = vec![track(1), track(2)];
        let mut cluster = Cluster::with(Shape { tracks, hosts: vec![host; 3], ..Shape::plain(3, &[]) }, 1).await;
        let engines = hold_the_slot(&mut cluster, 2).await;
        // It flaps until the engine takes its time over the next start.
        for _ in 0..9 {
            cluster.wait_until(LONG, "it runs", |cluster| shows(cluster, 0, "web", 1, "running")).await;
            assert!(engines[0].dies("web"));
        }
        push(&mut cluster, Behaviour::Serves).await;
        until_wait(&cluster, 3).await;
        cluster.wait_until(LONG, "it has recovered", |cluster| shows(cluster, 0, "web", 1, "running")).await;
        sleep(A_WHILE).await;
        assert!(engines[2].falls_ill("web", None));
        sleep(A_WHILE).await;
        engines.iter().for_each(|engine| engine.let_go("rename"));
        cluster.comes_to_rest(LIMIT, Cluster::runs_what_was_pushed).await;
        cluster
    }

    pub async fn m6_a_prune_at_the_gate_takes_both() -> Cluster {
        let mut cluster = alone("always", None).await;
        push(&mut cluster, Behaviour::NeverListens).await;
        until_candidate_runs(&cluster).await;
        cluster.members[0].node.engine.prune(None);
        cluster
    }
}
