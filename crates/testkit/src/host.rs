//! Further Docker hosts on one machine: an engine each, in a network namespace of its own.
//!
//! A host has its own loopback, bridge, firewall, addresses and disk, as another machine has. It shares the kernel and
//! the clock. It reaches nothing of this machine but what [`Host::reach`] lets it, and this machine reaches its containers
//! by their addresses. Needs root.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::directory::Directory;
use crate::engine::Engine;
use crate::forward::Forward;
use crate::network::{Cut, Network};
use crate::process::{Process, run};
use crate::wait::wait_until;

/// From SIGTERM to the end of an engine, its containers' last second included.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// The size of a host's disk, which is in memory: room for a hundred of the kit's images, and quickly filled.
const DISK: &str = "size=256m";

/// An engine on a host of its own. Dropping it stops the engine and removes all of it.
pub struct Host {
    dockerd: Process,
    command: Command,
    engine: Engine,
    // The namespace goes after the processes in it, which the directory's removal ends where the engine is gone.
    directory: Directory,
    network: Network,
}

impl Host {
    /// Starts one and waits until its engine answers, about a second.
    ///
    /// # Panics
    ///
    /// When the namespace cannot be made (this needs root), or the engine does not answer.
    #[track_caller]
    pub fn start() -> Self {
        let directory = Directory::make();
        let network = Network::make();
        let path = |name: &str| directory.join(name);
        fs::write(path("daemon.json"), "{}").expect("the temporary directory can be written");
        fs::create_dir(path("data")).expect("a directory in the temporary directory can be made");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", DISK, "tmpfs"]).arg(path("data")))
            .unwrap_or_else(|error| panic!("{error} (a host needs root)"));
        let engine = Engine::at_socket(&path("docker.sock"));
        let mut command = network.enter("dockerd");
        command.arg("--config-file").arg(path("daemon.json")).arg("--data-root").arg(path("data"));
        command.arg("--exec-root").arg(path("exec")).arg("--pidfile").arg(path("pid"));
        command.args(["--host", engine.address(), "--bip", &format!("{}.1/24", network.containers())]);
        command.args(["--shutdown-timeout", "2"]);
        let dockerd = Process::spawn_ended_by("dockerd", &command, directory.path(), "TERM");
        let mut host = Self { dockerd, command, engine, directory, network };
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
        let port = port_of(address);
        Forward::start(self.network.listen(port), port)
    }

    /// Cuts this host off from addresses that it reaches (see [`Host::reach`]) by its packet filter: nothing is closed,
    /// nothing is refused, and no answer comes, until the cut is dropped.
    #[track_caller]
    pub fn cut(&self, addresses: &[String]) -> Cut {
        self.network.cut(&addresses.iter().map(|address| port_of(address)).collect::<Vec<_>>())
    }

    /// Leaves no room on its disk until this is dropped.
    ///
    /// # Panics
    ///
    /// When the disk takes more than it has room for.
    #[track_caller]
    pub fn fill_disk(&self) -> FullDisk {
        let path = self.directory.join("data/ballast");
        let mut ballast = File::create(&path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
        let error = io::copy(&mut io::repeat(0), &mut ballast).expect_err("a disk is full at some time");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
        FullDisk { path }
    }

    /// Its address, under which this machine reaches what listens there.
    pub fn address(&self) -> String {
        self.network.address()
    }

    /// A command that runs on the host's network, with this machine's files.
    pub fn enter(&self, program: &str) -> Command {
        self.network.enter(program)
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
            let _ = fs::remove_file(self.directory.join(file));
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
}

impl Drop for Host {
    fn drop(&mut self) {
        self.dockerd.signal(Signal::TERM);
        if self.dockerd.wait(STOP_LIMIT).is_none() {
            self.dockerd.kill_9();
        }
    }
}

/// A host's disk that is full. Dropping it makes room.
#[must_use = "dropping it makes room"]
pub struct FullDisk {
    path: PathBuf,
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        // The host may have gone first, and its disk with it.
        let _ = fs::remove_file(&self.path);
    }
}

#[track_caller]
fn port_of(address: &str) -> u16 {
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or_else(|| panic!("{address} has no port"))
}
