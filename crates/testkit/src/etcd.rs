//! An etcd of one member.

use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::http::{Address, Request};
use crate::port::free_port;
use crate::process::{Process, run};
use crate::wait::wait_until;

/// A running etcd on 127.0.0.1 with data of its own. It ends, and its data goes, when it is dropped.
pub struct Etcd {
    // The process comes first because fields are dropped in order: it must not outlive its files.
    process: Process,
    command: Command,
    directory: TempDir,
    port: u16,
}

impl Etcd {
    /// Starts one and waits until it has a leader, which is itself.
    ///
    /// # Panics
    ///
    /// When it does not get there.
    #[track_caller]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory can be written");
        let (port, peer_port) = (free_port(), free_port());
        let (client, peer) = (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{peer_port}"));
        let mut command = Command::new("etcd");
        command.args(["--name", "testkit", "--data-dir"]).arg(directory.path().join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &format!("testkit={peer}")]);
        // etcd 3.4 takes every ETCD_ variable for a setting, and one of them may be meant for its client.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD")) {
            command.env_remove(name);
        }
        let process = Process::spawn("etcd", &command, directory.path());
        let etcd = Self { process, command, directory, port };
        etcd.wait_until_it_is_healthy();
        etcd
    }

    /// `127.0.0.1:PORT`, where clients reach it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process, to be stopped, killed or held by a signal.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Starts it again, killed first if it runs, at the same address with the same data.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.kill_9();
        self.process = Process::spawn("etcd", &self.command, self.directory.path());
        self.wait_until_it_is_healthy();
    }

    /// Runs `etcdctl` (API 3) with these arguments and returns what it printed, trimmed.
    ///
    /// # Panics
    ///
    /// When it fails, with what it said.
    #[track_caller]
    pub fn control<const N: usize>(&self, arguments: [&str; N]) -> String {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(self.address()).args(arguments);
        run(&mut command).unwrap_or_else(|error| panic!("{error}"))
    }

    #[track_caller]
    fn wait_until_it_is_healthy(&self) {
        wait_until(Duration::from_secs(20), "etcd to be healthy", || {
            let answer = Request::new("GET", "/health").send(&Address::Tcp(self.address()));
            match answer {
                Ok(answer) if answer.text().contains("true") => Ok(()),
                other => Err(format!("{:?}", other.map(|answer| answer.text()))),
            }
        });
    }
}
