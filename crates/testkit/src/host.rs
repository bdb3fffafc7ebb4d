//! Further Docker hosts on one machine: an engine each, in a network namespace of its own.
//!
//! A host has its own loopback, bridge, firewall and addresses, as another machine has. It shares the kernel and the
//! clock. It reaches nothing of this machine but what [`Host::reach`] lets it, and this machine reaches its containers
//! by their addresses. Needs root.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::engine::Engine;
use crate::process::{Process, run};
use crate::wait::wait_until;

/// Hosts that can be there at once on one machine, over all tests: each has a number, and its networks from it.
const HOSTS_MAX: u8 = 64;
/// From SIGTERM to the end of an engine, its containers' last second included.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// An engine on a host of its own. Dropping it stops the engine and removes all of it.
pub struct Host {
    dockerd: Process,
    command: Command,
    engine: Engine,
    network: Network,
    directory: TempDir,
}

impl Host {
    /// Starts one and waits until its engine answers, about a second.
    ///
    /// # Panics
    ///
    /// When the namespace cannot be made (this needs root), or the engine does not answer.
    #[track_caller]
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory can be written");
        let network = Network::make();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("daemon.json"), "{}").expect("the temporary directory can be written");
        let engine = Engine::at_socket(&path("docker.sock"));
        let mut command = network.enter("dockerd");
        command.arg("--config-file").arg(path("daemon.json")).arg("--data-root").arg(path("data"));
        command.arg("--exec-root").arg(path("exec")).arg("--pidfile").arg(path("pid"));
        command.args(["--host", engine.address(), "--bip", &format!("{}.1/24", network.containers())]);
        command.args(["--shutdown-timeout", "2"]);
        let dockerd = Process::spawn_ended_by("dockerd", &command, directory.path(), "TERM");
        let mut host = Self { dockerd, command, engine, network, directory };
        host.wait_until_it_answers();
        host
    }

    /// Its engine, for containers, daemons and samplers.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Lets this host reach `127.0.0.1:PORT` of this machine under the same address, until the forward is dropped: a
    /// registry then has one name everywhere, and its connections can be cut.
    ///
    /// # Panics
    ///
    /// When the port is taken on the host, or `address` has no port.
    #[track_caller]
    pub fn reach(&self, address: &str) -> Forward {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let port = port.unwrap_or_else(|| panic!("{address} has no port"));
        Forward::start(self.network.listen(port), port)
    }

    /// Stops the engine as a service manager does; its containers stop with it.
    #[track_caller]
    pub fn stop(&mut self) {
        self.dockerd.signal(Signal::TERM);
        assert!(self.dockerd.wait(STOP_LIMIT).is_some(), "dockerd ends {STOP_LIMIT:?} after SIGTERM");
    }

    /// Kills the engine alone; its containers live on until it is started again.
    pub fn kill_9(&mut self) {
        self.dockerd.kill_9();
    }

    /// Starts the engine again, killed first if it runs, with everything it had.
    #[track_caller]
    pub fn restart(&mut self) {
        self.dockerd.kill_9();
        // An engine that was killed takes its containerd along, and leaves the pid files of both. It would wait for
        // whatever has those pids now, be it a zombie that nobody has reaped yet.
        for file in ["pid", "exec/containerd/containerd.pid"] {
            let _ = fs::remove_file(self.directory.path().join(file));
        }
        self.dockerd = Process::spawn_ended_by("dockerd", &self.command, self.directory.path(), "TERM");
        self.wait_until_it_answers();
    }

    #[track_caller]
    fn wait_until_it_answers(&mut self) {
        let (dockerd, engine) = (&mut self.dockerd, &self.engine);
        wait_until(Duration::from_secs(40), "the host's engine to answer", || {
            assert!(dockerd.is_running(), "dockerd ended instead of answering:\n{}", dockerd.stderr());
            engine.call("GET", "/info")
        });
        // An engine forwards nothing from outside to a port that is not published; a tester wants to.
        let mut accept = self.network.enter("iptables");
        accept.args(["--wait", "--insert", "DOCKER-USER", "--jump", "ACCEPT"]);
        run(&mut accept).unwrap_or_else(|error| panic!("{error}"));
    }

    /// Ends what an engine that was killed leaves behind: containerd, its shims, and their containers. All of them
    /// but the containers name this host's directory, which nobody else has, on their command line.
    fn end_leftovers(&self) {
        for process in self.processes() {
            let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
            let children = children.split_whitespace().filter_map(|child| child.parse().ok());
            for pid in children.chain([process]).filter_map(Pid::from_raw) {
                // It ends between the look and the signal, or by it: both are what is wanted.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }

    fn processes(&self) -> Vec<i32> {
        let directory = self.directory.path().to_string_lossy().into_owned();
        let is_ours = |pid: &i32| {
            fs::read(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&directory))
        };
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_ours).collect()
    }

    /// Takes down the mounts of containers and namespaces, without which the directory cannot be removed.
    fn unmount_leftovers(&self) {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let paths = mounts.lines().filter_map(|line| line.split(' ').nth(1));
        for path in paths.filter(|path| path.starts_with(&*self.directory.path().to_string_lossy())) {
            if let Err(error) = run(Command::new("umount").args(["--lazy", path])) {
                eprintln!("testkit: {error}");
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.dockerd.signal(Signal::TERM);
        if self.dockerd.wait(STOP_LIMIT).is_none() {
            self.dockerd.kill_9();
        }
        self.end_leftovers();
        self.unmount_leftovers();
    }
}

/// A namespace and the pair of devices that joins it to this machine. Removed when dropped.
struct Network {
    number: u8,
    // Held as long as the number is in use.
    _lock: File,
}

impl Network {
    #[track_caller]
    fn make() -> Self {
        let network = Self::reserve();
        // A test that was killed may have left a namespace of this number, which is nobody's now.
        network.remove();
        let (name, device, link) = (network.name(), network.device(), network.link());
        let steps = [
            format!("netns add {name}"),
            format!("link add {device} type veth peer name eth0 netns {name}"),
            format!("address add {link}.1/30 dev {device}"),
            format!("link set {device} up"),
            format!("-netns {name} link set lo up"),
            format!("-netns {name} address add {link}.2/30 dev eth0"),
            format!("-netns {name} link set eth0 up"),
            format!("route add {}.0/24 via {link}.2", network.containers()),
        ];
        for step in steps {
            ip(&step).unwrap_or_else(|error| panic!("{error} (a host needs root)"));
        }
        network
    }

    fn reserve() -> Self {
        let locks = std::env::temp_dir().join("deployer-testkit-hosts");
        fs::create_dir_all(&locks).unwrap_or_else(|error| panic!("cannot make {}: {error}", locks.display()));
        let reserve = |number: u8| {
            let lock = OpenOptions::new().create(true).append(true).open(locks.join(number.to_string())).ok()?;
            lock.try_lock().ok().map(|()| Self { number, _lock: lock })
        };
        (0..HOSTS_MAX).find_map(reserve).unwrap_or_else(|| panic!("{HOSTS_MAX} hosts are there already"))
    }

    fn name(&self) -> String {
        format!("deployer-test-{}", self.number)
    }

    fn device(&self) -> String {
        format!("deploytest{}", self.number)
    }

    /// The first three bytes of the addresses between this machine and the host. The range is reserved for tests of
    /// network devices, so that nobody has a route there.
    fn link(&self) -> String {
        format!("198.18.{}", self.number)
    }

    /// The first three bytes of its containers' addresses.
    fn containers(&self) -> String {
        format!("198.19.{}", self.number)
    }

    /// A command that runs on the host's network. `ip netns exec` would hide the control groups from it.
    fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name())).arg(program);
        command
    }

    /// Opens a port of the host's loopback. A socket belongs to the namespace of the thread that opened it, whoever
    /// uses it afterwards; so a thread of its own goes there, and ends.
    #[track_caller]
    fn listen(&self, port: u16) -> TcpListener {
        let path = format!("/run/netns/{}", self.name());
        let opened = thread::spawn(move || -> io::Result<TcpListener> {
            move_into_link_name_space(File::open(path)?.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind(("127.0.0.1", port))
        });
        let opened = opened.join().expect("the thread returns its errors");
        opened.unwrap_or_else(|error| panic!("cannot listen on port {port} of {}: {error}", self.name()))
    }

    fn remove(&self) {
        // Either may be gone, or never have been; the device goes with the namespace, but only when that is unused.
        let _ = ip(&format!("link delete {}", self.device()));
        let _ = ip(&format!("netns delete {}", self.name()));
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.remove();
    }
}

