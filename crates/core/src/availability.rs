//! Whether one more instance of a service may go down, from what all nodes say.
//!
//! A slot alone says that nobody else is in the middle of a replacement; it does not say that everybody else is up.
//! So both are asked: an instance counts as down unless a living node says that it is up, or while it is claimed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::image::{Digest, Track};

/// An instance that is meant to run, whether its node lives or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The node it runs on.
    pub node: String,
    /// The track it runs.
    pub image: Track,
    /// Its name.
    pub container: String,
    /// Its node was stopped by a person, who knows that nobody looks after it: it is not counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub off: bool,
}

/// That a node has instances of a track.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The services that they are instances of.
    pub services: BTreeSet<String>,
}

/// What a living node says of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether it runs and is not unhealthy.
    pub up: bool,
    /// The container's ID.
    pub id: String,
    /// The ID of its image.
    pub image_id: String,
    /// The registry's digest of its image, if it has one.
    pub digest: Option<Digest>,
    /// A word for people and programs, such as `current` or `failed_here`.
    pub state: String,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// Which digests of a track a node has, and which it cannot have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fetched {
    /// On its disk.
    pub here: BTreeSet<Digest>,
    /// Not to be had, with the reason.
    #[serde(default)]
    pub trouble: Vec<(Digest, String)>,
}

/// How a node fares with the target of one of its containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetching {
    /// It is on the disk.
    Here,
    /// It is being brought, or it is not decided yet whether it will be.
    UnderWay,
    /// It could not be brought, with the reason.
    Failed(String),
    /// The container is left alone, so that nothing is brought for it, with the reason.
    NotWanted(String),
}

impl Fetched {
    /// What a node says, given how it fares for each of its containers. While a digest is on its way for any of them it
    /// says nothing, and is waited for.
    pub fn of(targets: impl Iterator<Item = (Digest, Fetching)>) -> Self {
        let targets: Vec<(Digest, Fetching)> = targets.collect();
        let is_under_way = |digest: &Digest| targets.contains(&(digest.clone(), Fetching::UnderWay));
        let mut fetched = Self::default();
        for (digest, fetching) in &targets {
            match fetching {
                Fetching::Here => drop(fetched.here.insert(digest.clone())),
                Fetching::UnderWay => {}
                Fetching::Failed(reason) => fetched.trouble.push((digest.clone(), reason.clone())),
                Fetching::NotWanted(_) if is_under_way(digest) => {}
                Fetching::NotWanted(reason) => {
                    fetched.trouble.push((digest.clone(), format!("left alone here: {reason}")));
                }
            }
        }
        fetched
    }

    /// Whether the node has said anything of a digest.
    pub fn speaks_of(&self, digest: &Digest) -> bool {
        self.here.contains(digest) || self.trouble.iter().any(|(troubled, _)| troubled == digest)
    }
}

/// How many instances of a service may be down together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// So many.
    Count(u32),
    /// So many of a hundred, rounded down, one at least: with fewer nothing could ever be replaced.
    Percent(u8),
}

impl Default for Limit {
    /// One at a time.
    fn default() -> Self {
        Self::Count(1)
    }
}

impl Limit {
    /// Reads `2` or `25%`; none may be zero.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|p| (1..=100).contains(p)).map(Self::Percent),
            None => text.parse().ok().filter(|count| *count > 0).map(Self::Count),
        }
    }

    /// How many of `total` instances that is.
    pub fn of(self, total: usize) -> usize {
        match self {
            Self::Count(count) => count as usize,
            Self::Percent(percent) => (total * usize::from(percent) / 100).max(1),
        }
    }
}

/// One registered instance, as all that is known of it comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its node.
    pub node: String,
    /// Its container's name.
    pub container: String,
    /// A living node says that it is up, and nobody has claimed it.
    pub is_up: bool,
}

/// Why an instance has to wait before it may go down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// The instance is not registered: the others would not count it.
    NotRegistered,
    /// As many as may be are down; here is one of them.
    OthersDown(Standing),
}

/// Whether an instance of a service may be replaced now. What is down already may always be.
///
/// # Errors
/// [`Wait`] says for what.
pub fn may_go_down(standings: &[Standing], node: &str, container: &str, limit: Limit) -> Result<(), Wait> {
    let is_own = |standing: &&Standing| standing.node == node && standing.container == container;
    let own = standings.iter().find(is_own).ok_or(Wait::NotRegistered)?;
    let mut down = standings.iter().filter(|standing| !standing.is_up);
    let limit = limit.of(standings.len());
    if !own.is_up || down.clone().count() < limit {
        return Ok(());
    }
    Err(down.next().map_or(Wait::NotRegistered, |standing| Wait::OthersDown(standing.clone())))
}

/// A service in numbers, where the instances of other nodes are only counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// This node's own, each as its engine shows it.
    pub own: Vec<Standing>,
    /// Those of other nodes.
    pub others: u64,
    /// Of these, those that are up by the word of living nodes.
    pub others_up: u64,
    /// Slots of the scope that are taken. What is being replaced counts as down, whatever is said of it.
    pub claims: u64,
}

impl Tally {
    /// How many instances certainly count; of the others some may be off, and make no percentage larger.
    pub fn certain(&self) -> usize {
        usize::try_from(self.others_up).unwrap_or(usize::MAX).saturating_add(self.own.len())
    }

