//! Who ended a process: what an engine's events say that somebody did to a container.
//!
//! An engine tells of a process that ends by itself by `die` alone; what a person or a program asked for has an event of its
//! own besides (Docker API, `GET /events`). A stop is told as `kill`, `die`, `stop`; a restart as `kill`, `die`, `stop`,
//! `start`, `restart`; a removal by force as `kill`, `die`, `destroy`.

/// Signals that programs commonly take for a word and not for their end: hang-up, the two of the user, child, continue and
/// window size (Linux, `signal(7)`).
const MILD: [i32; 6] = [1, 10, 12, 17, 18, 28];

/// What somebody asked an engine to do to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeedKind {
    /// Sent it a signal, which may well not have ended it. A stop sends one or two, too.
    Kill {
        /// The signal's number, where the engine gives one.
        signal: Option<i32>,
    },
    /// Stopped it.
    Stop,
    /// Restarted it; told after its new start.
    Restart,
    /// Paused it.
    Pause,
    /// Gave it another name.
    Rename,
    /// Removed it.
    Destroy,
}

impl DeedKind {
    /// Whether it is meant to end a process.
    fn ends(self) -> bool {
        match self {
            Self::Kill { signal } => signal.is_none_or(|signal| !MILD.contains(&signal)),
            Self::Stop | Self::Restart | Self::Destroy => true,
            Self::Pause | Self::Rename => false,
        }
    }
}

/// One thing that somebody did to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed {
    /// What.
    pub kind: DeedKind,
    /// When, in nanoseconds since 1970 by the engine's clock.
    pub at: i64,
}

/// What has become of a process that was looked at before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Process {
    /// It lives.
    Lives,
    /// It has ended, and no other was started.
    Ended,
    /// Another one lives in its place.
    Replaced,
}

/// Whose doing it is that a container does not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Its own.
    Own,
    /// Nobody knows: not every event was heard.
    Unknown,
    /// Somebody is about to end it.
    Ending,
    /// Somebody ended it.
    Ended,
    /// Somebody restarted it.
    Restarted,
}

/// Whose doing it is, from what was done to a process since it was started, and whether every event since was heard.
///
/// A restart is told after the new start, and so falls to the process that it began: the end of that is not its doing.
pub fn doing(deeds: &[Deed], is_all_heard: bool, process: Process) -> Doing {
    let is_of_it = |deed: &&Deed| process != Process::Ended || deed.kind != DeedKind::Restart;
    let by_somebody = deeds.iter().filter(is_of_it).any(|deed| deed.kind.ends());
    match (process, by_somebody) {
        (Process::Lives, true) => Doing::Ending,
        (Process::Ended, true) => Doing::Ended,
        (Process::Replaced, true) => Doing::Restarted,
        (Process::Ended | Process::Replaced, false) if !is_all_heard => Doing::Unknown,
        _ => Doing::Own,
    }
}

/// Whether what was done may turn out to be the beginning of a stop: an engine tells of that after the process has ended, and
/// an image may name any signal for it.
pub fn is_doubtful(deeds: &[Deed]) -> bool {
    deeds.iter().any(|deed| matches!(deed.kind, DeedKind::Kill { .. }) || deed.kind.ends())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deeds(kinds: &[DeedKind]) -> Vec<Deed> {
        kinds.iter().map(|kind| Deed { kind: *kind, at: 1 }).collect()
    }

    fn kill(signal: i32) -> DeedKind {
        DeedKind::Kill { signal: Some(signal) }
    }

    /// What was done, and whose doing it is that the process lives and does not pass, has ended, or was replaced.
    #[track_caller]
    fn check(kinds: &[DeedKind], expected: [Doing; 3]) {
        let found = [Process::Lives, Process::Ended, Process::Replaced].map(|to| doing(&deeds(kinds), true, to));
        assert_eq!(found, expected, "{kinds:?}");
    }

    #[test]
    fn coordination_h5_what_a_person_ended_is_nobodys_failure() {
        let own = [Doing::Own; 3];
        let somebodys = [Doing::Ending, Doing::Ended, Doing::Restarted];
        check(&[], own);
        check(&[DeedKind::Stop], somebodys);
        check(&[DeedKind::Restart], [Doing::Ending, Doing::Own, Doing::Restarted]);
        check(&[DeedKind::Restart, DeedKind::Stop], somebodys);
        check(&[DeedKind::Destroy], somebodys);
        check(&[DeedKind::Kill { signal: None }], somebodys);
        check(&[kill(15)], somebodys);
        check(&[kill(9)], somebodys);
        check(&[kill(1), kill(10), kill(12), kill(17), kill(18), kill(28)], own);
        check(&[kill(1), DeedKind::Stop], somebodys);
        check(&[DeedKind::Pause, DeedKind::Rename], own);
    }

    #[test]
    fn of_an_end_that_nobody_heard_nothing_is_known() {
        let unheard = |kinds: &[DeedKind], process| doing(&deeds(kinds), false, process);
        assert_eq!(unheard(&[], Process::Lives), Doing::Own);
        assert_eq!(unheard(&[], Process::Ended), Doing::Unknown);
        assert_eq!(unheard(&[kill(1)], Process::Replaced), Doing::Unknown);
        assert_eq!(unheard(&[kill(9)], Process::Ended), Doing::Ended);
    }

    #[test]
    fn any_signal_may_be_the_beginning_of_a_stop() {
        for (kind, expected) in [
            (kill(1), true),
            (kill(9), true),
            (DeedKind::Stop, true),
            (DeedKind::Pause, false),
            (DeedKind::Rename, false),
        ] {
            assert_eq!(is_doubtful(&deeds(&[kind])), expected, "{kind:?}");
        }
        assert!(!is_doubtful(&[]));
    }
}
