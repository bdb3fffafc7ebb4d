//! The built binary, run as an operator would, and spoken to through its command line.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::config::{Hook, write_config};
use crate::directory::Directory;
use crate::engine::Engine;
use crate::host::Host;
use crate::http::{Address, Request, Response};
use crate::port::free_port;
use crate::process::Process;
use crate::scene::Scene;
use crate::wait::wait_until;

/// From the start to the address it listens on.
const START_LIMIT: Duration = Duration::from_secs(30);
/// From SIGTERM to the end; a replacement under way is finished first.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// For one run of the command line, `deploy` with its gate and monitor included.
const CLI_LIMIT: Duration = Duration::from_secs(180);

/// How a daemon is to be run; [`DaemonBuilder::start`] runs it.
pub struct DaemonBuilder {
    binary: PathBuf,
    // Runs the binary, until its arguments are added.
    command: Command,
    directory: Directory,
    engine: Engine,
    address: String,
    manage: String,
    node: String,
    settings: String,
    hooks: Vec<Hook>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl DaemonBuilder {
    /// A route for webhooks.
    pub fn hook(mut self, hook: &Hook) -> Self {
        self.hooks.push(hook.clone());
        self
    }

    /// TOML for the configuration file, before the hooks.
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings.push_str(toml);
        self.settings.push('\n');
        self
    }

    /// The engine it stands beside, instead of the shared one.
    pub fn engine(mut self, engine: &Engine) -> Self {
        self.engine = engine.clone();
        self
    }

    /// Runs on that host, beside its engine: it listens at the host's address, and reaches what the host does.
    pub fn on(mut self, host: &Host) -> Self {
        self.command = host.enter(&self.binary.to_string_lossy());
        self.address = format!("{}:{}", host.address(), free_port());
        self.engine(host.engine())
    }

    /// Its name in the cluster, instead of one made from the scene's id.
    pub fn node(mut self, name: &str) -> Self {
        self.node = name.to_owned();
        self
    }

    /// What to manage instead of what carries the scene's id: `all`, or `labeled=VALUE`.
    pub fn manage(mut self, what: &str) -> Self {
        self.manage = what.to_owned();
        self
    }

    /// A further argument of `deployer run`.
    pub fn argument(mut self, word: &str) -> Self {
        self.arguments.push(word.to_owned());
        self
    }

    /// A variable for the daemon, such as a failpoint or `DOCKER_CONFIG`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Where it will listen, `ADDRESS:PORT`: known, and reserved, before it runs, and the same after a restart.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Runs it and waits until it listens.
    ///
    /// # Panics
    ///
    /// When it ends, or does not listen in time, with its log.
    #[track_caller]
    pub fn start(self) -> Daemon {
        let mut daemon = self.start_without_waiting();
        daemon.wait_until_it_listens();
        daemon
    }

    /// Runs it without waiting, for a test of what keeps it from starting.
    #[track_caller]
    pub fn start_without_waiting(self) -> Daemon {
        let state = self.directory.join("state");
        fs::create_dir_all(&state).expect("a directory in the temporary directory can be made");
        let config = write_config(self.directory.path(), &self.hooks, &self.settings);
        let mut command = self.command;
        // The login of whoever runs the tests is none of its business.
        command.env("DOCKER_CONFIG", self.directory.join("docker"));
        command.arg("run").arg("--config").arg(config).arg("--state-dir").arg(&state);
        command.args(["--docker", self.engine.address(), "--listen", &self.address, "--node", &self.node]);
        command.args(["--manage", &self.manage]).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let process = Process::spawn("deployer", &command, self.directory.path());
        Daemon {
            process,
            command,
            binary: self.binary,
            address: self.address,
            state,
            directory: self.directory,
            runs: AtomicU32::new(0),
        }
    }
}

/// A running `deployer run` with a state directory of its own, killed when dropped; its log is printed in a panic.
pub struct Daemon {
    // The process comes first because fields are dropped in order: it must not outlive its files.
    process: Process,
    command: Command,
    binary: PathBuf,
    address: String,
    state: PathBuf,
    directory: Directory,
    runs: AtomicU32,
}

impl Daemon {
    /// A daemon of that binary (`env!("CARGO_BIN_EXE_deployer")` in the deployer package's own tests) which manages
    /// the containers of the scene alone: those labelled `deployer.enable=<the scene's id>`.
    pub fn builder(binary: impl Into<PathBuf>, scene: &Scene) -> DaemonBuilder {
        let binary = binary.into();
        DaemonBuilder {
            command: Command::new(&binary),
            binary,
            directory: Directory::make(),
            engine: Engine::shared(),
            address: format!("127.0.0.1:{}", free_port()),
            manage: format!("labeled={}", scene.id()),
            node: scene.name("node"),
            settings: String::new(),
            hooks: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
        }
    }

    /// Where it serves hooks, `ADDRESS:PORT`, over all restarts.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its state directory, which outlives its restarts.
    pub fn state_directory(&self) -> &Path {
        &self.state
    }

