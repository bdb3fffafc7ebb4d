//! Waiting in line on a simulated engine, with a real store: what a ticket says, and who may go.

use deployer_core::availability::Instance;
use deployer_core::queue::Ticket;
use deployer_core::store::Entry;
use deployer_engine::EngineError;
use deployer_simulated::engine::Move;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::mpsc;

use super::super::waiter::LOOK_AGAIN;
use super::super::{Restart, acts};
use super::*;
use crate::fixture::{Fixture, digest, fixture, replacement, track};
use crate::ledger::{Read, decode};
use crate::replacing::Transition;
use crate::world::Presence;
use deployer_core::record::{Record, Source};
use deployer_core::replacement::{Act, Failure};

/// Long enough for a look after the longest pause of one whose turn it is. Twice as long ends before the node's lease does,
/// which nobody keeps alive here.
const A_LOOK: Duration = Duration::from_secs(LOOK_AGAIN.as_secs() + 1);
/// Far shorter than that.
const A_MOMENT: Duration = Duration::from_millis(100);

/// A slot that a living node holds.
async fn taken(fixture: &Fixture) {
    let keys = &fixture.world.keys;
    let claim = json!({
        "node": "b", "boot": "2", "txn": "0badcafe", "image": track(), "digest": digest(2), "container": "api",
        "phase": "acquired", "at": 0,
    });
    let txn = Txn::new().put(keys.claim("cluster", 0), &claim).put(keys.hold("cluster", 0), &"0badcafe");
    fixture.world.store.txn(txn).await.expect("stored");
}

async fn tickets(fixture: &Fixture) -> Vec<Ticket> {
    let (entries, _) = fixture.world.store.list(&fixture.world.keys.line("cluster")).await.expect("listed");
    let read = |entry: Entry| decode(entry).map(|read: Read<Ticket>| read.value).expect("a ticket");
    entries.into_iter().map(read).collect()
}

/// Runs a wait for so long. `true` if it ended.
async fn waits(fixture: &Fixture, time: Duration) -> bool {
    let (mut replacement, shutdown) = (replacement(), CancellationToken::new());
    let site = fixture.site();
    let wait = acts::carry_out(&site, &mut replacement, Act::Claim, &shutdown);
    tokio::time::timeout(time, wait).await.is_ok()
}

#[tokio::test(start_paused = true)]
async fn coordination_h7_a_ticket_says_how_its_container_is_now() {
    let fixture = fixture().await;
    taken(&fixture).await;
    let transition = Transition { track: track(), service: "web".to_owned() };
    fixture.world.memory().replacing.begin("web", transition);
    fixture.run("web");
    let (mut replacement, shutdown) = (replacement(), CancellationToken::new());
    let site = fixture.site();
    let mut wait = Box::pin(acts::carry_out(&site, &mut replacement, Act::Claim, &shutdown));
    assert!(tokio::time::timeout(A_LOOK, &mut wait).await.is_err(), "the slot is taken");
    let is_down = async || tickets(&fixture).await.iter().map(|ticket| ticket.is_down).collect::<Vec<_>>();
    assert_eq!(is_down().await, [false]);
    fixture.crash_loop("web");
    assert!(tokio::time::timeout(A_LOOK, &mut wait).await.is_err(), "the slot is taken");
    assert_eq!(is_down().await, [true], "it has gone down while it waits, and may go first");
}

/// It kept its place, and all behind it waited until somebody had seen to its engine.
#[tokio::test(start_paused = true)]
async fn coordination_m2_who_does_not_hear_its_engine_goes_behind_those_who_can_go() {
    let fixture = fixture().await;
    taken(&fixture).await;
    fixture.run("web");
    let (mut replacement, shutdown) = (replacement(), CancellationToken::new());
    let site = fixture.site();
    let mut wait = Box::pin(acts::carry_out(&site, &mut replacement, Act::Claim, &shutdown));
    let away = || EngineError::Timeout { what: "list".into(), limit: Duration::ZERO };
    for refused in [None, Some(away())] {
        let expected = refused.is_some();
        refused.into_iter().for_each(|error| fixture.engine.refuse("list containers", error));
        assert!(tokio::time::timeout(A_LOOK, &mut wait).await.is_err(), "the slot is taken");
        let are_blocked: Vec<bool> = tickets(&fixture).await.iter().map(|ticket| ticket.is_blocked).collect();
        assert_eq!(are_blocked, [expected]);
    }
}

