//! The daemon's guard, tried with a stand-in for the binary: the kit must not depend on what it tests.

use deployer_testkit::{Daemon, Hook, Scene};

use crate::stand_in::stand_in;

#[test]
fn a_daemon_keeps_its_address_and_state_over_kill_stop_and_restart() {
    let scene = Scene::new();
    let directory = tempfile::tempdir().expect("the temporary directory can be written");
    let binary = stand_in(directory.path());
    let hook = Hook::native("/hooks/ci");
    let mut daemon = Daemon::builder(&binary, &scene).hook(&hook).settings("timer = 3").env("MARK", "one").start();

    assert!(
        daemon.log().starts_with("timer = 3\n\n[[hook]]\npath = \"/hooks/ci\"\nsource = \"native\"\n"),
        "{}",
        daemon.log()
    );
    assert_eq!(daemon.cli(["fail"]).code, Some(2));
    assert_eq!(daemon.cli(["fail"]).stderr, "no such thing\n");
    let arguments = daemon.status()["arguments"].as_str().expect("the stand-in prints its arguments").to_owned();
    assert!(arguments.starts_with("status -o json --socket /"), "{arguments}");
    assert!(daemon.post(&hook, "{}").is_ok(), "it listens");

    let address = daemon.address().to_owned();
    daemon.kill_9();
    assert!(daemon.post(&hook, "{}").is_err(), "it is gone");
    daemon.restart_with(&[("MARK", "two")]);
    assert_eq!(daemon.address(), address);
    assert!(daemon.log().ends_with("started with MARK=two\n"), "{}", daemon.log());
    assert!(daemon.stop().code().is_none(), "a signal ended the stand-in");
    assert!(!daemon.process().is_running());
}