    /// The socket of its local API.
    pub fn socket(&self) -> PathBuf {
        self.state.join("deployer.sock")
    }

    /// The file that it logs to, over all restarts.
    pub fn log_file(&self) -> &Path {
        self.process.stderr_file()
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// What it has logged, over all restarts.
    pub fn log(&self) -> String {
        self.process.stderr()
    }

    /// Kills it as `kill -9` does.
    pub fn kill_9(&mut self) {
        self.process.kill_9();
    }

    /// Asks it to stop, as a service manager does, and waits for the end.
    ///
    /// # Panics
    ///
    /// When it has not ended in two minutes.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.process.signal(Signal::TERM);
        self.process.wait(STOP_LIMIT).unwrap_or_else(|| panic!("deployer did not stop {STOP_LIMIT:?} after SIGTERM"))
    }

    /// Starts it again, killed first if it runs, with the same arguments and state, and waits until it listens.
    #[track_caller]
    pub fn restart(&mut self) {
        self.restart_with(&[]);
    }

    /// Like [`Daemon::restart`], with these variables set from now on; an empty value unsets one.
    #[track_caller]
    pub fn restart_with(&mut self, environment: &[(&str, &str)]) {
        self.restart_without_waiting(environment);
        self.wait_until_it_listens();
    }

    /// Like [`Daemon::restart_with`], without waiting: for a daemon that a failpoint holds before it listens.
    #[track_caller]
    pub fn restart_without_waiting(&mut self, environment: &[(&str, &str)]) {
        self.process.kill_9();
        for (name, value) in environment {
            if value.is_empty() {
                self.command.env_remove(name)
            } else {
                self.command.env(name, value)
            };
        }
        let _ = fs::remove_file(self.state.join("listen"));
        self.process = Process::spawn("deployer", &self.command, self.directory.path());
    }

    /// Runs the command line against this daemon: `daemon.cli(["status", "-o", "json"])`.
    ///
    /// # Panics
    ///
    /// When it has not ended in three minutes.
    #[track_caller]
    pub fn cli<const N: usize>(&self, arguments: [&str; N]) -> CliOutput {
        let mut process = self.cli_started(arguments);
        let Some(status) = process.wait(CLI_LIMIT) else {
            panic!("deployer {arguments:?} did not end in {CLI_LIMIT:?}")
        };
        CliOutput { code: status.code(), stdout: process.stdout(), stderr: process.stderr() }
    }

    /// Starts the command line against this daemon without waiting, for instance `events -f`.
    #[track_caller]
    pub fn cli_started<const N: usize>(&self, arguments: [&str; N]) -> Process {
        let mut command = Command::new(&self.binary);
        command.args(arguments).arg("--socket").arg(self.socket());
        let name = format!("cli-{}", self.runs.fetch_add(1, Ordering::Relaxed));
        Process::spawn(&name, &command, self.directory.path())
    }

    /// What `status -o json` prints.
    ///
    /// # Panics
    ///
    /// When it fails or prints no JSON.
    #[track_caller]
    pub fn status(&self) -> Value {
        self.try_status().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The status, where it may have none: without its engine a daemon tells of nothing.
    ///
    /// # Errors
    ///
    /// What it says instead.
    ///
    /// # Panics
    ///
    /// When it prints no JSON.
    #[track_caller]
    pub fn try_status(&self) -> Result<Value, String> {
        let output = self.cli(["status", "-o", "json"]);
        if output.code != Some(0) {
            return Err(format!("status fails: {output:?}"));
        }
        let status = serde_json::from_str(&output.stdout);
        Ok(status.unwrap_or_else(|error| panic!("status prints no JSON: {error}: {output:?}")))
    }

    /// Posts a body to a hook with its secret.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer.
    pub fn post(&self, hook: &Hook, body: &str) -> std::io::Result<Response> {
        let authorization = hook.authorization();
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let path = hook.path();
        let request = Request { headers: &headers, body: body.as_bytes(), ..Request::new("POST", &path) };
        request.send(&Address::Tcp(self.address.clone()))
    }

    /// Asks how it is, as a load balancer does.
    ///
    /// # Errors
    ///
    /// When the daemon does not answer.
    pub fn health(&self) -> std::io::Result<Response> {
        Request::new("GET", "/healthz").send(&Address::Tcp(self.address.clone()))
    }

    #[track_caller]
    fn wait_until_it_listens(&mut self) {
        let file = self.state.join("listen");
        let (process, address) = (&mut self.process, &self.address);
        wait_until(START_LIMIT, "deployer to listen", || {
            assert!(process.is_running(), "deployer ended instead of listening:\n{}", process.stderr());
            let written = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
            assert_eq!(written.trim(), address, "deployer listens where it was told to");
            TcpStream::connect(address).map_err(|error| format!("{address}: {error}"))
        });
    }
}

/// How a run of the command line ended.
#[derive(Clone, Debug)]
pub struct CliOutput {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// What it printed for programs and people.
    pub stdout: String,
    /// Progress and errors.
    pub stderr: String,
}
