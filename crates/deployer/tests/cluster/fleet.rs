//! Three nodes that run one container each of the image that is pushed, and what must hold of them after everything.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use deployer_core::replacement::Phase;
use deployer_testkit::{
    Behaviour, Cluster, ClusterOptions, Container, Daemon, DaemonBuilder, Host, Node, RunningContainer, Sampler,
    wait_until,
};
use serde_json::Value;

use crate::common::{BINARY, bad_verdict, is_quiet, quick};

/// For a rollout over three nodes, which takes six seconds on an idle machine, and for what an etcd that lost its leader
/// or a node that lost its lease adds to it.
pub const LONG: Duration = Duration::from_secs(180);
/// The nodes.
pub const NODES: Range<usize> = 0..3;

/// The word that every container is named by.
const WEB: &str = "web";

/// Waits until a daemon answers so at `/healthz`, with this in its text.
#[track_caller]
pub fn wait_for_health(daemon: &Daemon, status: u16, said: &str) {
    wait_until(LONG, &format!("/healthz to say {said}"), || {
        let health = daemon.health().map_err(|error| error.to_string())?;
        let is_so = health.status == status && health.text().contains(said);
        if is_so { Ok(()) } else { Err(format!("{} {}", health.status, health.text())) }
    });
}

/// Three nodes, whose containers deploy within a second or two each.
pub struct Fleet {
    pub cluster: Cluster,
    pub containers: Vec<RunningContainer>,
}

impl Fleet {
    /// All of them run v1, and know it.
    pub fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// The same, with daemons that are run otherwise.
    pub fn with(adjust: impl Fn(DaemonBuilder) -> DaemonBuilder + Sync) -> Self {
        Self::start(adjust, |container| container)
    }

    /// The same, with gates that last long enough for somebody to come in between.
    pub fn with_gates(stable: &str, monitor: &str) -> Self {
        let label = |container: Container| container.label("deployer.health.stable", stable);
        Self::start(|builder| builder, |container| label(container).label("deployer.monitor", monitor))
    }

    fn start(
        daemon: impl Fn(DaemonBuilder) -> DaemonBuilder + Sync,
        container: impl Fn(Container) -> Container + Sync,
    ) -> Self {
        let cluster = Cluster::start(BINARY, ClusterOptions { hosts: NODES.len(), etcd_members: 3 }, daemon);
        let first = cluster.push("v1", Behaviour::Serves);
        let containers = cluster.run(WEB, |web| container(quick(web)));
        let fleet = Self { cluster, containers };
        fleet.wait_for(&first);
        fleet
    }

    /// Pushes a version that serves.
    pub fn push(&self, version: &str) -> String {
        self.cluster.push(version, Behaviour::Serves)
    }

    /// How often the registry answered that the tag is not there yet: Distribution sends its notification before it moves it.
    pub fn answers_before_the_tag(&self) -> usize {
        let said = |node: &Node| node.daemon.log().matches("does not show the digest yet").count();
        self.cluster.nodes.iter().map(said).sum()
    }

    /// Asks all three all the while.
    pub fn sample(&self) -> Sampler {
        self.cluster.sample(&self.containers)
    }

    /// Stops asking, and holds that never two of three were down.
    #[track_caller]
    pub fn assert_never_two_down(&self, sampler: Sampler) {
        if let Err(seen) = self.cluster.never_two_down(&sampler.stop()) {
            panic!("{seen}");
        }
    }

    /// A node's daemon.
    pub fn daemon(&mut self, node: usize) -> &mut Daemon {
        &mut self.cluster.nodes[node].daemon
    }

    /// A node's host, with its engine.
    pub fn host(&mut self, node: usize) -> &mut Host {
        &mut self.cluster.nodes[node].host
    }

    /// What a node knows; an error while it does not know, because etcd is away or it is not there itself.
    pub fn status(&self, node: usize) -> Result<Value, String> {
        let output = self.cluster.nodes[node].daemon.cli(["status", "-o", "json"]);
        let known = output.code == Some(0);
        if known { serde_json::from_str(&output.stdout).map_err(|error| error.to_string()) } else { Err(output.stderr) }
    }

    /// Waits until what a node knows is so.
    #[track_caller]
    pub fn wait_until_known(&self, node: usize, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        wait_until(LONG, &format!("node {} to know {what}", node + 1), || {
            let status = self.status(node)?;
            if is_so(&status) { Ok(status) } else { Err(status.to_string()) }
        })
    }

    /// Waits until every node runs a digest and says so, and nothing is under way.
    #[track_caller]
    pub fn wait_for(&self, digest: &str) {
        self.wait_on(NODES, digest);
    }

    /// The same of some of the nodes.
    #[track_caller]
    pub fn wait_on(&self, nodes: impl IntoIterator<Item = usize>, digest: &str) {
        for node in nodes {
            self.wait_until_known(node, &format!("that it runs {digest}"), |status| {
                self.containers[node].digest().as_deref() == Ok(digest)
                    && self.state(status, node).as_deref() == Some("current")
                    && is_quiet(status)
            });
        }
    }

    /// Waits until a node shows the states of all nodes' containers, in their order.
    #[track_caller]
    pub fn wait_until_seen_from(&self, node: usize, states: [&str; 3]) {
        let expected: Vec<Option<String>> = states.map(|state| Some(state.to_owned())).to_vec();
        self.wait_until_known(node, &format!("{states:?}"), |status| {
            NODES.map(|other| self.state(status, other)).collect::<Vec<_>>() == expected
        });
    }

