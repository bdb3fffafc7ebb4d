//! A playground: three hosts with deployer on each, an etcd of three members and a registry, to be tried by hand.
//!
//! `make cluster` builds and runs it. It takes commands from its standard input, a line each, until that ends, and then
//! takes everything down.

#![allow(clippy::print_stdout, reason = "it speaks with a person")]

use std::io::{self, BufRead as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use deployer_testkit::{Behaviour, Cluster, ClusterOptions, Container, Cut, EtcdCluster, RunningContainer};

const HELP: &str = "
push VERSION [bad|unhealthy|foreign]   build and push a version, from a machine that is none of the hosts
status NODE                            what a node knows
kill NODE|ETCD                         kill -9
start NODE|ETCD                        start it again, with what it had
freeze NODE|ETCD, thaw NODE|ETCD       SIGSTOP, SIGCONT
cut NODE, heal NODE                    drop every packet between a node and etcd
show                                   where everything is
help                                   this

NODE is node1, node2 or node3, ETCD is etcd1, etcd2 or etcd3. Ctrl-C takes everything down.
";

fn main() {
    let Some(binary) = std::env::args_os().nth(1) else {
        eprintln!("usage: cluster DEPLOYER-BINARY");
        std::process::exit(2);
    };
    println!("starting three hosts, three members of etcd, a registry, and deployer on each host");
    let mut cluster = Cluster::start(&binary, ClusterOptions { hosts: 3, etcd_members: 3 }, |builder| builder);
    cluster.notify(&[0, 1, 2]);
    println!("pushing v1, and running it on each host");
    cluster.push("v1", Behaviour::Healthy);
    let containers = cluster.run("web", with_less_patience);
    let mut playground =
        Playground { binary: binary.to_string_lossy().into_owned(), cluster, containers, cuts: vec![] };
    playground.show();
    println!("{HELP}");
    for line in io::stdin().lock().lines().map_while(Result::ok) {
        // The kit panics where a test would fail; here a person may go on.
        match catch_unwind(AssertUnwindSafe(|| playground.obey(&line))) {
            Ok(Ok(())) => {}
            Ok(Err(mistake)) => println!("{mistake}; 'help' lists the commands"),
            Err(_) => println!("that did not work, see above"),
        }
    }
    println!("taking everything down");
}

/// The monitor is 30 s unless told otherwise; somebody who tries things has less patience.
fn with_less_patience(container: Container) -> Container {
    container.restart("always").label("deployer.monitor", "3s")
}

struct Playground {
    binary: String,
    // Cuts are dropped before their hosts.
    cuts: Vec<(usize, Cut)>,
    cluster: Cluster,
    containers: Vec<RunningContainer>,
}

/// What a command is about, counted from zero.
#[derive(Clone, Copy)]
enum Part {
    Node(usize),
    Etcd(usize),
}

impl Playground {
    fn show(&self) {
        for (number, (node, container)) in (1..).zip(self.cluster.nodes.iter().zip(&self.containers)) {
            let (socket, engine) = (node.daemon.socket().display().to_string(), node.host.engine());
            println!("\nnode{number}, pid {}, listens at {}", node.daemon.pid(), node.daemon.address());
            println!("  $ {} --socket {socket} status", self.binary);
            println!("  $ {} --socket {socket} events -f", self.binary);
            println!("  $ tail -f {}", node.daemon.log_file().display());
            println!("  $ docker --host {} ps", engine.address());
            match engine.container_address(container.name()) {
                Ok((ip, _)) => println!("  $ curl http://{ip}:8080/version"),
                Err(error) => println!("  {} does not run: {error}", container.name()),
            }
        }
        let etcd = self.cluster.etcd.as_ref().map(EtcdCluster::addresses).unwrap_or_default();
        println!("\n  $ ETCDCTL_API=3 etcdctl --endpoints {} get --prefix /", etcd.join(","));
        println!("  $ curl http://{}/v2/_catalog", self.cluster.registry.address());
    }

    fn obey(&mut self, line: &str) -> Result<(), String> {
        match *line.split_whitespace().collect::<Vec<_>>() {
            [] => {}
            ["help"] => println!("{HELP}"),
            ["show"] => self.show(),
            ["push", version] => println!("{}", self.cluster.push(version, Behaviour::Healthy)),
            ["push", version, how] => println!("{}", self.cluster.push(version, behaviour(how)?)),
            ["status", node] => self.status(node_index(node)?),
            ["cut", node] => {
                let node = node_index(node)?;
                self.cuts.push((node, self.cluster.cut_from_etcd(node)));
            }
            ["heal", node] => {
                let node = node_index(node)?;
                self.cuts.retain(|(cut, _)| *cut != node);
            }
            [signal @ ("kill" | "start" | "freeze" | "thaw"), name] => self.signal(signal, part(name)?),
            _ => return Err(format!("there is no command '{line}'")),
        }
        Ok(())
    }

    fn status(&self, node: usize) {
        let socket = self.cluster.nodes[node].daemon.socket();
        // It prints for itself; whether it succeeded is for the person to see.
        let _ = Command::new(&self.binary).arg("--socket").arg(socket).arg("status").status();
    }

    fn signal(&mut self, signal: &str, part: Part) {
        let process = match (part, self.cluster.etcd.as_mut()) {
            (Part::Node(node), _) if signal == "start" => return self.cluster.nodes[node].daemon.restart(),
            (Part::Node(node), _) => self.cluster.nodes[node].daemon.process(),
            (Part::Etcd(member), Some(etcd)) if signal == "start" => return etcd.member(member).restart(),
            (Part::Etcd(member), Some(etcd)) => etcd.member(member).process(),
            (Part::Etcd(_), None) => return,
        };
        match signal {
            "freeze" => process.freeze(),
            "thaw" => process.thaw(),
            _ => process.kill_9(),
        }
    }
}

fn behaviour(word: &str) -> Result<Behaviour, String> {
    match word {
        "bad" => Ok(Behaviour::ExitsAtOnce),
        "unhealthy" => Ok(Behaviour::NeverHealthy),
        "foreign" => Ok(Behaviour::ForeignArchitecture),
        _ => Err(format!("no image can be '{word}'")),
    }
}

fn node_index(name: &str) -> Result<usize, String> {
    match part(name)? {
        Part::Node(node) => Ok(node),
        Part::Etcd(_) => Err(format!("{name} is no node")),
    }
}

fn part(name: &str) -> Result<Part, String> {
    let number =
        |prefix| name.strip_prefix(prefix).and_then(|number| ["1", "2", "3"].iter().position(|n| *n == number));
    let part = number("node").map(Part::Node).or_else(|| number("etcd").map(Part::Etcd));
    part.ok_or_else(|| format!("there is no '{name}'"))
}
