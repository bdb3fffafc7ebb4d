//! `deployer doctor` beside a real daemon, and beside what is wrong with one.

mod common;

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use common::{BINARY, SOON};
use deployer_testkit::{Daemon, Engine, Etcd, Hook, Scene, wait_until};
use serde_json::Value;

/// A daemon with two hooks, and a folder of logins that nobody else writes to.
struct Patient {
    daemon: Daemon,
    logins: tempfile::TempDir,
    _scene: Scene,
}

impl Patient {
    fn new() -> Self {
        let scene = Scene::new();
        let hub = Hook::dockerhub("/hooks/hub", "registry.example");
        let daemon = Daemon::builder(BINARY, &scene).hook(&Hook::native("/hooks/ci")).hook(&hub).start();
        Self { daemon, logins: tempfile::tempdir().expect("a folder"), _scene: scene }
    }

    fn state(&self, name: &str) -> PathBuf {
        self.daemon.state_directory().join(name)
    }

    fn run(&self, format: &str, further: &[&str]) -> Output {
        let mut command = Command::new(BINARY);
        command.args(["doctor", "-o", format, "--listen", self.daemon.address()]);
        command.arg("--config").arg(self.state("../deployer.toml")).arg("--state-dir").arg(self.state(""));
        if !further.contains(&"--docker") {
            command.args(["--docker", Engine::shared().address()]);
        }
        let path = format!("{}:{}", self.logins.path().display(), std::env::var("PATH").unwrap_or_default());
        command.arg("--socket").arg(self.state("deployer.sock")).args(further);
        command.env("DOCKER_CONFIG", self.logins.path()).env("PATH", path).output().expect("the binary runs")
    }

    /// The line of one check, and the exit code.
    #[track_caller]
    fn check(&self, check: &str, further: &[&str], expected: &str) {
        let output = self.run("json", further);
        let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let findings = report["findings"].as_array().expect("findings");
        let text = |finding: &Value| {
            let place = self.daemon.state_directory().display().to_string();
            let found = finding["found"].as_str().unwrap_or_default().replace(&place, "STATE");
            let logins = self.logins.path().display().to_string();
            format!("{} {}", finding["level"].as_str().unwrap_or_default(), found.replace(&logins, "LOGINS"))
        };
        let found: Vec<String> = findings.iter().filter(|finding| finding["check"] == check).map(text).collect();
        assert!(found.len() == 1 && found[0].starts_with(expected), "{check}: {found:?} is not {expected:?}");
        let has_problem = findings.iter().any(|finding| finding["level"] == "problem");
        assert_eq!(output.status.code(), Some(i32::from(has_problem)), "{output:?}");
    }
}