    /// Waits until every node knows that a digest is bad, and nothing is under way.
    #[track_caller]
    pub fn wait_for_bad(&self, digest: &str) {
        for node in NODES {
            let is_bad = |status: &Value| bad_verdict(&status["tracks"][0], digest).is_some() && is_quiet(status);
            self.wait_until_known(node, &format!("that {digest} is bad"), is_bad);
        }
    }

    /// Waits until what some of the nodes say of their own containers has these words in it, and gives back which does.
    #[track_caller]
    pub fn wait_until_one_says(&self, nodes: impl IntoIterator<Item = usize> + Clone, words: &str) -> usize {
        wait_until(LONG, &format!("a node to say \"{words}\""), || {
            let said = |node: usize| match self.status(node) {
                Ok(status) => self
                    .field(&status, node, "reason")
                    .filter(|said| said.contains(words))
                    .unwrap_or_else(|| status.to_string()),
                Err(error) => error,
            };
            let said: Vec<_> = nodes.clone().into_iter().map(|node| (node, said(node))).collect();
            let found = said.iter().find(|(_, said)| said.contains(words));
            found.map(|(node, _)| *node).ok_or_else(|| format!("{said:?}"))
        })
    }

    /// Holds that nobody says a digest to be bad.
    #[track_caller]
    pub fn assert_not_bad(&self, digest: &str) {
        for node in NODES {
            let status = self.wait_until_known(node, "its verdicts", |_| true);
            assert_eq!(bad_verdict(&status["tracks"][0], digest), None, "{status}");
        }
    }

    /// The state of a node's container in what some node knows.
    pub fn state(&self, status: &Value, node: usize) -> Option<String> {
        self.field(status, node, "state")
    }

    fn field(&self, status: &Value, node: usize, field: &str) -> Option<String> {
        let containers = status["tracks"][0]["containers"].as_array()?;
        let is_it = |container: &&Value| {
            container["name"] == self.containers[node].name() && container["node"] == self.cluster.nodes[node].name
        };
        containers.iter().find(is_it)?[field].as_str().map(str::to_owned)
    }

    /// Holds what must hold after everything: all serve the version, each host has the one container of the name, no
    /// journal is open, and nobody holds a slot or waits for one.
    #[track_caller]
    pub fn assert_settled(&self, version: &str) {
        for (node, container) in self.cluster.nodes.iter().zip(&self.containers) {
            container.wait_for_version(version, LONG);
            let all = ["ps", "--all", "--format", "{{.Names}}"];
            assert_eq!(node.host.engine().docker(all), container.name(), "one container is on {}", node.name);
            let journals = fs::read_dir(node.daemon.state_directory().join("replacements")).expect("the folder");
            assert_eq!(journals.count(), 0, "journals are closed on {}", node.name);
        }
        wait_until(LONG, "slots and tickets to be given back", || match self.keys("/locks/") {
            keys if keys.is_empty() => Ok(()),
            keys => Err(keys.join(" ")),
        });
    }

    /// The keys of this cluster that begin so.
    #[track_caller]
    pub fn keys(&self, begin: &str) -> Vec<String> {
        let keys = self.etcd(["get", "--prefix", "--keys-only", &self.key(begin)]);
        keys.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    /// A key of this cluster.
    pub fn key(&self, name: &str) -> String {
        format!("/{}{name}", self.cluster.scene.id())
    }

    /// Asks etcd itself.
    #[track_caller]
    pub fn etcd<const N: usize>(&self, arguments: [&str; N]) -> String {
        self.cluster.etcd.as_ref().expect("the fleet has an etcd").control(arguments)
    }

    /// Lets a node's daemon stop at a phase of its next replacement.
    pub fn hold(&self, node: usize, phase: Phase) {
        fs::write(self.state_file(node, "hold-at"), phase.word()).expect("the state directory can be written");
    }

    /// Waits until a node's daemon has stopped there.
    #[track_caller]
    pub fn wait_until_held(&self, node: usize) {
        self.wait_until_one_of_is_held(node..=node);
    }

    /// Waits until any node's daemon has stopped there, and gives back which.
    #[track_caller]
    pub fn wait_until_one_is_held(&self) -> usize {
        self.wait_until_one_of_is_held(NODES)
    }

    #[track_caller]
    fn wait_until_one_of_is_held(&self, nodes: impl IntoIterator<Item = usize> + Clone) -> usize {
        wait_until(LONG, "a node to be held", || {
            let held = nodes.clone().into_iter().find(|node| fs::remove_file(self.state_file(*node, "held")).is_ok());
            held.ok_or_else(|| {
                let status = |node| format!("{:?}", self.status(node));
                nodes.clone().into_iter().map(status).collect::<Vec<_>>().join("\n")
            })
        })
    }

    /// Lets it go on, or not stop again when it is started next.
    pub fn release(&self, node: usize) {
        // Nodes that came to the phase after the one that was looked for have said so, too.
        for name in ["hold-at", "held"] {
            let _ = fs::remove_file(self.state_file(node, name));
        }
    }

    /// Lets all stop at a phase, for whoever comes there first.
    pub fn hold_all(&self, phase: Phase) {
        NODES.for_each(|node| self.hold(node, phase));
    }

    /// Pushes a bad version and lets whoever tries it stop at a phase of the way back. Gives back who that is.
    pub fn hold_bad(&self, phase: Phase) -> usize {
        self.hold_all(phase);
        self.cluster.push(&format!("bad-{}", phase.word()), Behaviour::ExitsAtOnce);
        self.wait_until_one_is_held()
    }

    /// The same of all nodes.
    pub fn release_all(&self) {
        NODES.for_each(|node| self.release(node));
    }

    fn state_file(&self, node: usize, name: &str) -> PathBuf {
        self.cluster.nodes[node].daemon.state_directory().join(name)
    }
}
