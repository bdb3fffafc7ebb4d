//! Who had a hand in a container's life. Our own acts leave deeds, too: whoever ends a process says so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use deployer_core::deed::{Deed, DeedKind};
use tokio::time::Instant;

use crate::engine::EngineEvent;

/// Deeds that are remembered of one container; the oldest are forgotten first.
const DEEDS_MAX: usize = 16;

/// How long after a stop was given up its engine may still carry it out: one that stood still finds the call in its socket.
const LATE_STOP: Duration = Duration::from_secs(120);

/// What an event says that somebody did, if it says so.
fn deed_of(event: &EngineEvent) -> Option<Deed> {
    let kind = match event.action.as_str() {
        "kill" => DeedKind::Kill { signal: event.attributes.get("signal").and_then(|signal| signal.parse().ok()) },
        "stop" => DeedKind::Stop,
        "restart" => DeedKind::Restart,
        "pause" => DeedKind::Pause,
        "rename" => DeedKind::Rename,
        "destroy" => DeedKind::Destroy,
        _ => return None,
    };
    Some(Deed { kind, at: event.time_nano })
}

/// The deeds, by container ID.
#[derive(Default)]
pub(super) struct Deeds {
    of: BTreeMap<String, VecDeque<Deed>>,
    /// Processes that this program has ended itself, by container ID and the moment of their start.
    ended: BTreeMap<String, i64>,
    /// How many stops were told of containers whose process this program is ending, or has ended; until they are started again.
    ending: BTreeMap<String, u32>,
    /// Stops of this program that were not answered and may yet be carried out, by container ID.
    late: BTreeMap<String, Late>,
}

/// Stops of one container that nobody waits for any more.
struct Late {
    /// How many there may be. Each that is told of is one less, so that a person's is heard again.
    count: u32,
    until: Instant,
}

impl Deeds {
    /// Notes what an event says, once though it may be repeated.
    pub fn note(&mut self, event: &EngineEvent) {
        if event.action == "start" {
            self.ending.remove(&event.id);
        }
        let Some(deed) = deed_of(event) else { return };
        let is_stop = matches!(deed.kind, DeedKind::Kill { .. } | DeedKind::Stop);
        if is_stop && self.is_late(&event.id, deed.kind == DeedKind::Stop) {
            return;
        }
        let deeds = self.of.entry(event.id.clone()).or_default();
        if !deeds.contains(&deed) {
            deeds.push_back(deed);
        }
        if deeds.len() > DEEDS_MAX {
            deeds.pop_front();
        }
    }

    /// Takes what ends a process from now on for our own doing.
    pub fn end(&mut self, id: &str, started: i64) {
        self.ended.insert(id.to_owned(), started);
        self.ending.entry(id.to_owned()).or_default();
    }

    /// Takes one stop more of this container within the next two minutes for our own, whatever process it ends.
    pub fn stop_late(&mut self, id: &str) {
        let count = self.late.get(id).map_or(0, |late| late.count) + 1;
        self.late.insert(id.to_owned(), Late { count, until: Instant::now() + LATE_STOP });
    }

    /// Whether what is told of a stop belongs to one that nobody waits for, and if it is over, takes it for told.
    fn is_late(&mut self, id: &str, is_over: bool) -> bool {
        if let Some(told) = self.ending.get_mut(id) {
            *told += u32::from(is_over);
            // The first is the one that is waited for.
            if *told <= 1 {
                return true;
            }
        }
        let Some(late) = self.late.get_mut(id).filter(|late| Instant::now() < late.until && late.count > 0) else {
            return false;
        };
        late.count -= u32::from(is_over);
        true
    }

    /// What others did to a container's process since that was started, in order.
    pub fn of(&self, id: &str, started: i64) -> Vec<Deed> {
        if self.ended.get(id) == Some(&started) {
            return Vec::new();
        }
        self.of.get(id).into_iter().flatten().filter(|deed| deed.at > started).copied().collect()
    }

    /// Forgets a container.
    pub fn forget(&mut self, id: &str) {
        self.of.remove(id);
        self.ended.remove(id);
        self.ending.remove(id);
        self.late.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, at: i64) -> EngineEvent {
        let attributes = BTreeMap::from([("signal".to_owned(), "15".to_owned())]);
        let (kind, action, id) = ("container".to_owned(), action.to_owned(), "a".to_owned());
        EngineEvent { kind, action, detail: String::new(), id, attributes, time_nano: at }
    }

