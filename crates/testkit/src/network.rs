//! The network of a host: a namespace, and a pair of devices that joins it to this machine.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::process::Command;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::run;

/// Hosts that can be there at once on one machine, over all tests: each has a number, and its networks from it.
const HOSTS_MAX: u8 = 64;

/// A namespace and the pair of devices that joins it to this machine. Removed when dropped.
pub(crate) struct Network {
    number: u8,
    // Held as long as the number is in use.
    _lock: File,
}

impl Network {
    #[track_caller]
    pub(crate) fn make() -> Self {
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
            format!("-netns {name} address add {}/30 dev eth0", network.address()),
            format!("-netns {name} link set eth0 up"),
            format!("route add {}.0/24 via {}", network.containers(), network.address()),
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

    /// The host's address on that link.
    pub(crate) fn address(&self) -> String {
        format!("{}.2", self.link())
    }

    /// The first three bytes of its containers' addresses.
    pub(crate) fn containers(&self) -> String {
        format!("198.19.{}", self.number)
    }

    /// A command that runs on the host's network. `ip netns exec` would hide the control groups from it.
    pub(crate) fn enter(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name())).arg(program);
        command
    }

    /// Opens a port of the host's loopback. A socket belongs to the namespace of the thread that opened it, whoever
    /// uses it afterwards; so a thread of its own goes there, and ends.
    #[track_caller]
    pub(crate) fn listen(&self, port: u16) -> TcpListener {
        let path = format!("/run/netns/{}", self.name());
        let opened = thread::spawn(move || -> io::Result<TcpListener> {
            move_into_link_name_space(File::open(path)?.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind(("127.0.0.1", port))
        });
        let opened = opened.join().expect("the thread returns its errors");
        opened.unwrap_or_else(|error| panic!("cannot listen on port {port} of {}: {error}", self.name()))
    }

    /// Drops every packet from and to these ports of the host's loopback.
    #[track_caller]
    pub(crate) fn cut(&self, ports: &[u16]) -> Cut {
        let ports = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(",");
        let rule = |act: &str| {
            let mut command = self.enter("iptables");
            // What a host sends to itself comes in as well, so that this one rule sees both directions.
            command.args(["--wait", act, "INPUT", "--in-interface", "lo", "--protocol", "tcp"]);
            command.args(["--match", "multiport", "--ports", &ports, "--jump", "DROP"]);
            command
        };
        run(&mut rule("--insert")).unwrap_or_else(|error| panic!("{error}"));
        Cut { heal: rule("--delete") }
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

/// Ports of this machine that a host's packet filter keeps it from: connections hang there, as they do when a network
/// breaks. Dropping it heals it.
#[must_use = "dropping it heals it"]
pub struct Cut {
    heal: Command,
}

impl Drop for Cut {
    fn drop(&mut self) {
        // The host may have gone first, and its rules with it.
        if let Err(error) = run(&mut self.heal) {
            eprintln!("testkit: {error}");
        }
    }
}

fn ip(words: &str) -> Result<String, String> {
    run(Command::new("ip").args(words.split(' ')))
}
