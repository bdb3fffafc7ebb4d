//! A machine that was copied: another host, whose daemon bears the name of a node that is past its fence.

use deployer_core::replacement::Phase;
use deployer_testkit::{Container, Daemon, Forward, Host, RunningContainer, wait_until};

use crate::common::{BINARY, quick};
use crate::fleet::{Fleet, LONG, wait_for_health};

/// Another host with the name of a node of the fleet.
struct Twin {
    daemon: Daemon,
    container: RunningContainer,
    _host: Host,
    _ways: Vec<Forward>,
}

/// Finding H3, through both doors: a twin that is not registered, and one that took the name when the sign of life ended.
#[test]
fn coordination_h3_a_twin_ends_no_claim_past_its_fence() {
    let mut fleet = Fleet::new();
    let (host, ways, container) = fleet.copied_host();
    let sampler = fleet.sample();

    fleet.hold(0, Phase::Stopped);
    let digest = fleet.push("v2");
    fleet.wait_until_held(0);
    let before = fleet.others();
    let claim = fleet.claim();
    let mut twin = fleet.twin(host, ways, container);
    wait_for_health(&twin.daemon, 503, "not registered");
    wait_until(LONG, "the twin to have looked at its own container", || {
        let status = twin.daemon.status();
        let container = &status["tracks"][0]["containers"][0];
        let has_seen = status["tracks"][0]["record"]["digest"] == digest.as_str() && container["state"] != "pulling";
        if has_seen { Ok(()) } else { Err(status.to_string()) }
    });
    assert_eq!(fleet.claim(), claim, "the claim is of the one that lives");
    assert_eq!(fleet.others(), before, "nobody else goes down");
    fleet.release(0);
    fleet.wait_for(&digest);
    fleet.assert_settled("v2");
    assert_eq!(twin.container.version().as_deref(), Ok("v1"), "the twin has no part in it");

    fleet.hold(0, Phase::Stopped);
    let digest = fleet.push("v3");
    fleet.wait_until_held(0);
    let before = fleet.others();
    let claim = fleet.claim();
    fleet.daemon(0).process().freeze();
    wait_for_health(&twin.daemon, 200, "ok");
    assert_eq!(fleet.claim(), claim, "the claim is of the machine that made it");
    assert_eq!(fleet.others(), before, "nobody else goes down");
    fleet.release(0);
    fleet.daemon(0).process().thaw();
    fleet.containers[0].wait_for_version("v3", LONG);
    twin.daemon.stop();
    fleet.wait_for(&digest);
    fleet.assert_settled("v3");
    fleet.assert_never_two_down(sampler);
}

impl Fleet {
    /// A host with everything that the first has but a daemon; its container runs what theirs do.
    fn copied_host(&self) -> (Host, Vec<Forward>, RunningContainer) {
        let host = Host::start();
        let etcd = self.cluster.etcd.as_ref().expect("the fleet has an etcd").addresses();
        let ways = etcd.iter().chain([&self.cluster.registry.address()]).map(|address| host.reach(address)).collect();
        let container = Container::new(&self.cluster.scene, "web").image(&self.cluster.image());
        let container = quick(container.managed(&self.cluster.scene)).on(host.engine()).run();
        container.wait_for_version("v1", LONG);
        (host, ways, container)
    }

    fn twin(&self, host: Host, ways: Vec<Forward>, container: RunningContainer) -> Twin {
        let members = self.cluster.etcd.as_ref().expect("the fleet has an etcd").urls().join(",");
        let daemon = Daemon::builder(BINARY, &self.cluster.scene).on(&host).node(&self.cluster.nodes[0].name);
        let daemon = daemon.argument("--etcd").argument(&members).argument("--etcd-prefix").argument(&self.key(""));
        Twin { daemon: daemon.start(), container, _host: host, _ways: ways }
    }

    /// The claim as it stands, with the revisions at which it was made and last written.
    fn claim(&self) -> Vec<String> {
        let claims: Vec<_> = self.keys("/locks/").into_iter().filter(|key| key.contains("/claim/")).collect();
        let [claim] = &claims[..] else { panic!("one claim: {:?}", self.keys("/locks/")) };
        let fields = self.etcd(["get", "--write-out", "fields", claim]);
        let is_its_own = |line: &&str| ["Create", "Mod", "Value"].iter().any(|word| line.contains(word));
        fields.lines().filter(is_its_own).map(str::to_owned).collect()
    }

    /// What the containers of the other nodes run.
    fn others(&self) -> Vec<Result<String, String>> {
        self.containers[1..].iter().map(RunningContainer::digest).collect()
    }
}
