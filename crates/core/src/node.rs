//! A node of the cluster, and whether a daemon may take its name.

use serde::{Deserialize, Serialize};

/// By what a daemon is told from every other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The machine's boot: it differs after each boot, and between machines (`random(4)`, `boot_id`).
    pub boot: String,
    /// The state directory's own random name: copies share it, other directories do not.
    pub state: String,
}

/// What a daemon says of itself for as long as it lives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sign {
    /// The node's name, which is what operators see and the others know it by.
    pub node: String,
    /// The machine's boot; see [`Identity`].
    pub boot: String,
    /// The state directory; see [`Identity`].
    pub state: String,
    /// The daemon's version.
    pub version: String,
    /// What this daemon takes slots of: all must agree on it, or their slots would not exclude each other.
    pub scope: String,
    /// The lease that the sign hangs on.
    pub lease: i64,
    /// Unix seconds of its start, for display only.
    pub at: i64,
}

/// What a daemon that starts does about a sign that already bears its node's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claimant {
    /// There is none, or it was left by a daemon before this one: take the name.
    Heir,
    /// A twin may live: wait until its lease has ended.
    Stranger,
}

/// Whether the daemon that left a sign is certainly gone. A state directory is locked by one daemon at a time, so on
/// the same boot of the same machine a free lock proves it. After a reboot, or with another directory, only the end of
/// the lease does: the name may have been given to two machines.
pub fn claimant(left: Option<&Sign>, own: &Identity) -> Claimant {
    match left {
        None => Claimant::Heir,
        Some(left) if left.boot == own.boot && left.state == own.state => Claimant::Heir,
        Some(_) => Claimant::Stranger,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(left: Option<(&str, &str)>, expected: Claimant) {
        let left = left.map(|(boot, state)| Sign {
            node: "a".into(),
            boot: boot.into(),
            state: state.into(),
            version: "1".into(),
            scope: "cluster".into(),
            lease: 7,
            at: 0,
        });
        let own = Identity { boot: "boot".into(), state: "state".into() };
        assert_eq!(claimant(left.as_ref(), &own), expected);
    }

    #[test]
    fn only_the_same_directory_on_the_same_boot_takes_over_at_once() {
        check(None, Claimant::Heir);
        check(Some(("boot", "state")), Claimant::Heir);
        check(Some(("another boot", "state")), Claimant::Stranger);
        check(Some(("boot", "another state")), Claimant::Stranger);
    }
}