#[test]
fn a_daemon_that_runs_has_no_problem() {
    let patient = Patient::new();
    let address = patient.daemon.address();
    patient.check("configuration", &[], "ok ");
    patient.check("engine", &[], "ok docker ");
    patient.check("registries", &[], "ok asked by the engine");
    patient.check("logins", &[], "ok none");
    patient.check("state", &[], "ok STATE/ belongs to user");
    patient.check("daemon", &[], &format!("ok deployer {} answers at STATE/deployer.sock", env!("CARGO_PKG_VERSION")));
    patient.check("store", &[], "ok ");
    patient.check("hooks", &[], "ok 2, each with a secret");
    patient.check("listener", &[], &format!("ok deployer takes hooks at {address}"));
    patient.check("engine's clock", &[], "ok ");
    let output = patient.run("table", &[]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!((output.status.code(), said.lines().count()), (Some(0), 12), "{said}");
    assert!(said.lines().all(|line| line.starts_with("ok ") || line.starts_with("warning ")), "{said}");
}

#[test]
fn a_daemon_that_is_gone_is_missed_and_its_files_are_looked_at() {
    let mut patient = Patient::new();
    patient.daemon.stop();
    patient.check("daemon", &[], "problem nobody answers at STATE/deployer.sock");
    patient.check("state", &[], "ok STATE/ belongs to user");
    patient.check("store", &[], "ok its file ");
    patient.check("listener", &[], &format!("ok {} is free", patient.daemon.address()));
    patient.daemon.restart();
    patient.daemon.kill_9();
    patient.check("store", &[], "ok its file was not closed");
    fs::write(patient.state("store.redb"), "no store").expect("a file");
    patient.check("store", &[], "problem the store is unusable: STATE/store.redb: ");
    let lock = OpenOptions::new().write(true).open(patient.state("lock")).expect("a lock");
    lock.try_lock().expect("nobody else holds it");
    patient.check("state", &[], "problem STATE/ is in use by a deployer that does not answer");
    patient.check("store", &[], "warning only the daemon can tell");
}

#[test]
fn etcd_is_asked_where_no_daemon_speaks_for_it() {
    let mut patient = Patient::new();
    patient.daemon.stop();
    let mut etcd = Etcd::start();
    patient.check("store", &["--etcd", &etcd.url()], "ok etcd answers");
    etcd.process().kill_9();
    patient.check("store", &["--etcd", &etcd.url()], &format!("problem the store does not answer: {}: ", etcd.url()));
}

#[test]
fn a_daemon_that_hangs_is_told_from_one_that_is_gone() {
    let mut patient = Patient::new();
    patient.daemon.process().freeze();
    patient.check("daemon", &[], "problem no answer from STATE/deployer.sock: ");
    patient.check("state", &[], "problem STATE/ is in use by a deployer that does not answer");
    patient.check("listener", &[], "problem no answer from ");
    patient.daemon.process().thaw();
    // If it stood still for long, it listens to its engine anew.
    wait_until(SOON, "the daemon to hear its engine", || {
        let status = patient.daemon.cli(["status"]);
        if status.code == Some(0) { Ok(()) } else { Err(status.stderr) }
    });
    patient.check("daemon", &[], "ok ");
}

#[test]
fn another_program_on_the_address_is_told_from_deployer() {
    let mut patient = Patient::new();
    patient.daemon.stop();
    let listener = TcpListener::bind(patient.daemon.address()).expect("the address is free");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"status\":\"ok\"}");
        }
    });
    patient.check("listener", &[], "problem another program answers at ");
}

#[test]
fn an_engine_that_is_not_there_and_settings_that_are_wrong_are_problems() {
    let patient = Patient::new();
    patient.check("engine", &["--docker", "unix:///nobody/is/here"], "problem there is no unix:///nobody/is/here");
    patient.check(
        "engine",
        &["--docker", "tcp://127.0.0.1:9"],
        "problem ask the engine for its API version: cannot reach",
    );
    let socket = patient.state("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    let address = format!("unix://{}", socket.display());
    patient.check("engine", &["--docker", &address], "problem nobody answers at unix://STATE/dead.sock");
    patient.check("configuration", &["--interval", "soon"], "problem --interval or DEPLOYER_INTERVAL: ");
    fs::set_permissions(patient.state(""), fs::Permissions::from_mode(0o777)).expect("it is ours");
    patient.check("state", &[], "problem everybody may write to STATE/, mode 0777");
}

#[test]
fn a_helper_that_dockers_file_names_is_looked_for() {
    let patient = Patient::new();
    let file = patient.logins.path().join("config.json");
    let write = |text: &str| fs::write(&file, text).expect("a file");
    write(r#"{"auths": {"r.example": {"auth": "aHVudGVyMjpodW50ZXIy"}}}"#);
    patient.check("logins", &[], "ok those in LOGINS/config.json");
    write(r#"{"credsStore": "here", "credHelpers": {"r.example": "elsewhere"}}"#);
    patient.check("logins", &[], "problem LOGINS/config.json names docker-credential-elsewhere, which is not here");
    for name in ["docker-credential-here", "docker-credential-elsewhere"] {
        let program = patient.logins.path().join(name);
        fs::write(&program, "#!/bin/sh\n").expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }
    let expected = "ok those in LOGINS/config.json, with docker-credential-elsewhere, docker-credential-here";
    patient.check("logins", &[], expected);
    write("{");
    patient.check("logins", &[], "problem cannot read LOGINS/config.json: line 1, column 1");
}
