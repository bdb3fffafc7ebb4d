//! What the mirror looks at, and what that costs.

use std::sync::Arc;

use deployer_core::deed::{Deed, DeedKind};
use deployer_core::ownership::Owner;
use deployer_engine::ImageSummary;
use deployer_engine::mirror::{Health, Mirror, Thing, nanos};
use serde_json::json;

use crate::scripted::{Scripted, container, refused};
use crate::{Following, is_heard, settled, state};

/// 200 containers on the host, and one event.
#[tokio::test(start_paused = true)]
async fn an_event_costs_one_inspection_at_most_whatever_runs_on_the_host() {
    let ids: Vec<(String, String)> = (0..200).map(|n| (n.to_string(), format!("web{n}"))).collect();
    let ids: Vec<(&str, &str)> = ids.iter().map(|(id, name)| (id.as_str(), name.as_str())).collect();
    let engine = Scripted::with(&ids);
    engine.state().containers.get_mut("7").expect("just made")["State"]["Health"] = json!({"Status": "starting"});
    let following = Following::heard(&engine).await;
    for (kind, action, detail, id, expected) in [
        ("container", "die", "", "7", vec!["container 7"]),
        ("container", "start", "", "7", vec!["container 7"]),
        ("container", "rename", "", "7", vec!["container 7"]),
        ("container", "create", "", "new", vec!["container new"]),
        ("container", "health_status", "unhealthy", "7", vec![]),
        ("container", "health_status", "", "7", vec!["container 7"]),
        ("container", "health_status", "healthy", "new", vec!["container new"]),
        ("container", "kill", "", "7", vec![]),
        ("container", "exec_start", " sh", "7", vec![]),
        ("container", "top", "", "7", vec![]),
        ("container", "destroy", "", "9", vec![]),
        ("image", "tag", "", "sha256:1", vec!["image sha256:1"]),
        ("image", "delete", "", "sha256:2", vec!["image sha256:2"]),
        ("network", "connect", "", "7", vec![]),
    ] {
        engine.tell_of(kind, action, detail, id);
        settled().await;
        assert_eq!(engine.asked(), expected, "{action} {detail}");
    }
    assert_eq!(following.mirror.snapshot().containers.len(), 199);
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_events_costs_two_inspections() {
    let engine = Scripted::with(&[("a", "web")]);
    let _following = Following::heard(&engine).await;
    engine.hold("container a");
    for action in ["die", "start", "die", "start", "die"] {
        engine.tell(action, "", "a");
        settled().await;
    }
    engine.let_go();
    settled().await;
    assert_eq!(engine.asked(), ["container a", "container a"], "one under way, and one for all that came meanwhile");
}

#[tokio::test(start_paused = true)]
async fn security_2_what_an_image_brings_counts_for_nothing_and_is_asked_for_once() {
    let engine = Scripted::with(&[("a", "web"), ("b", "strange")]);
    let labels = json!({"deployer.enable": "true", "deployer.supervisor": "systemd:x"});
    let config = json!({"Labels": labels, "Env": ["NOMAD_ALLOC_ID=1"]});
    engine.state().defaults.insert("sha256:2".to_owned(), json!({"Config": config}));
    let mut strange = container("b", "strange");
    (strange["Image"], strange["Config"]) = (json!("sha256:2"), config);
    engine.state().containers.insert("b".to_owned(), strange);
    let following = Following::heard(&engine).await;
    let snapshot = following.mirror.snapshot();
    assert_eq!(snapshot.containers["a"].labels["deployer.enable"], "true", "its user said so");
    let strange = &snapshot.containers["b"];
    assert!(strange.labels.is_empty(), "{:?}", strange.labels);
    assert_eq!(strange.owner, Owner::User, "neither a unit's nor Nomad's");
    engine.asked();
    for _ in 0..2 {
        engine.tell("die", "", "b");
        settled().await;
        assert_eq!(engine.asked(), ["container b"]);
    }
    engine.state().failing.insert("defaults".to_owned(), refused());
    engine.state().defaults.clear();
    let mut other = container("c", "other");
    other["Image"] = json!("sha256:3");
    engine.state().containers.insert("c".to_owned(), other);
    engine.tell("start", "", "c");
    settled().await;
    assert_eq!(
        following.mirror.snapshot().containers["c"].labels["deployer.enable"],
        "true",
        "its image cannot be had"
    );
}

#[tokio::test(start_paused = true)]
async fn a_repeated_event_is_nothing_new() {
    let engine = Scripted::with(&[("a", "web")]);
    let following = Following::heard(&engine).await;
    engine.state().containers.get_mut("a").expect("just made")["State"]["Status"] = json!("exited");
    engine.tell("die", "", "a");
    following.until(|snapshot| state(snapshot, "a") == "exited").await;
    let mut shown = following.mirror.subscribe();
    shown.mark_unchanged();
    engine.repeat("die", "a");
    settled().await;
    assert!(!shown.has_changed().expect("it lives"));
}

#[tokio::test(start_paused = true)]
async fn facts_are_taken_from_the_inspection() {
    let engine = Scripted::with(&[("a", "web")]);
    engine.state().containers.get_mut("a").expect("just made")["HostConfig"] = json!({"NetworkMode": "container:vpn"});
    let following = Following::heard(&engine).await;
    let snapshot = following.mirror.snapshot();
    let web = &snapshot.containers["a"];
    assert_eq!((&*web.name, &*web.image_id, &*web.config_image), ("web", "sha256:1", "registry.test/web:1"));
    assert_eq!(
        (web.labels["deployer.enable"].as_str(), nanos(&web.started_at), web.health),
        ("true", 1_000_000_000, None)
    );
    assert_eq!(web.leans_on[0].on, "vpn");
    assert_eq!(snapshot.images["sha256:1"].tags.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn events_while_everything_is_listed_are_not_overwritten_by_the_list() {
    let engine = Scripted::with(&[("a", "web"), ("b", "gone")]);
    engine.hold("containers");
    let following = Following::begin(engine.clone());
    settled().await;
    // The list says that both run, and knows nothing of the third.
    engine.state().containers.remove("b");
    engine.tell("destroy", "", "b");
    engine.state().containers.insert("c".into(), container("c", "new"));
    engine.tell("create", "", "c");
    engine.state().containers.get_mut("a").expect("just made")["State"]["Status"] = json!("exited");
    engine.tell("die", "", "a");
    settled().await;
    engine.let_go();
    following.until(is_heard).await;
    settled().await;
    let snapshot = following.mirror.snapshot();
    assert_eq!(snapshot.containers.keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(state(&snapshot, "a"), "exited");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_overtaken_is_not_believed() {
    let engine = Scripted::with(&[("a", "web")]);
    let following = Following::heard(&engine).await;
    engine.hold("container a");
    let web = Thing::Container("a".into());
    let early = following.mirror.look_again(&web);
    let late = async {
        settled().await;
        engine.state().held.clear();
        engine.state().containers.remove("a");
        following.mirror.look_again(&web).await.expect("answered");
        engine.let_go();
    };
    let (early, ()) = tokio::join!(early, late);
    early.expect("answered");
    assert_eq!(state(&following.mirror.snapshot(), "a"), "", "it does not come back");
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_check_stands_above_an_inspection_that_began_before() {
    let engine = Scripted::with(&[("a", "web")]);
    engine.state().containers.get_mut("a").expect("just made")["State"]["Health"] = json!({"Status": "starting"});
    let following = Following::heard(&engine).await;
    engine.hold("container a");
    engine.tell("rename", "", "a");
    settled().await;
    engine.tell("health_status", "unhealthy", "a");
    settled().await;
    engine.let_go();
    settled().await;
    let health = following.mirror.snapshot().containers["a"].health;
    assert_eq!(health, Some(Health::Unhealthy));
}

#[tokio::test(start_paused = true)]
async fn one_that_cannot_be_inspected_hides_no_other() {
    let engine = Scripted::with(&[("a", "web"), ("b", "broken"), ("c", "strange")]);
    engine.state().failing.insert("container c".into(), refused());
    let following = Following::heard(&engine).await;
    assert_eq!(following.mirror.snapshot().containers.keys().collect::<Vec<_>>(), ["a", "b"]);
    engine.state().failing.insert("container b".into(), refused());
    engine.state().containers.get_mut("b").expect("just made")["State"]["Status"] = json!("exited");
    engine.tell("die", "", "b");
    following.until(|snapshot| state(snapshot, "b") == "exited").await;
    let snapshot = following.mirror.snapshot();
    assert!(is_heard(&snapshot));
    assert_eq!((state(&snapshot, "a"), snapshot.containers["b"].labels.len()), ("running".into(), 1));
}

/// What was done is seen by the next look, though the engine has told nothing of it yet.
#[tokio::test(start_paused = true)]
async fn a_decision_never_rests_on_what_was_before_an_act() {
    let engine = Scripted::with(&[("a", "web"), ("b", "other")]);
    let following = Following::heard(&engine).await;
    let mirror = &following.mirror;
    engine.state().containers.remove("a");
    engine.state().images.push(ImageSummary::named("sha256:2", ["registry.test/web:1"]));
    engine.state().images[0].tags.clear();
    mirror.acted_on(Thing::Container("a".into()));
    mirror.acted_on(Thing::Image("registry.test/web:1".into()));
    let snapshot = mirror.current().await.expect("heard");
    assert_eq!((state(&snapshot, "a"), state(&snapshot, "b")), (String::new(), "running".into()));
    assert_eq!(snapshot.images["sha256:2"].tags.len(), 1);
    assert!(snapshot.images["sha256:1"].tags.is_empty(), "the tag has moved");
    assert_eq!(engine.asked(), ["container a", "image registry.test/web:1"]);
    mirror.current().await.expect("heard");
    assert_eq!(engine.asked(), [""; 0], "once is enough");
    mirror.acted_on(Thing::Container("b".into()));
    engine.tell("start", "", "b");
    settled().await;
    mirror.current().await.expect("heard");
    assert_eq!(engine.asked(), ["container b"], "the event has shown it");
}

/// As in a recovery, which begins before anything else.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_nobody_follows_looks_at_everything_each_time() {
    let engine = Scripted::with(&[("a", "web")]);
    let mirror = Mirror::new(Arc::new(engine.clone()), || Box::new(|_| Owner::User));
    for word in ["running", "exited"] {
        engine.state().containers.get_mut("a").expect("just made")["State"]["Status"] = json!(word);
        assert_eq!(state(&mirror.current().await.expect("answered"), "a"), word);
    }
    engine.die();
    assert!(mirror.current().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_persons_hand_is_told_from_a_failure_also_after_the_container_is_gone() {
    let engine = Scripted::with(&[("a", "web"), ("b", "crashed")]);
    let following = Following::heard(&engine).await;
    let started = nanos(&following.mirror.snapshot().containers["a"].started_at);
    for action in ["kill", "die", "stop", "destroy"] {
        engine.tell(action, "", "a");
    }
    engine.tell("die", "", "b");
    settled().await;
    let kinds = |id: &str| following.mirror.deeds(id, started).iter().map(|deed: &Deed| deed.kind).collect::<Vec<_>>();
    assert_eq!(kinds("a"), [DeedKind::Kill { signal: None }, DeedKind::Stop, DeedKind::Destroy]);
    assert!(kinds("b").is_empty(), "it ended by itself");
    assert!(following.mirror.deeds("a", i64::MAX).is_empty(), "nothing since");
}

/// As Engine 20.10 answers while it removes an image: `layer does not exist`.
#[tokio::test(start_paused = true)]
async fn an_image_that_cannot_be_inspected_is_read_off_the_list() {
    let engine = Scripted::with(&[("a", "web")]);
    let following = Following::heard(&engine).await;
    engine.state().failing.insert("image sha256:1".into(), refused());
    following.mirror.look_again(&Thing::Image("sha256:1".into())).await.expect("the list tells");
    assert!(is_heard(&following.mirror.snapshot()));
    engine.state().failing.insert("images".into(), refused());
    following.mirror.look_again(&Thing::Image("sha256:1".into())).await.expect_err("nothing tells");
}
