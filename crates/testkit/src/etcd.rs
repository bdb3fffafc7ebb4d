//! An etcd of one member; several of them make a cluster.

mod cluster;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::authority::{Authority, Issued};
use crate::directory::Directory;
use crate::http::{Address, Request};
use crate::port::free_port;
use crate::process::{Process, run};
use crate::wait::wait_until;

pub use cluster::EtcdCluster;

/// The user who may do everything, once authentication is on.
const ROOT: &str = "root";

/// How an etcd is to be run.
#[derive(Clone, Default)]
pub struct EtcdOptions {
    /// Serves TLS with a certificate of this authority, and refuses clients without one.
    pub authority: Option<Arc<Authority>>,
    /// Further arguments, such as `--auth-token-ttl=1`.
    pub arguments: Vec<String>,
}

/// A running etcd on 127.0.0.1 with data of its own. It ends, and its data goes, when it is dropped.
pub struct Etcd {
    // The process comes first because fields are dropped in order: it must not outlive its files.
    process: Process,
    command: Command,
    directory: Directory,
    ports: Ports,
    /// What `etcdctl` shows to a server that asks for certificates.
    operator: Option<(Arc<Authority>, Issued)>,
    has_users: bool,
}

/// Where a member listens: for clients, for other members, and in the clear for whoever asks how it is.
#[derive(Clone, Copy)]
struct Ports {
    client: u16,
    peer: u16,
    health: u16,
}

impl Ports {
    fn free() -> Self {
        Self { client: free_port(), peer: free_port(), health: free_port() }
    }

    fn peer_url(self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }
}

impl Etcd {
    /// Starts one and waits until it has a leader, which is itself.
    ///
    /// # Panics
    ///
    /// When it does not get there.
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&EtcdOptions::default())
    }

    /// The same, run as told.
    #[track_caller]
    pub fn start_with(options: &EtcdOptions) -> Self {
        let ports = Ports::free();
        let etcd = Self::spawn("testkit", ports, &format!("testkit={}", ports.peer_url()), options);
        etcd.wait_until_it_is_healthy();
        etcd
    }

    /// Starts a member of a cluster without waiting for it.
    #[track_caller]
    fn spawn(name: &str, ports: Ports, cluster: &str, options: &EtcdOptions) -> Self {
        let directory = Directory::make();
        let scheme = if options.authority.is_some() { "https" } else { "http" };
        let client = format!("{scheme}://127.0.0.1:{}", ports.client);
        let (peer, health) = (ports.peer_url(), format!("http://127.0.0.1:{}", ports.health));
        let mut command = Command::new("etcd");
        command.args(["--name", name, "--data-dir"]).arg(directory.join("data"));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--listen-metrics-urls", &health, "--initial-cluster", cluster]);
        // A tenth of a second of processor for every password checked would be most of what a test does.
        command.args(["--bcrypt-cost", "4"]).args(&options.arguments);
        let mut operator = None;
        if let Some(authority) = &options.authority {
            let server = authority.issue("etcd");
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(authority.certificate());
            command.arg("--cert-file").arg(&server.certificate).arg("--key-file").arg(&server.key);
            operator = Some((Arc::clone(authority), authority.issue(ROOT)));
        }
        // etcd 3.4 takes every ETCD_ variable for a setting, and one of them may be meant for its client.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ETCD")) {
            command.env_remove(name);
        }
        let process = Process::spawn("etcd", &command, directory.path());
        Self { process, command, directory, ports, operator, has_users: false }
    }

    /// `127.0.0.1:PORT`, where clients reach it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.client)
    }

    /// `http://127.0.0.1:PORT`, or `https`.
    pub fn url(&self) -> String {
        let scheme = if self.operator.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
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

    /// The same without its data: a server of the same address that has never heard of anything.
    #[track_caller]
    pub fn restart_empty(&mut self) {
        self.process.kill_9();
        std::fs::remove_dir_all(self.directory.join("data")).expect("a server that ran has data");
        self.restart();
    }

    /// Makes a user who may read and write what begins with a prefix, and nothing else, and switches authentication
    /// on; `control` goes on as root. The empty prefix stands for everything.
    #[track_caller]
    pub fn require_users(&mut self, user: &str, password: &str, prefix: &str) {
        self.control(["user", "add", &format!("{ROOT}:{ROOT}")]);
        self.control(["role", "add", ROOT]);
        self.control(["user", "grant-role", ROOT, ROOT]);
        self.control(["role", "add", user]);
        self.control(["role", "grant-permission", "--prefix=true", user, "readwrite", prefix]);
        self.control(["user", "add", &format!("{user}:{password}")]);
        self.control(["user", "grant-role", user, user]);
        self.control(["auth", "enable"]);
        self.has_users = true;
    }

    /// What it counts of itself, in the text form of Prometheus.
    ///
    /// # Panics
    ///
    /// When it does not answer.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let answer = Request::new("GET", "/metrics").send(&self.in_the_clear());
        answer.unwrap_or_else(|error| panic!("etcd does not answer: {error}")).text().to_owned()
    }

    /// Runs `etcdctl` (API 3) with these arguments and returns what it printed, trimmed.
    ///
    /// # Panics
    ///
    /// When it fails, with what it said.
    #[track_caller]
    pub fn control<const N: usize>(&self, arguments: [&str; N]) -> String {
        self.try_control(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`Etcd::control`], for a member that may not answer.
    ///
    /// # Errors
    ///
    /// What `etcdctl` said.
    pub fn try_control<const N: usize>(&self, arguments: [&str; N]) -> Result<String, String> {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(self.url());
        if let Some((authority, operator)) = &self.operator {
            command.arg("--cacert").arg(authority.certificate());
            command.arg("--cert").arg(&operator.certificate).arg("--key").arg(&operator.key);
        }
        if self.has_users {
            command.args(["--user", &format!("{ROOT}:{ROOT}")]);
        }
        run(command.args(arguments))
    }

    /// Where it says to anybody how it is.
    fn in_the_clear(&self) -> Address {
        Address::Tcp(format!("127.0.0.1:{}", self.ports.health))
    }

    #[track_caller]
    fn wait_until_it_is_healthy(&self) {
        let address = self.in_the_clear();
        wait_until(Duration::from_secs(20), "etcd to be healthy", || {
            match Request::new("GET", "/health").send(&address) {
                Ok(answer) if answer.text().contains("true") => Ok(()),
                other => Err(format!("{:?}", other.map(|answer| answer.text()))),
            }
        });
    }
}
