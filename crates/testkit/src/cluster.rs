//! Several hosts, each with an engine and a daemon, over one etcd and one registry: what an operator has.
//!
//! The registry and every member of etcd have one address, on whichever host it is used: each host reaches them through
//! a [`Forward`] of its own, and can be cut off from either by its packet filter.

use std::io;
use std::panic;
use std::path::Path;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use serde_json::json;

use crate::config::Hook;
use crate::container::{Container, RunningContainer};
use crate::daemon::{Daemon, DaemonBuilder};
use crate::etcd::EtcdCluster;
use crate::forward::Forward;
use crate::host::Host;
use crate::image::{AppImage, Behaviour};
use crate::network::Cut;
use crate::registry::{Registry, RegistryOptions};
use crate::sampler::{Sampler, Samples};
use crate::scene::Scene;
use crate::wait::wait_until;

/// The repository that is pushed to; the tag is `latest`.
const REPOSITORY: &str = "acme/web";
/// The image's tag.
const TAG: &str = "latest";
/// From `docker run` to an answer, the pull included.
const RUN_LIMIT: Duration = Duration::from_secs(60);

/// How large a cluster is to be.
#[derive(Clone, Copy, Debug)]
pub struct ClusterOptions {
    /// Hosts, each with an engine and a daemon.
    pub hosts: usize,
    /// Members of its etcd. With none, every daemon has the store that is built in, and knows of no other.
    pub etcd_members: usize,
}

/// A running cluster. All of it ends, and goes, when it is dropped.
pub struct Cluster {
    /// The hosts with their daemons.
    pub nodes: Vec<Node>,
    /// Its etcd, if it has one.
    pub etcd: Option<EtcdCluster>,
    /// The registry.
    pub registry: Registry,
    /// What it has on the shared engine, which builds and pushes.
    pub scene: Scene,
}

/// A host with its daemon.
pub struct Node {
    /// The daemon, whose own name for itself is [`Node::name`].
    pub daemon: Daemon,
    /// The host it is on.
    pub host: Host,
    /// Its name, which no other node of any scene has.
    pub name: String,
    /// The route that the registry calls.
    pub hook: Hook,
    _ways: Vec<Forward>,
}

impl Cluster {
    /// Starts all of it, with daemons of that binary that `adjust` may change, and waits until they listen. The
    /// registry calls the first node, until [`Cluster::notify`] tells it otherwise.
    ///
    /// # Panics
    ///
    /// When any part does not start.
    #[track_caller]
    pub fn start(
        binary: impl AsRef<Path>,
        options: ClusterOptions,
        adjust: impl Fn(DaemonBuilder) -> DaemonBuilder + Sync,
    ) -> Self {
        let scene = Scene::new();
        let (hosts, etcd, registry) = thread::scope(|scope| {
            let hosts: Vec<_> = (0..options.hosts).map(|_| scope.spawn(Host::start)).collect();
            let etcd = (options.etcd_members > 0).then(|| EtcdCluster::start(options.etcd_members));
            let registry = Registry::start(RegistryOptions::default());
            let hosts: Vec<Host> = hosts.into_iter().map(|host| joined(host)).collect();
            (hosts, etcd, registry)
        });
        let parts = Parts { binary: binary.as_ref(), scene: &scene, etcd: etcd.as_ref(), registry: &registry };
        let nodes = thread::scope(|scope| {
            let start = |(index, host)| {
                let (parts, adjust) = (&parts, &adjust);
                scope.spawn(move || parts.node(index, host, adjust))
            };
            let starting: Vec<_> = hosts.into_iter().enumerate().map(start).collect();
            starting.into_iter().map(|node| joined(node)).collect()
        });
        let mut cluster = Self { nodes, etcd, registry, scene };
        cluster.notify(&[0]);
        cluster
    }

    /// Lets the registry call these nodes of each push and nobody else from now on.
    #[track_caller]
    pub fn notify(&mut self, nodes: &[usize]) {
        let notification = |index: &usize| {
            let node = &self.nodes[*index];
            node.hook.notification(node.daemon.address())
        };
        self.registry.notify(nodes.iter().map(notification).collect());
    }

    /// Pushes a version and returns its digest. The build machine is none of the hosts.
    #[track_caller]
    pub fn push(&self, version: &str, behaviour: Behaviour) -> String {
        AppImage::new(version).behaviour(behaviour).push(&self.scene, &self.registry, REPOSITORY, TAG)
    }