/// A way from a host to a port of this machine. Dropping it cuts it, with every connection on it.
#[must_use = "dropping it cuts the way"]
pub struct Forward {
    listener: Arc<TcpListener>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Forward {
    fn start(listener: TcpListener, port: u16) -> Self {
        let listener = Arc::new(listener);
        let connections = Arc::new(Mutex::new(Vec::new()));
        let (accepting, open) = (Arc::clone(&listener), Arc::clone(&connections));
        thread::spawn(move || {
            while let Ok((inside, _)) = accepting.accept() {
                let Ok(outside) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                let ends = [inside.try_clone(), outside.try_clone()].into_iter().flatten();
                open.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).extend(ends);
                copy_in_background(&inside, &outside);
                copy_in_background(&outside, &inside);
            }
        });
        Self { listener, connections }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // The standard library shuts down streams only, the kernel listening sockets as well: accept then ends.
        if let Ok(listener) = self.listener.try_clone() {
            let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
        for connection in self.connections.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter() {
            // One that the other side has closed already is as cut as it can be.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn copy_in_background(from: &TcpStream, to: &TcpStream) {
    if let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) {
        thread::spawn(move || {
            let _ = io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
    }
}

fn ip(words: &str) -> Result<String, String> {
    run(Command::new("ip").args(words.split(' ')))
}
