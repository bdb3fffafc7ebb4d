//! What people do to containers, and what workloads do by themselves.

use deployer_core::slot::{Claim, ClaimPhase, remove_unmoved};
use deployer_simulated::engine::Move;
use std::time::Duration;

use super::Storm;

impl Storm {
    /// A name that a person sees on a machine: of containers that no replacement has named.
    fn some_container(&self, machine: usize) -> Option<String> {
        let names = self.names(machine);
        (!names.is_empty()).then(|| self.one_of(&names))
    }

    fn names(&self, machine: usize) -> Vec<String> {
        let names = self.cluster.members[machine].node.engine.containers().into_iter().map(|(name, ..)| name);
        names.filter(|name| !name.contains('.') && !name.starts_with("theirs")).collect()
    }

    pub fn workload_dies(&self, machine: usize) {
        if let Some(name) = self.some_container(machine) {
            self.cluster.members[machine].node.engine.dies(&name);
        }
    }

    /// The HEALTHCHECK fails for a while, or until somebody does something.
    pub fn workload_falls_ill(&self, machine: usize) {
        let recovers = [None, Some(Duration::from_secs(3)), Some(Duration::from_secs(40))];
        if let Some(name) = self.some_container(machine) {
            self.cluster.members[machine].node.engine.falls_ill(&name, self.one_of(&recovers));
        }
    }

    pub fn person(&self, machine: usize) {
        let Some(name) = self.some_container(machine) else { return };
        let other = if name.ends_with("-x") { name.trim_end_matches("-x").to_owned() } else { format!("{name}-x") };
        let moves = [
            Move::Stop,
            Move::Start,
            Move::Start,
            Move::Restart,
            Move::Restart,
            Move::Remove,
            Move::Rename(other),
            Move::MakeAnew,
            Move::MakeAnew,
            Move::Pause,
            Move::Unpause,
            Move::Unpause,
        ];
        self.cluster.members[machine].node.engine.does(&name, &self.one_of(&moves));
    }

    pub fn prune(&self, machine: usize) {
        let images = [None, Some(false), Some(true)];
        self.cluster.tell(&format!("a person prunes on machine {machine}"));
        self.cluster.members[machine].node.engine.prune(self.one_of(&images));
    }

    /// Nobody leaves a container paused for ever: its gate would wait as long.
    pub fn unpause_all(&self, machine: usize) {
        let engine = &self.cluster.members[machine].node.engine;
        for (name, ..) in engine.containers() {
            engine.does(&name, &Move::Unpause);
        }
    }

    /// What a person does with `deployer unlock` where a restored store shows a claim that was past its fence on an earlier
    /// boot of the machine: its daemon cannot tell it from one of a machine that was cloned.
    pub async fn unlock_what_no_daemon_can_end(&mut self) {
        let world = &self.cluster.members[0].node.world;
        for entry in self.cluster.store.entries(&world.keys.locks()) {
            let Some((scope, slot)) = world.keys.slot_of(&entry.key) else { continue };
            let claim: Claim = serde_json::from_slice(&entry.value).expect("a claim");
            let holder = self.cluster.members.iter().find(|member| member.node.world.settings.node == claim.node);
            let is_of_this_boot =
                holder.is_some_and(|member| member.node.world.settings.identity.boot == claim.machine);
            if claim.phase == ClaimPhase::Stopping && !is_of_this_boot {
                self.cluster.tell("a person unlocks what no daemon can end");
                let unlocked = world.store.txn(remove_unmoved(&world.keys, &scope, slot, &entry)).await;
                unlocked.expect("the storm is over");
            }
        }
    }
}
