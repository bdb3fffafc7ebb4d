//! Storms: pushes, good and bad, while everything fails that can, at moments that follow from a seed. Never may more than
//! one of all instances be down, and when the storm is over everything must converge and nothing be left behind.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::time::Duration;

use deployer_core::ambient::Ambient;
use tokio::time::{Instant, sleep};

use crate::simulated::cluster::Cluster;
use crate::simulated::engine;
use crate::simulated::registry::Behaviour;
use crate::simulated::store;

/// Steps of one storm.
const STEPS: u32 = 25;
/// The longest time between two steps, in milliseconds.
const PAUSE_LONGEST: u64 = 20_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Daemon {
    Runs,
    Frozen,
    Killed,
}

/// A cluster in a storm.
struct Storm<'a> {
    cluster: Cluster,
    daemons: Vec<Daemon>,
    cut: Vec<bool>,
    has_quorum: bool,
    random: Ambient,
    begun: Instant,
    story: &'a Mutex<Vec<String>>,
}

impl<'a> Storm<'a> {
    async fn gather(seed: u64, story: &'a Mutex<Vec<String>>) -> Self {
        let random = Ambient::chosen(|| 0, seed);
        let machines = 2 + (seed % 3) as usize;
        let containers: &[&str] = if seed.is_multiple_of(4) { &["web", "web-too"] } else { &["web"] };
        let cluster = Cluster::start(machines, containers, seed).await;
        let (daemons, cut) = (vec![Daemon::Runs; machines], vec![false; machines]);
        Self { cluster, daemons, cut, has_quorum: true, random, begun: Instant::now(), story }
    }

    fn below(&self, limit: u64) -> u64 {
        self.random.random() % limit
    }

    fn tell(&self, what: &str) {
        let line = format!("{:8.3} {what}", self.begun.elapsed().as_secs_f64());
        self.story.lock().expect("no panic with the lock").push(line);
    }

    async fn step(&mut self) {
        let machine = self.below(self.daemons.len() as u64) as usize;
        let name = self.cluster.members[machine].node.host.clone();
        match self.below(12) {
            0..3 => self.push().await,
            3..5 => self.fail_engine(machine),
            5..7 => self.fail_store(machine),
            7 => self.switch_line(machine),
            8 => self.switch_quorum(),
            9 => {
                self.tell("the store forgets its history");
                self.cluster.store.compact();
            }
            10 if self.daemons[machine] != Daemon::Frozen => self.switch_daemon(machine).await,
            _ if self.daemons[machine] == Daemon::Runs => {
                self.tell(&format!("{name} is frozen"));
                self.cluster.members[machine].node.freeze(true);
                self.daemons[machine] = Daemon::Frozen;
            }
            _ => self.thaw(machine),
        }
    }

    async fn push(&mut self) {
        const BEHAVIOURS: [Behaviour; 6] = [
            Behaviour::Serves,
            Behaviour::Serves,
            Behaviour::ExitsAtOnce,
            Behaviour::DiesAfter(Duration::from_secs(15)),
            Behaviour::NeverListens,
            Behaviour::StartRefused,
        ];
        let behaviour = BEHAVIOURS[self.below(6) as usize];
        let digest = self.cluster.push(behaviour);
        self.tell(&format!("push of {}, {behaviour:?}", digest.short()));
        if self.has_quorum {
            let first = self.below(self.daemons.len() as u64) as usize;
            self.cluster.notify(first).await;
        }
    }

    fn fail_engine(&self, machine: usize) {
        let fault = [engine::Fault::Refused, engine::Fault::Down, engine::Fault::Lost][self.below(3) as usize];
        let call = 1 + self.below(60);
        let node = &self.cluster.members[machine].node;
        self.tell(&format!("engine of {}: {fault:?} in {call} calls", node.host));
        node.engine.fail(call, fault);
    }