    /// Tells a node what the registry would of a push, and gives back the status of its answer.
    ///
    /// # Errors
    ///
    /// When the node does not answer.
    pub fn call_hook(&self, node: usize, digest: &str) -> io::Result<u16> {
        let node = &self.nodes[node];
        let target = json!({
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "repository": REPOSITORY,
            "tag": TAG,
            "digest": digest,
        });
        let event = json!({ "action": "push", "target": target, "request": { "host": self.registry.push_address() } });
        let answer = node.daemon.post(&node.hook, &json!({ "events": [event] }).to_string())?;
        Ok(answer.status)
    }

    /// The name of the image that is pushed.
    pub fn image(&self) -> String {
        self.registry.image(REPOSITORY, TAG)
    }

    /// How often the registry was asked what that name points to, by whichever node or engine.
    pub fn tag_requests(&self) -> usize {
        self.registry.tag_requests(REPOSITORY, TAG)
    }

    /// Runs a managed container of the image on every host, under one name, and waits until all serve.
    ///
    /// # Panics
    ///
    /// When an engine refuses it, or it does not serve.
    #[track_caller]
    pub fn run(&self, word: &str, adjust: impl Fn(Container) -> Container + Sync) -> Vec<RunningContainer> {
        let container = adjust(Container::new(&self.scene, word).image(&self.image()).managed(&self.scene));
        thread::scope(|scope| {
            let run = |node: &Node| {
                let container = container.clone().on(node.host.engine());
                scope.spawn(move || {
                    let running = container.run();
                    wait_until(RUN_LIMIT, &format!("{} to serve", running.name()), || running.version());
                    running
                })
            };
            let starting: Vec<_> = self.nodes.iter().map(run).collect();
            starting.into_iter().map(|running| joined(running)).collect()
        })
    }

    /// Asks one container of each host all the while; the samples go by the nodes' names.
    pub fn sample(&self, containers: &[RunningContainer]) -> Sampler {
        let watched = self.nodes.iter().zip(containers);
        let watched: Vec<_> =
            watched.map(|(node, container)| (node.name.as_str(), container.engine(), container.name())).collect();
        Sampler::start_as(&watched)
    }

    /// Checks that at no time two hosts were seen without their container: [`Samples::never_both_down`] of any two.
    ///
    /// # Errors
    ///
    /// Which two were down together, or that one never answered.
    pub fn never_two_down(&self, samples: &Samples) -> Result<(), String> {
        samples.never_both_down(&self.nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>())
    }

    /// Cuts one node off from every member of etcd until the cut is dropped.
    #[track_caller]
    pub fn cut_from_etcd(&self, node: usize) -> Cut {
        let addresses = self.etcd.as_ref().map(EtcdCluster::addresses).unwrap_or_default();
        self.nodes[node].host.cut(&addresses)
    }

    /// Cuts one host off from the registry until the cut is dropped.
    #[track_caller]
    pub fn cut_from_registry(&self, node: usize) -> Cut {
        self.nodes[node].host.cut(&[self.registry.address()])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        thread::scope(|scope| {
            for node in self.nodes.drain(..) {
                let Node { daemon, host, .. } = node;
                // The daemon goes here and first: it must not see its containers go, and in a panic its log is told.
                drop(daemon);
                scope.spawn(move || drop(host));
            }
        });
    }
}

/// What every node of a cluster is made from.
struct Parts<'a> {
    binary: &'a Path,
    scene: &'a Scene,
    etcd: Option<&'a EtcdCluster>,
    registry: &'a Registry,
}

impl Parts<'_> {
    #[track_caller]
    fn node(&self, index: usize, host: Host, adjust: &impl Fn(DaemonBuilder) -> DaemonBuilder) -> Node {
        let name = self.scene.name(&format!("node{}", index + 1));
        let hook = Hook::distribution("/hooks/registry", &self.registry.address());
        let mut ways = vec![host.reach(&self.registry.address())];
        let mut daemon = Daemon::builder(self.binary, self.scene).on(&host).node(&name).hook(&hook);
        if let Some(etcd) = self.etcd {
            ways.extend(etcd.addresses().iter().map(|address| host.reach(address)));
            daemon = daemon.argument("--etcd").argument(&etcd.urls().join(","));
            daemon = daemon.argument("--etcd-prefix").argument(&format!("/{}", self.scene.id()));
        }
        Node { daemon: adjust(daemon).start(), host, name, hook, _ways: ways }
    }
}

/// What a thread returned; if it panicked, so does this one.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}
