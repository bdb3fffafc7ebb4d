//! What befalls machines: their calls, lines, daemons, engines, disks and power.

use std::time::Duration;

use deployer_simulated::engine::{self, Spec};
use deployer_simulated::history::Befalling;
use deployer_simulated::registry::Obstruction;
use deployer_simulated::store;
use tokio::time::{sleep, timeout};

use super::{Blow, Storm};

/// How long a machine that goes down waits for its daemon to end.
const TERMINATION: Duration = Duration::from_secs(60);

/// What is wrong with a machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    daemon: Daemon,
    engine: Engine,
    is_cut: bool,
    is_off: bool,
    is_disk_full: bool,
    is_engine_full: bool,
    has_no_networks: bool,
    has_no_dependency: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Daemon {
    #[default]
    Runs,
    Frozen,
    Gone,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Engine {
    #[default]
    Runs,
    Hung,
    Gone,
}

impl Storm {
    pub fn fail_engine(&self, machine: usize) {
        let late = Duration::from_millis(self.below(20_000));
        let faults = [engine::Fault::Refused, engine::Fault::Down, engine::Fault::Lost, engine::Fault::Late(late)];
        self.cluster.members[machine].node.engine.fail(1 + self.below(60), self.one_of(&faults));
    }

    pub fn fail_store(&self, machine: usize) {
        let late = Duration::from_millis(self.below(30_000));
        let faults = [store::Fault::Unsent, store::Fault::Lost, store::Fault::Late(late)];
        let (fault, call) = (self.one_of(&faults), 1 + self.below(40));
        let member = &self.cluster.members[machine];
        let text = format!("store: {fault:?} in {call} calls");
        self.cluster.story.befell(&member.node.host, Befalling::Fault(text));
        member.line.fail(call, fault);
    }

    pub fn switch_line(&mut self, machine: usize) {
        let condition = &mut self.conditions[machine];
        condition.is_cut = !condition.is_cut;
        let member = &self.cluster.members[machine];
        let what = if condition.is_cut { Befalling::LineCut } else { Befalling::LineHealed };
        self.cluster.story.befell(&member.node.host, what);
        if condition.is_cut { member.line.cut() } else { member.line.heal() }
    }

    pub fn switch_quorum(&mut self) {
        self.has_quorum = !self.has_quorum;
        let what = if self.has_quorum { Befalling::QuorumRegained } else { Befalling::QuorumLost };
        self.cluster.story.befell("", what);
        if self.has_quorum { self.cluster.store.regain_quorum() } else { self.cluster.store.lose_quorum() }
    }

    pub async fn switch_daemon(&mut self, machine: usize) {
        let condition = &mut self.conditions[machine];
        let node = &mut self.cluster.members[machine].node;
        match condition.daemon {
            _ if condition.is_off => {}
            Daemon::Gone => self.restart(machine).await,
            Daemon::Runs => {
                node.kill().await;
                condition.daemon = Daemon::Gone;
            }
            Daemon::Frozen => self.switch_freezer(machine),
        }
    }

    pub fn switch_freezer(&mut self, machine: usize) {
        let condition = &mut self.conditions[machine];
        let node = &self.cluster.members[machine].node;
        match condition.daemon {
            Daemon::Runs => {
                node.freeze(true);
                condition.daemon = Daemon::Frozen;
            }
            Daemon::Frozen => {
                node.freeze(false);
                condition.daemon = Daemon::Runs;
            }
            Daemon::Gone => {}
        }
    }

    /// `systemctl stop deployer`, and later its start.
    pub async fn terminate(&mut self, machine: usize) {
        match self.conditions[machine].daemon {
            Daemon::Runs => {
                self.cluster.members[machine].node.terminate();
                self.conditions[machine].daemon = Daemon::Gone;
            }
            Daemon::Gone if !self.conditions[machine].is_off => self.restart(machine).await,
            Daemon::Frozen | Daemon::Gone => {}
        }
    }

    /// Starts a daemon once the one before it has ended.
    async fn restart(&mut self, machine: usize) {
        let node = &mut self.cluster.members[machine].node;
        let ended = async {
            while node.runs() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        if timeout(TERMINATION, ended).await.is_err() {
            node.kill().await;
        }
        node.start_again();
        self.conditions[machine].daemon = Daemon::Runs;
    }

    pub fn switch_engine(&mut self, machine: usize, blow: Blow) {
        let condition = &mut self.conditions[machine];
        let engine = &self.cluster.members[machine].node.engine;
        condition.engine = match (condition.engine, blow) {
            _ if condition.is_off => return,
            (Engine::Gone, _) => {
                engine.come_back();
                Engine::Runs
            }
            (Engine::Hung, Blow::EngineHang) => {
                engine.go_on();
                Engine::Runs
            }
            (Engine::Runs, Blow::EngineHang) => {
                engine.hang();
                Engine::Hung
            }
            (_, Blow::EngineStop) => {
                engine.shut_down();
                Engine::Gone
            }
            _ => {
                engine.crash();
                Engine::Gone
            }
        };
    }

    /// The machine goes down, in good order or not, and later comes up.
    pub async fn switch_host(&mut self, machine: usize, blow: Blow) {
        if self.conditions[machine].is_off {
            self.boot(machine).await;
            return;
        }
        let node = &mut self.cluster.members[machine].node;
        if blow == Blow::Reboot && self.conditions[machine].daemon == Daemon::Runs {
            node.go_down();
            let ended = async {
                while node.runs() {
                    sleep(Duration::from_millis(200)).await;
                }
            };
            // The service manager kills what does not end.
            if timeout(TERMINATION, ended).await.is_err() {
                node.kill().await;
            }
            node.engine.shut_down();
        } else {
            node.kill().await;
            node.engine.lose_power();
        }
        let condition = &mut self.conditions[machine];
        (condition.daemon, condition.engine, condition.is_off) = (Daemon::Gone, Engine::Gone, true);
    }

    async fn boot(&mut self, machine: usize) {
        let node = &mut self.cluster.members[machine].node;
        node.boot();
        node.engine.come_back();
        node.start_again();
        let condition = &mut self.conditions[machine];
        (condition.daemon, condition.engine, condition.is_off) = (Daemon::Runs, Engine::Runs, false);
    }

    pub fn switch_disk(&mut self, machine: usize) {
        let is_full = &mut self.conditions[machine].is_disk_full;
        *is_full = !*is_full;
        self.cluster.members[machine].node.fill_disk(*is_full);
    }

    pub fn switch_engine_disk(&mut self, machine: usize) {
        let is_full = &mut self.conditions[machine].is_engine_full;
        *is_full = !*is_full;
        self.cluster.members[machine].node.engine.set_full(*is_full);
        self.cluster.tell(&format!("machine {machine} has room for images: {}", !*is_full));
    }

    pub fn switch_registry(&self, machine: usize) {
        let host = &self.cluster.members[machine].node.host;
        let is_reached = self.cluster.registry.is_reached_by(host);
        self.cluster.registry.obstruct(host, is_reached.then_some(Obstruction::Unreachable));
    }

    /// The next who ask are answered by a replica that has not heard of the last push.
    pub fn fall_behind(&self) {
        let track = self.one_of(&self.cluster.tracks);
        if let [.., before, _] = &self.cluster.registry.tags(&track)[..] {
            self.cluster.tell(&format!("a replica of {track} is behind"));
            // What is said twice, a minute apart, is believed.
            self.cluster.registry.fall_behind(before, 1);
        }
    }

    pub fn switch_networks(&mut self, machine: usize) {
        let are_gone = &mut self.conditions[machine].has_no_networks;
        *are_gone = !*are_gone;
        self.cluster.members[machine].node.engine.set_without_networks(*are_gone);
        self.cluster.tell(&format!("machine {machine} has its networks: {}", !*are_gone));
    }

    /// What its workloads need when they begin goes away, such as a database, or is back.
    pub fn switch_dependency(&mut self, machine: usize) {
        let is_gone = &mut self.conditions[machine].has_no_dependency;
        *is_gone = !*is_gone;
        self.cluster.members[machine].node.engine.set_without_dependency(*is_gone);
        self.cluster.tell(&format!("machine {machine} has what its workloads need: {}", !*is_gone));
    }

    pub fn snapshot_or_restore(&mut self) {
        match self.snapshot.take() {
            None => {
                self.cluster.story.befell("", Befalling::Snapshot);
                self.snapshot = Some(self.cluster.store.snapshot());
            }
            Some(snapshot) => {
                self.cluster.story.befell("", Befalling::Restored);
                self.cluster.store.restore(&snapshot);
                self.has_restored = true;
            }
        }
    }

    /// A machine comes whose daemon bears the name of one that is there; it stays until the storm is over.
    pub fn let_twin_come(&mut self, of: usize) {
        if !self.has_twin {
            let spec = Spec::new("web", &self.cluster.track);
            let seed = self.random.random() % 1_000_000;
            self.cluster.add_twin(of, &[spec], seed);
            self.has_twin = true;
        }
    }

    /// Ends everything that is wrong with a machine.
    pub async fn mend(&mut self, machine: usize) {
        let condition = self.conditions[machine];
        self.cluster.members[machine].node.engine.forgive();
        self.cluster.members[machine].line.forgive();
        let host = self.cluster.members[machine].node.host.clone();
        self.cluster.registry.obstruct(&host, None);
        if condition.is_cut {
            self.switch_line(machine);
        }
        if condition.is_disk_full {
            self.switch_disk(machine);
        }
        if condition.is_engine_full {
            self.switch_engine_disk(machine);
        }
        if condition.has_no_networks {
            self.switch_networks(machine);
        }
        if condition.has_no_dependency {
            self.switch_dependency(machine);
        }
        match condition.engine {
            _ if condition.is_off => self.boot(machine).await,
            Engine::Runs => {}
            Engine::Hung => self.switch_engine(machine, Blow::EngineHang),
            Engine::Gone => self.switch_engine(machine, Blow::EngineCrash),
        }
        match self.conditions[machine].daemon {
            Daemon::Runs => {}
            Daemon::Frozen => self.switch_freezer(machine),
            Daemon::Gone => self.restart(machine).await,
        }
        self.unpause_all(machine);
    }
}