/// It was renamed back meanwhile, and what waited under the other name did so for ever: no such instance was registered.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_container_that_is_gone_or_has_another_name_ends() {
    for what in [Move::Rename("web-x".to_owned()), Move::MakeAnew, Move::Remove] {
        let fixture = fixture().await;
        taken(&fixture).await;
        fixture.run("web");
        let (mut replacement, shutdown) = (replacement(), CancellationToken::new());
        let site = fixture.site();
        let mut wait = Box::pin(acts::carry_out(&site, &mut replacement, Act::Claim, &shutdown));
        assert!(tokio::time::timeout(A_LOOK, &mut wait).await.is_err(), "the slot is taken");
        assert!(fixture.engine.does("web", &what));
        let ended = tokio::time::timeout(A_LOOK, wait).await.expect("it ends").expect("the store answers");
        assert!(matches!(ended, Event::Failed(Failure::Superseded(_))), "{ended:?}");
        assert_eq!(tickets(&fixture).await, [], "nobody waits for it");
    }
}

/// It ended when the next look was due, which may be long: until then a renamed instance counted under both names, and half of
/// four could be spared where half of three could not.
#[tokio::test(start_paused = true)]
async fn what_waits_for_a_container_that_is_gone_or_has_another_name_ends_at_once() {
    for what in [Move::Rename("web-x".to_owned()), Move::Remove] {
        let fixture = fixture().await;
        taken(&fixture).await;
        fixture.run("web");
        let world = &fixture.world;
        world.engine_mirror.refresh().await.expect("the engine answers");
        let (mut replacement, shutdown) = (replacement(), CancellationToken::new());
        let site = fixture.site();
        let mut wait = Box::pin(acts::carry_out(&site, &mut replacement, Act::Claim, &shutdown));
        assert!(tokio::time::timeout(A_MOMENT, &mut wait).await.is_err(), "the slot is taken");
        assert!(fixture.engine.does("web", &what));
        world.engine_mirror.refresh().await.expect("the engine answers");
        let ended = tokio::time::timeout(A_MOMENT, wait).await.expect("it ends").expect("the store answers");
        assert!(matches!(ended, Event::Failed(Failure::Superseded(_))), "{ended:?}");
    }
}

/// Sixteen that waited used to fill the machine, and the seventeenth, for which all of them waited, never drew a ticket.
#[tokio::test(start_paused = true)]
async fn coordination_h6_any_number_of_containers_of_a_host_waits_in_line() {
    const CONTAINERS: usize = 20;
    let fixture = fixture().await;
    taken(&fixture).await;
    let world = &fixture.world;
    let names: Vec<String> = (0..CONTAINERS).map(|number| format!("worker-{number}")).collect();
    names.iter().for_each(|name| fixture.run(name));
    fixture.push(2);
    fixture.bring(2);
    let record = Record::adopt(Some(&digest(1)), &digest(2), Source::Hook, 0);
    world.store.txn(Txn::new().put(world.keys.record(&track()), &record)).await.expect("stored");
    let (sender, containers) = mpsc::channel(CONTAINERS);
    for name in names {
        sender.send(name).await.expect("a place");
    }
    let restart = Restart { world: Arc::clone(world), hand: fixture.hand(), containers, left: Vec::new() };
    let stage = restart.run(CancellationToken::new());
    assert!(tokio::time::timeout(A_LOOK, stage).await.is_err(), "the slot is taken");
    assert_eq!(tickets(&fixture).await.len(), CONTAINERS);
}

/// An own instance of which nothing is said in the store, after a lease that ended, counted as down: it might always go.
#[tokio::test(start_paused = true)]
async fn coordination_m1_of_its_own_instances_a_node_believes_its_engine_alone() {
    let fixture = fixture().await;
    let world = &fixture.world;
    let other = Instance { node: "b".into(), image: track(), container: "web".into(), off: false };
    world.store.txn(Txn::new().put(world.keys.instance("web", "b", "web"), &other)).await.expect("stored");
    fixture.run("web");
    assert!(!waits(&fixture, A_LOOK).await, "the other one is down, and this one serves");
    fixture.crash_loop("web");
    assert!(waits(&fixture, A_LOOK).await, "what is down already may always go");
}

#[tokio::test(start_paused = true)]
async fn coordination_m8_one_that_is_not_registered_asks_nobody() {
    let fixture = fixture().await;
    fixture.run("web");
    let lease = fixture.world.presence.send_replace(Presence::default());
    let before = fixture.engine.calls();
    assert!(!waits(&fixture, A_LOOK).await, "nothing that it could do would count");
    assert_eq!(fixture.engine.calls(), before);
    assert_eq!(tickets(&fixture).await, []);
    fixture.world.presence.send_replace(lease);
    assert!(waits(&fixture, A_LOOK).await, "it goes on");
}