    /// Whether an instance of this node may certainly be replaced now. Otherwise the numbers do not tell, since some may not
    /// count, or not have been counted: each is to be looked at, as [`may_go_down`] does.
    pub fn lets_go(&self, node: &str, container: &str, limit: Limit) -> bool {
        let is_it = |standing: &&Standing| standing.node == node && standing.container == container;
        let Some(own) = self.own.iter().find(is_it) else { return false };
        let own_down = self.own.iter().filter(|standing| !standing.is_up).count() as u64;
        let down = self.others.saturating_sub(self.others_up) + own_down + self.claims;
        !own.is_up || down < limit.of(self.certain()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Own instances as `a+ b-`, others of whom so many are up, and slots taken: whether `a` may go.
    #[track_caller]
    fn check_tally(own: &str, [up, others, claims]: [u64; 3], limit: &str, expected: bool) {
        let own = own.split_whitespace().map(|word| {
            let (container, mark) = word.split_at(word.len() - 1);
            Standing { node: "n".into(), container: container.into(), is_up: mark == "+" }
        });
        let tally = Tally { own: own.collect(), others, others_up: up, claims };
        let limit = Limit::parse(limit).expect("a limit");
        assert_eq!(tally.lets_go("n", "a", limit), expected, "{tally:?} {limit:?}");
    }

    #[test]
    fn numbers_let_an_instance_go_where_nothing_else_is_down() {
        check_tally("a+", [9, 9, 0], "1", true);
        check_tally("a+ b+", [9, 9, 0], "1", true);
        check_tally("a+", [8, 9, 0], "1", false);
        check_tally("a+ b-", [9, 9, 0], "1", false);
        check_tally("a+", [9, 9, 1], "1", false);
        check_tally("a+", [8, 9, 0], "2", true);
        check_tally("a+", [8, 9, 1], "2", false);
        check_tally("a-", [0, 9, 1], "1", true);
        check_tally("b+", [9, 9, 0], "1", false);
        // Three of ten are a third of what is up, and no third of nothing.
        check_tally("a+", [7, 9, 0], "30%", false);
        check_tally("a+", [8, 9, 0], "30%", true);
    }

    /// `a+ b-`: instance a is up, b is down.
    #[track_caller]
    fn check(standings: &str, own: &str, limit: &str, expected: Result<(), Option<&str>>) {
        let standings: Vec<Standing> = standings
            .split_whitespace()
            .map(|word| {
                let (container, mark) = word.split_at(word.len() - 1);
                Standing { node: "n".into(), container: container.into(), is_up: mark == "+" }
            })
            .collect();
        let limit = Limit::parse(limit).expect("a limit");
        let outcome = may_go_down(&standings, "n", own, limit).map_err(|wait| match wait {
            Wait::NotRegistered => None,
            Wait::OthersDown(standing) => Some(standing.container),
        });
        assert_eq!(outcome, expected.map_err(|wait| wait.map(str::to_owned)), "{standings:?} {limit:?}");
    }

    #[test]
    fn as_many_go_down_as_the_limit_says() {
        check("a+ b+ c+", "a", "1", Ok(()));
        check("a+ b- c+", "a", "1", Err(Some("b")));
        check("a+ b- c+", "a", "2", Ok(()));
        check("a+ b- c- d+", "a", "50%", Err(Some("b")));
        check("a+ b- c+ d+", "a", "50%", Ok(()));
        check("a+ b+", "a", "1%", Ok(()));
    }

    #[test]
    fn what_is_down_already_is_always_replaced_and_what_is_unknown_never() {
        check("a- b- c-", "a", "1", Ok(()));
        check("b+ c+", "a", "1", Err(None));
    }

    /// `1 here, 2 failed`: how each container's target fares, and the digests that the node speaks of.
    #[track_caller]
    fn check_fetched(targets: &str, expected: &str) {
        let digest = |letter: &str| Digest::parse(&format!("sha256:{}", letter.repeat(64))).expect("a digest");
        let targets = targets.split(", ").filter_map(|target| target.split_once(' ')).map(|(letter, word)| {
            let fetching = match word {
                "here" => Fetching::Here,
                "under way" => Fetching::UnderWay,
                "failed" => Fetching::Failed("no room".into()),
                _ => Fetching::NotWanted("it belongs to Nomad".into()),
            };
            (digest(letter), fetching)
        });
        let fetched = Fetched::of(targets);
        let spoken: Vec<&str> = ["1", "2"].into_iter().filter(|letter| fetched.speaks_of(&digest(letter))).collect();
        assert_eq!(spoken.join(" "), expected, "{fetched:?}");
    }

    #[test]
    fn a_node_says_also_what_it_will_never_fetch_and_nothing_of_what_is_under_way() {
        check_fetched("1 here, 2 failed", "1 2");
        check_fetched("1 not wanted", "1");
        check_fetched("1 under way", "");
        check_fetched("1 not wanted, 1 under way, 2 not wanted", "2");
        check_fetched("1 not wanted, 1 here", "1");
    }

    #[test]
    fn a_node_has_answered_the_barrier_when_it_has_the_digest_or_says_why_not() {
        let digest = |letter: &str| Digest::parse(&format!("sha256:{}", letter.repeat(64))).expect("a digest");
        let fetched = Fetched {
            here: [digest("a")].into(),
            trouble: vec![(digest("b"), "disk full".into()), (digest("c"), "denied".into())],
        };
        let answered = ["a", "b", "c", "d"].map(|letter| fetched.speaks_of(&digest(letter)));
        assert_eq!(answered, [true, true, true, false]);
    }

    #[test]
    fn a_limit_is_a_number_or_a_percentage_and_never_zero() {
        for text in ["0", "0%", "101%", "-1", "", "%", "one"] {
            assert_eq!(Limit::parse(text), None, "{text}");
        }
        assert_eq!(Limit::parse("25%").map(|limit| limit.of(10)), Some(2));
    }
}
