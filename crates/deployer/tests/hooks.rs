//! Hooks: what is taken is never lost, and what must not be taken is not.

mod common;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{BINARY, REPOSITORY, SOON, Stage};
use deployer_testkit::{AppImage, Daemon, Hook, wait_until};

#[test]
fn every_hook_that_was_answered_before_a_kill_is_resolved_after_it() {
    let ci = Hook::native("/hooks/ci");
    let mut stage = Stage::with(|builder| builder.hook(&ci));
    stage.push("v1");
    let web = stage.run(&stage.container("web"));
    stage.registry.notify(Vec::new());
    let body = format!("{{\"image\": \"{}\"}}", stage.image());
    let (stop, accepted) = (AtomicBool::new(false), AtomicUsize::new(0));
    let digest = thread::scope(|scope| {
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
        // The registry is away, so no resolve can serve what is accepted from here on.
        let digest = AppImage::new("v2").push(&stage.scene, &stage.registry, REPOSITORY, "latest");
        let before = accepted.load(Ordering::Relaxed);
        wait_until(SOON, "a hook after the push to be taken", || {
            let taken = accepted.load(Ordering::Relaxed);
            if taken > before + 4 { Ok(()) } else { Err(taken) }
        });
        deployer_testkit::kill_9(stage.daemon.pid());
        stop.store(true, Ordering::Relaxed);
        digest
    });
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

#[test]
fn a_second_daemon_on_the_same_state_directory_says_so_and_ends() {
    let stage = Stage::new();
    let state = stage.daemon.state_directory().display().to_string();
    let mut second = Daemon::builder(BINARY, &stage.scene).argument("--state-dir").argument(&state).start_without_waiting();
    let status = second.process().wait(SOON).expect("it ends");
    assert_eq!(status.code(), Some(1));
    assert!(second.log().contains("in use by another deployer"), "{}", second.log());
}
