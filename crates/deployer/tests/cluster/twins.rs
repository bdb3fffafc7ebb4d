//! A machine that was copied: another host, whose daemon bears the name of a node that is past its fence.

use deployer_core::replacement::Phase;
use deployer_testkit::{Container, Daemon, Forward, Host, wait_until};

use crate::common::{BINARY, quick};
use crate::fleet::{Fleet, LONG, wait_for_health};

/// Another host with the name of a node of the fleet.
struct Twin {
    daemon: Daemon,
    _host: Host,
    _ways: Vec<Forward>,
}

/// Finding H3, through both doors: a twin that is not registered, and one that takes the name when the sign of life ends.
#[test]
fn coordination_h3_a_twin_ends_no_claim_past_its_fence() {
    let mut fleet = Fleet::new();
    let (host, ways) = fleet.copied_host();
    let sampler = fleet.sample();
    fleet.hold_all(Phase::Stopped);
    let digest = fleet.push("v2");
    let node = fleet.wait_until_one_is_held();
    let stands = |fleet: &Fleet| (fleet.claim(), fleet.containers.iter().map(|web| web.digest()).collect::<Vec<_>>());
    let before = stands(&fleet);

    let mut twin = fleet.twin(node, host, ways);
    wait_for_health(&twin.daemon, 503, "not registered");
    wait_until(LONG, "the twin to have something to do", || {
        let status = twin.daemon.status();
        let track = &status["tracks"][0];
        let is_stale = track["record"]["digest"] == digest.as_str() && track["containers"][node]["state"] == "pulling";
        if is_stale { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(stands(&fleet), before, "the claim is of the one that lives, and nobody else goes down");

    fleet.daemon(node).process().freeze();
    wait_for_health(&twin.daemon, 200, "ok");
    wait_until(LONG, "the twin to wait for the claim", || {
        let status = twin.daemon.status();
        let container = &status["tracks"][0]["containers"][node];
        if container["state"] == "waiting" { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(stands(&fleet), before, "the claim is of the machine that made it, and nobody else goes down");

    fleet.release_all();
    fleet.daemon(node).process().thaw();
    fleet.containers[node].wait_for_version("v2", LONG);
    twin.daemon.stop();
    fleet.wait_for(&digest);
    fleet.assert_settled("v2");
    fleet.assert_not_bad(&digest);
    fleet.assert_never_two_down(sampler);
}

impl Fleet {
    /// A host with everything that theirs have but a daemon; its container runs what theirs do.
    fn copied_host(&self) -> (Host, Vec<Forward>) {
        let host = Host::start();
        let etcd = self.cluster.etcd.as_ref().expect("the fleet has an etcd").addresses();
        let ways = etcd.iter().chain([&self.cluster.registry.address()]).map(|address| host.reach(address)).collect();
        let container = Container::new(&self.cluster.scene, "web").image(&self.cluster.image());
        let container = quick(container.managed(&self.cluster.scene)).on(host.engine()).run();
        container.wait_for_version("v1", LONG);
        (host, ways)
    }

    fn twin(&self, node: usize, host: Host, ways: Vec<Forward>) -> Twin {
        let members = self.cluster.etcd.as_ref().expect("the fleet has an etcd").urls().join(",");
        let daemon = Daemon::builder(BINARY, &self.cluster.scene).on(&host).node(&self.cluster.nodes[node].name);
        let daemon = daemon.argument("--etcd").argument(&members).argument("--etcd-prefix").argument(&self.key(""));
        Twin { daemon: daemon.start(), _host: host, _ways: ways }
    }

    /// The claim as it stands, with the revisions at which it was made and last written.
    fn claim(&self) -> Vec<String> {
        let claims: Vec<_> = self.keys("/locks/").into_iter().filter(|key| key.contains("/claim/")).collect();
        let [claim] = &claims[..] else { panic!("one claim: {:?}", self.keys("/locks/")) };
        let fields = self.etcd(["get", "--write-out", "fields", claim]);
        let is_its_own = |line: &&str| ["Create", "Mod", "Value"].iter().any(|word| line.contains(word));
        fields.lines().filter(is_its_own).map(str::to_owned).collect()
    }
}
