//! A child process that is ended by its pid whatever becomes of the test.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_until;

/// How much of a child's log a failing test prints; the end is what tells.
const LOG_TAIL_LINES: usize = 80;

/// From a SIGSTOP until it has reached every thread, on a machine with much else to do.
const FREEZES_WITHIN: Duration = Duration::from_secs(10);

/// A running child. Dropping it kills it and waits for it; in a panic its log is printed as well.
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command` with its output appended to `<name>.stdout` and `<name>.stderr` in `log_directory`.
    ///
    /// # Panics
    ///
    /// When the logs cannot be opened or the program cannot be started.
    #[track_caller]
    pub fn spawn(name: &str, command: &Command, log_directory: &Path) -> Self {
        Self::spawn_ended_by(name, command, log_directory, "KILL")
    }

    /// Like [`Process::spawn`], for a child that has children of its own to end: the signal (`TERM`, `KILL`, …) that
    /// the kernel sends it when this process dies without running any destructor.
    #[track_caller]
    pub(crate) fn spawn_ended_by(name: &str, command: &Command, log_directory: &Path, signal: &str) -> Self {
        let stdout = log_directory.join(format!("{name}.stdout"));
        let stderr = log_directory.join(format!("{name}.stderr"));
        let mut command = dying_with_this_process(command, signal);
        command.stdin(Stdio::null()).stdout(append_to(&stdout)).stderr(append_to(&stderr));
        let child = spawn_from_lasting_thread(command);
        let child = child.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Self { name: name.to_owned(), child, stdout, stderr }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; a process that has ended already gets none.
    pub fn signal(&mut self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = Pid::from_raw(self.child.id() as i32)
        {
            // A process that ends between the look and the signal stays a zombie of ours: the pid is not reused.
            let _ = kill_process(pid, signal);
        }
    }

    /// Stops it as SIGSTOP does: it runs no further, and nobody is told. A signal takes effect a while after it was
    /// sent, so this waits until the last thread stands still.
    ///
    /// # Panics
    ///
    /// When one of them still runs after some seconds.
    #[track_caller]
    pub fn freeze(&mut self) {
        self.signal(Signal::STOP);
        let threads = format!("/proc/{}/task", self.child.id());
        wait_until(FREEZES_WITHIN, &format!("{} to stand still", self.name), || {
            let running = states_of(&threads).into_iter().filter(|state| !matches!(state, 'T' | 'Z')).count();
            if running == 0 { Ok(()) } else { Err(format!("{running} threads run")) }
        });
    }

    /// Lets it go on after [`Process::freeze`].
    pub fn thaw(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Kills it as `kill -9` does, and waits until it is gone.
    pub fn kill_9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end; `None` if it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                _ => return None,
            }
        }
    }

    /// What it has written to its standard output, over all processes of that name and directory.
    pub fn stdout(&self) -> String {
        read_lossy(&self.stdout)
    }

    /// Where its standard error is appended to.
    pub fn stderr_file(&self) -> &Path {
        &self.stderr
    }

    /// What it has written to its standard error, over all processes of that name and directory.
    pub fn stderr(&self) -> String {
        read_lossy(&self.stderr)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_9();
        if thread::panicking() {
            for (stream, text) in [("stdout", self.stdout()), ("stderr", self.stderr())] {
                let lines: Vec<&str> = text.lines().collect();
                let tail = &lines[lines.len().saturating_sub(LOG_TAIL_LINES)..];
                if !tail.is_empty() {
                    eprintln!("---- {} {stream}, last {} lines ----\n{}", self.name, tail.len(), tail.join("\n"));
                }
            }
        }
    }
}

/// The same command, started through `setpriv` so that the kernel signals the child when this process dies without
/// running any destructor. setpriv replaces itself by the program, so the pid is the program's.
fn dying_with_this_process(command: &Command, signal: &str) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", signal, "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(directory) = command.get_current_dir() {
        wrapped.current_dir(directory);
    }
    wrapped
}

type Spawned = std::io::Result<Child>;

/// The kernel takes the death of the *thread* that started a child for the death of its parent, so all children are
/// started from one thread that lives as long as the process does, and not from whatever thread a test uses.
fn spawn_from_lasting_thread(command: Command) -> Spawned {
    static SPAWNER: OnceLock<Sender<(Command, Sender<Spawned>)>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, inbox) = mpsc::channel::<(Command, Sender<Spawned>)>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                // The asker waits for the reply; if it is gone, so is the test, and the child ends with the process.
                let _ = reply.send(command.spawn());
            }
        });
        jobs
    });
    let (reply, answer) = mpsc::channel();
    spawner.send((command, reply)).expect("the spawner's inbox is never closed");
    answer.recv().expect("the spawner answers every job")
}

/// The state of each thread below a `/proc/<pid>/task`, as a letter of proc(5).
fn states_of(threads: &str) -> Vec<char> {
    let stats = fs::read_dir(threads).into_iter().flatten().flatten().map(|thread| thread.path().join("stat"));
    // The name of the program stands before it in brackets, and may hold brackets itself.
    let state = |stat: PathBuf| fs::read_to_string(stat).ok()?.rsplit_once(") ")?.1.chars().next();
    stats.filter_map(state).collect()
}

fn append_to(path: &Path) -> Stdio {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.unwrap_or_else(|error| panic!("cannot open {}: {error}", path.display())).into()
}

fn read_lossy(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Runs a command to its end and returns its standard output, trimmed, or what it said on its standard error.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(OsStr::to_string_lossy);
    let what = words.collect::<Vec<_>>().join(" ");
    match command.stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        Ok(output) => Err(format!("{what}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Err(format!("{what}: {error}")),
    }
}