    /// As Engine 20.10 tells of `docker restart`: the start comes in the middle.
    #[test]
    fn a_restart_by_hand_is_told_from_an_end_and_a_start_of_its_own() {
        let told = |actions: &[&str]| {
            let mut deeds = Deeds::default();
            for (action, at) in actions.iter().zip(1..) {
                deeds.note(&event(action, at));
            }
            deeds.of("a", 0).into_iter().map(|deed| deed.kind).collect::<Vec<_>>()
        };
        let kill = DeedKind::Kill { signal: Some(15) };
        let restart = ["kill", "die", "stop", "start", "restart"];
        assert_eq!(told(&restart), [kill, DeedKind::Stop, DeedKind::Restart]);
        assert_eq!(told(&["kill", "die", "destroy"]), [kill, DeedKind::Destroy]);
        assert_eq!(told(&["create", "start", "health_status", "die", "oom", "start", "update", "unpause"]), []);
    }

    /// The stop that was waited for was taken for the one before it, which was given up: when that came, after the container had
    /// been put back, it was a person's, and the container stayed down.
    #[tokio::test(start_paused = true)]
    async fn of_two_stops_of_our_own_the_late_one_is_not_a_persons() {
        let mut deeds = Deeds::default();
        let tell = |deeds: &mut Deeds, actions: &[(&str, i64)]| {
            actions.iter().for_each(|(action, at)| deeds.note(&event(action, *at)));
        };
        deeds.end("a", 0);
        deeds.stop_late("a");
        tell(&mut deeds, &[("kill", 1), ("die", 2), ("stop", 3), ("start", 4), ("kill", 5), ("die", 6), ("stop", 7)]);
        assert_eq!(deeds.of("a", 4), [], "both are our own");
        tell(&mut deeds, &[("start", 8), ("kill", 9), ("stop", 10)]);
        assert_eq!(deeds.of("a", 8).len(), 2, "a third is a person's");
        // Both may end one process.
        deeds.end("a", 8);
        deeds.stop_late("a");
        tell(&mut deeds, &[("kill", 11), ("kill", 12), ("stop", 13), ("stop", 14), ("start", 15), ("stop", 16)]);
        assert_eq!(deeds.of("a", 15).len(), 1);
    }

    /// An engine that had stood still stopped the container that had been put back meanwhile, which was believed to be a
    /// person's wish.
    #[tokio::test(start_paused = true)]
    async fn a_stop_that_was_given_up_and_is_carried_out_late_is_nobody_elses() {
        let mut deeds = Deeds::default();
        deeds.stop_late("a");
        ["kill", "stop", "restart"].into_iter().zip(1..).for_each(|(action, at)| deeds.note(&event(action, at)));
        assert_eq!(deeds.of("a", 0).len(), 1, "a restart is a person's");
        deeds.note(&event("stop", 3));
        assert_eq!(deeds.of("a", 2).len(), 2, "one that was given up is carried out once");
        deeds.stop_late("a");
        tokio::time::advance(LATE_STOP).await;
        deeds.note(&event("stop", 4));
        assert_eq!(deeds.of("a", 3).len(), 1);
    }

    #[test]
    fn deeds_are_remembered_once_by_time_and_in_a_bounded_number() {
        let mut deeds = Deeds::default();
        for at in [1, 1, 2] {
            deeds.note(&event("stop", at));
        }
        let at = |deeds: Vec<Deed>| deeds.into_iter().map(|deed| deed.at).collect::<Vec<_>>();
        assert_eq!(at(deeds.of("a", 0)), [1, 2]);
        assert_eq!(at(deeds.of("a", 1)), [2]);
        assert!(deeds.of("b", 0).is_empty());
        deeds.end("a", 1);
        assert_eq!((at(deeds.of("a", 0)), at(deeds.of("a", 1))), (vec![1, 2], vec![]), "our own");
        deeds.end("a", 3);
        assert_eq!(at(deeds.of("a", 1)), [2]);
        (0..1000).for_each(|at| deeds.note(&event("stop", at)));
        assert_eq!(deeds.of("a", 0).len(), DEEDS_MAX);
        deeds.forget("a");
        assert!(deeds.of("a", 0).is_empty());
    }
}
