//! What must be so of verdicts, and of what is gone back to.

use super::*;

#[test]
fn bad_is_what_failed_by_itself() {
    let candidate = "9 a claims web stopping; 10 a us create 2 web.new-00c0ffee 2; 10 a us start 2; 10 a is 2 Running";
    finds_in(&[candidate, "11 a is 2 Running serves; 20 a finds 2 bad"], &[Kind::FalseBad]);
    finds_in(&[candidate, "11 a person end 2; 20 a finds 2 bad"], &[Kind::FalseBad]);
    finds_in(&[candidate, "11 a engine end 2; 20 a finds 2 bad"], &[Kind::FalseBad]);
    finds_in(&[candidate, "11 a itself end 2; 20 a finds 2 bad"], &[]);
    finds_in(&[candidate, "11 a is 2 Running serves; 12 a is 2 Unhealthy; 20 a finds 2 bad"], &[]);
    finds_in(&[candidate, "20 a finds 2 bad"], &[]);
    finds_in(&[candidate, "13 a finds 2 bad"], &[Kind::FalseBad]);
    // A start that is carried out late takes nothing back.
    finds_in(&[candidate, "16 a us stop 2; 17 a us end 2; 18 a us start 2; 20 a finds 2 bad"], &[]);
    finds_in(&[candidate, "11 a itself end 2; 19 b claims web stopping; 20 b finds 2 bad"], &[Kind::FalseBad]);
}

#[test]
fn a_verdict_has_a_ground_and_stands() {
    finds_in(&["5 - push 3 ExitsAtOnce; 9 a claims web stopping; 10 a finds 3 good"], &[Kind::FalseGood]);
    let candidate = "9 a claims web stopping; 10 a us create 2 web.new-00c0ffee 2; 10 a us start 2; 11 a itself end 2";
    finds_in(&[candidate, "12 a finds 2 bad; 13 a finds 2 good"], &[Kind::VerdictChanged, Kind::FalseGood]);
}

/// By one and the same daemon: what one before it has seen is lost with it.
#[test]
fn good_is_what_was_watched_for_as_long_as_a_gate_takes() {
    let away = "10 a befell DaemonKilled; 30 a befell DaemonStarted";
    finds_in(&[&begun(10, 12), "26 a finds 2 good"], &[]);
    finds_in(&[&begun(10, 12), "25 a finds 2 good"], &[Kind::FalseGood]);
    finds_in(&[&begun(10, 12), &away.replace("10 a", "20 a"), "31 a finds 2 good"], &[Kind::FalseGood]);
    finds_in(&[&begun(10, 12), &away.replace("10 a", "26 a"), "31 a finds 2 good"], &[]);
    finds_in(&[&begun(10, 12), &away.replace("10 a", "20 a"), "40 a finds 2 good"], &[]);
}

/// Until then it is the way back.
#[test]
fn the_old_container_stays_until_the_new_one_was_watched() {
    finds_in(&[&begun(10, 12), "17 a us remove 1"], &[Kind::Unproven]);
    finds_in(&[&begun(10, 12), "18 a us remove 1"], &[]);
    let away = "17 a befell DaemonKilled; 30 a befell DaemonStarted";
    finds_in(&[&begun(10, 12), away, "31 a us remove 1"], &[Kind::Unproven]);
    finds_in(&[&begun(10, 12), away, "32 a us remove 1"], &[]);
    finds_in(&[&begun(10, 12), "17 a us end 2; 17 a us remove 2"], &[]);
    finds_in(&[&begun(10, 12), "17 a person remove 1"], &[]);
}

/// Else the next has begun the same before it hears of it.
#[test]
fn a_verdict_comes_before_the_slot_is_given_back() {
    let failed = "9 a claims web stopping; 10 a us create 2 web.new-00c0ffee 2; 10 a us start 2; 11 a itself end 2";
    finds_in(&[failed, "12 a finds 2 bad; 13 a releases web"], &[]);
    finds_in(&[failed, "12 a releases web; 13 a finds 2 bad"], &[Kind::LateVerdict]);
    finds_in(&[failed, "12 a releases web; 13 a befell LineCut; 14 a finds 2 bad"], &[]);
    finds_in(&[failed, "12 a releases web; 13 a us start 1; 14 a finds 2 bad"], &[Kind::LateVerdict]);
    // A store that was put back has taken the claim from a replacement that goes on.
    let robbed = "9 a claims web stopping; 10 a us create 2 web.new-00c0ffee 2; 10 a us start 2; 20 - befell Restored";
    finds_in(&[robbed, "90 a itself end 2; 91 a finds 2 bad"], &[]);
    finds_in(
        &[robbed, "90 a itself end 2; 91 a claims web acquired; 92 a releases web; 99 a finds 2 bad"],
        &[Kind::LateVerdict],
    );
}

#[test]
fn nothing_goes_back_without_a_ground() {
    finds_in(&[&replaced(10), "60 a us create 3 web.new-00c0ffe1 1"], &[Kind::Downgraded]);
    finds_in(&[&replaced(10), "59 - push 1 Serves; 60 a us create 3 web.new-00c0ffe1 1"], &[]);
}

/// Without a verdict the next tries it again, and the one after that, for ever.
#[test]
fn a_version_that_fails_each_time_is_judged() {
    let tries = |pause: &str, end: &str| {
        let one = |id: u64| {
            let at = 10 * id;
            let made =
                format!("{at} a claims web stopping; {at} a us create {id} web.new-00c0ffee 2; {at} a us start {id}");
            let failed = format!("{} a {end} {id}; {} a us remove {id}; {} a releases web", at + 1, at + 2, at + 3);
            format!("{made};{failed};{}", if id == 4 { pause } else { "" })
        };
        (2..=5).map(one).collect::<Vec<_>>().join(";")
    };
    finds_in(&[&tries("", "itself end")], &[Kind::TriedForEver]);
    finds_in(&[&tries("49 - push 2 ExitsAtOnce", "itself end")], &[]);
    finds_in(&[&tries("49 - befell Restored", "itself end")], &[]);
    finds_in(&[&tries("", "engine end")], &[]);
}
