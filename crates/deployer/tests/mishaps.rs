//! T55: a call to the engine fails, breaks off before or after it took effect, or is never answered, at any place of a
//! replacement. Afterwards one container of the name runs and serves, the old version or the new one, nothing is left over;
//! and once a person says `retry`, it is the new one.
//!
//! In the ordinary run it is done to each call that changes something: refused, and without its answer. `make test-deep` does
//! all of it to every call.

mod common;

use std::thread;
use std::time::Duration;

use common::Stage;
use deployer_testkit::{Engine, Interposer, Mishap, wait_until};

/// Cases that run side by side; more would only slow each other down.
const AT_ONCE: usize = 3;
/// More calls than a replacement makes.
const CALLS_MAX: usize = 150;
/// For a replacement with a call that is never answered, which is given up after a minute, and may be tried again.
const LONG: Duration = Duration::from_secs(300);

/// One mishap. Gives back what it happened to; `None` if the replacement was over before.
fn survives(number: usize, mishap: Mishap, only_changes: bool) -> Option<String> {
    let interposer = Interposer::start(&Engine::shared());
    let stage = Stage::with(|builder| builder.engine(&interposer.engine()));
    stage.push("v1");
    // A longer gate is made of looks like those of a short one.
    let web = stage.container("web").label("deployer.health.stable", "100ms").label("deployer.monitor", "0");
    let web = stage.run(&web);
    interposer.arm(number, mishap, only_changes);
    let digest = stage.push("v2");
    wait_until(LONG, "the replacement to come to an end", || {
        let found = stage.container_status(web.name()).ok_or("it is not in the status")?;
        let is_over = found["state"] == "failed_here" || (found["state"] == "current" && found["digest"] == digest);
        if is_over { Ok(()) } else { Err(found.to_string()) }
    });
    stage.wait_for_quiet();
    let version = web.version().expect("one container serves");
    assert!(["v1", "v2"].contains(&version.as_str()), "{version}");
    stage.assert_settled(&web, &version);
    if version == "v1" {
        assert_eq!(stage.daemon.cli(["retry", &stage.image()]).code, Some(0));
    }
    stage.wait_for_digest(web.name(), &digest);
    stage.assert_settled(&web, "v2");
    interposer.struck()
}

/// Lets it happen to one call after the other, until a replacement has no more of them.
fn survives_each(mishap: Mishap, only_changes: bool) {
    let (mut struck, mut failed) = (Vec::new(), Vec::new());
    for some in (0..CALLS_MAX).collect::<Vec<_>>().chunks(AT_ONCE) {
        let ended: Vec<_> = thread::scope(|scope| {
            let running = some.iter().map(|number| scope.spawn(|| survives(*number, mishap, only_changes)));
            running.collect::<Vec<_>>().into_iter().map(|run| run.join()).collect()
        });
        failed.extend(some.iter().zip(&ended).filter(|(_, ended)| ended.is_err()).map(|(number, _)| *number));
        // One that happens to make fewer calls is not the end of it.
        let is_last = ended.iter().all(|ended| matches!(ended, Ok(None)));
        struck.extend(ended.into_iter().filter_map(|ended| ended.ok().flatten()));
        if is_last {
            break;
        }
    }
    eprintln!("{mishap:?}: {} calls, such as {:?}", struck.len(), struck.first());
    assert!(failed.is_empty(), "{mishap:?} was not survived at the calls {failed:?}");
    for part in ["/create", "/stop", "/rename", "/start", "DELETE /"] {
        assert!(struck.iter().any(|call| call.contains(part)), "{part} was not struck: {struck:?}");
    }
}

#[test]
fn t55_a_change_that_is_refused() {
    survives_each(Mishap::Refused, true);
}

#[test]
fn t55_t62_a_change_whose_answer_is_lost() {
    survives_each(Mishap::CutAfter, true);
}

#[test]
#[ignore = "minutes long: make test-deep"]
fn t55_any_call_that_is_refused() {
    survives_each(Mishap::Refused, false);
}

#[test]
#[ignore = "minutes long: make test-deep"]
fn t55_any_call_that_breaks_off() {
    survives_each(Mishap::CutBefore, false);
}

#[test]
#[ignore = "minutes long: make test-deep"]
fn t55_t62_any_call_whose_answer_is_lost() {
    survives_each(Mishap::CutAfter, false);
}

#[test]
#[ignore = "minutes long: make test-deep"]
fn t55_t62_any_call_that_is_never_answered() {
    survives_each(Mishap::Unanswered, false);
}
