//! Hooks: what is taken is never lost, and what must not be taken is not.

mod common;

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{BINARY, SOON, Stage};
use deployer_testkit::{Hook, wait_until};

/// The registry is away while the hooks come in, so none is resolved before the kill; and the slow check is off, so
/// nothing but what was accepted can bring the daemon to ask again.
#[test]
fn every_hook_that_was_answered_before_a_kill_is_resolved_after_it() {
    let ci = Hook::native("/hooks/ci");
    let mut stage = Stage::with(|builder| builder.hook(&ci).settings("registry_check = \"off\""));
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    stage.registry.notify(Vec::new());
    let digest = stage.push("v2");
    stage.registry.stop();
    let body = format!("{{\"image\": \"{}\"}}", stage.image());
    let (stop, accepted) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    if stage.daemon.post(&ci, &body).is_ok_and(|answer| answer.status == 202) {
                        accepted.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        wait_until(SOON, "hooks to be taken", || {
            let taken = accepted.load(Ordering::Relaxed);
            if taken > 50 { Ok(()) } else { Err(taken) }
        });
        let kill = Command::new("kill").args(["-9", &stage.daemon.pid().to_string()]).status();
        stop.store(true, Ordering::Relaxed);
        assert!(kill.expect("kill can be run").success());
    });
    stage.registry.restart();
    stage.daemon.restart();
    stage.wait_for_digest(web.name(), &digest);
    stage.assert_settled(&web, "v2");
}

#[test]
fn a_hook_without_the_secret_or_without_sense_changes_nothing() {
    let ci = Hook::native("/hooks/ci");
    let stage = Stage::with(|builder| builder.hook(&ci));
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    let status = |hook: &Hook, body: &str| stage.daemon.post(hook, body).expect("an answer").status;
    assert_eq!(status(&Hook::native("/hooks/ci"), "{}"), 401, "another secret");
    assert_eq!(status(&Hook::native("/hooks/nowhere"), "{}"), 404);
    assert_eq!(status(&ci, "not JSON"), 400);
    assert_eq!(status(&ci, &format!("{{\"image\": \"{}\"}}", "x".repeat(9 << 20))), 413);
    assert_eq!(status(&ci, "{\"image\": \"nobody/runs:this\"}"), 202, "not ours, and the sender need not know");
    assert_eq!(status(&ci, &format!("{{\"image\": \"{}\"}}", stage.image().trim_end_matches(":latest"))), 202);
    stage.assert_settled(&web, "v1");
    assert_eq!(web.id(), web.first_id());
    assert!(!stage.daemon.log().contains(&ci.authorization()), "no secret is logged");
}

/// Docker Hub's own call, of a push to the test's registry: nothing can be pushed to Docker Hub from here.
#[test]
fn a_push_that_docker_hub_tells_of_is_deployed_and_its_secret_is_nowhere() {
    let mut hook = None;
    let mut stage = Stage::with_registry(|builder, registry| {
        let hub = hook.insert(Hook::dockerhub("/hooks/hub", &registry.address()));
        builder.hook(hub).settings("registry_check = \"off\"")
    });
    let hub = hook.expect("it was configured");
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    stage.registry.notify(Vec::new());
    let digest = stage.push("v2");
    let body = r#"{"push_data": {"tag": "latest"}, "repository": {"repo_name": "acme/web"}, "callback_url": "https://evil.example/"}"#;
    let post = |hook: &Hook| stage.daemon.post(hook, body).expect("an answer").status;
    assert_eq!(post(&Hook::dockerhub("/hooks/hub", "elsewhere")), 401, "another secret");
    assert_eq!(post(&hub), 202);
    stage.wait_for_digest(web.name(), &digest);
    stage.assert_settled(&web, "v2");
    let log = stage.daemon.log();
    assert!(log.contains("path = \"/hooks/hub\"") && !log.contains(hub.secret()), "no secret is logged: {log}");
}

#[test]
fn a_second_daemon_on_the_same_state_directory_says_so_and_ends() {
    let stage = Stage::new();
    let mut second = Command::new(BINARY);
    second.args(["run", "--listen", "127.0.0.1:0", "--state-dir"]).arg(stage.daemon.state_directory());
    let output = second.output().expect("the binary can be run");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use by another deployer"), "{output:?}");
}