    fn fail_store(&self, machine: usize) {
        let late = Duration::from_millis(self.below(30_000));
        let fault = [store::Fault::Unsent, store::Fault::Lost, store::Fault::Late(late)][self.below(3) as usize];
        let call = 1 + self.below(40);
        let member = &self.cluster.members[machine];
        self.tell(&format!("line of {}: {fault:?} in {call} calls", member.node.host));
        member.line.fail(call, fault);
    }

    fn switch_line(&mut self, machine: usize) {
        let member = &self.cluster.members[machine];
        let name = &member.node.host;
        self.tell(&format!("{name} is {}", if self.cut[machine] { "joined again" } else { "cut off" }));
        if self.cut[machine] {
            member.line.heal()
        } else {
            member.line.cut()
        }
        self.cut[machine] = !self.cut[machine];
    }

    fn switch_quorum(&mut self) {
        self.tell(if self.has_quorum { "the store's quorum is lost" } else { "the store has its quorum again" });
        if self.has_quorum {
            self.cluster.store.lose_quorum()
        } else {
            self.cluster.store.regain_quorum()
        }
        self.has_quorum = !self.has_quorum;
    }

    async fn switch_daemon(&mut self, machine: usize) {
        let is_killed = self.daemons[machine] == Daemon::Killed;
        let name = self.cluster.members[machine].node.host.clone();
        self.tell(&format!("{name} is {}", if is_killed { "started again" } else { "killed" }));
        let node = &mut self.cluster.members[machine].node;
        if is_killed {
            node.start_again()
        } else {
            node.kill().await
        }
        self.daemons[machine] = if is_killed { Daemon::Runs } else { Daemon::Killed };
    }

    fn thaw(&mut self, machine: usize) {
        if self.daemons[machine] == Daemon::Frozen {
            let node = &self.cluster.members[machine].node;
            self.tell(&format!("{} goes on", node.host));
            node.freeze(false);
            self.daemons[machine] = Daemon::Runs;
        }
    }

    /// Ends everything that fails.
    async fn calm(&mut self) {
        if !self.has_quorum {
            self.switch_quorum();
        }
        for machine in 0..self.daemons.len() {
            self.cluster.members[machine].node.engine.forgive();
            self.cluster.members[machine].line.forgive();
            if self.cut[machine] {
                self.switch_line(machine);
            }
            if self.daemons[machine] == Daemon::Killed {
                self.switch_daemon(machine).await;
            }
            self.thaw(machine);
        }
        self.tell("the storm is over");
    }
}

async fn weather(seed: u64, story: &Mutex<Vec<String>>) {
    let mut storm = Storm::gather(seed, story).await;
    for _ in 0..STEPS {
        storm.step().await;
        sleep(Duration::from_millis(storm.below(PAUSE_LONGEST))).await;
    }
    storm.calm().await;
    let last = storm.cluster.push(Behaviour::Serves);
    storm.tell(&format!("push of {}, which everybody must run in the end", last.short()));
    storm.cluster.notify(0).await;
    storm.cluster.settle("after the storm").await;
    storm.cluster.assert_converged(&last, "after the storm");
}

/// Runs the storm of a seed in a world of its own; if it fails, says which and what happened.
fn run(seed: u64) {
    let story = Mutex::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let outcome = catch_unwind(AssertUnwindSafe(|| runtime.expect("a runtime").block_on(weather(seed, &story))));
    if let Err(panic) = outcome {
        let story = story.into_inner().expect("no panic with the lock").join("\n");
        eprintln!("the storm of seed {seed}; STORM={seed} runs it alone\n{story}");
        resume_unwind(panic);
    }
}

fn run_all(seeds: impl Iterator<Item = u64>) {
    match std::env::var("STORM") {
        Ok(seed) => run(seed.parse().expect("a number")),
        Err(_) => seeds.for_each(run),
    }
}

#[test]
fn storms_pass_and_leave_nothing_behind() {
    run_all(1..=20);
}
