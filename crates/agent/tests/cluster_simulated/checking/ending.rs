//! What must be so in the end.

use super::*;

fn ends_with(name: &str, version: u32, shown: Shown, id: u32) -> End {
    let (id, number, name) = (id.to_string(), id, name.to_owned());
    let containers = vec![EndOfContainer { id, number, name, digest: Some(digest(version)), shown }];
    End { hosts: vec![EndOfHost { host: "a".into(), journals: Vec::new(), containers }], ..End::default() }
}

#[test]
fn in_the_end_everything_is_as_somebody_wants_it() {
    let history = replaced(10);
    let all = [BEGINNING, history.as_str()];
    finds(&all, &ends_with("web", 2, Shown::Running, 2), &[]);
    finds(&all, &ends_with("web", 1, Shown::Running, 1), &[Kind::NotConverged]);
    finds(&all, &ends_with("web.new-00c0ffee", 2, Shown::Created, 2), &[Kind::LeftOver]);
    let mut end = ends_with("web", 2, Shown::Running, 2);
    end.left.push("/t/locks/x/claim/0".to_owned());
    end.hosts[0].journals.push("00c0ffee".to_owned());
    finds(&all, &end, &[Kind::LeftOver, Kind::LeftOver]);
    let mut end = ends_with("web", 1, Shown::Running, 1);
    end.said.insert("1".to_owned(), ("failed_here".to_owned(), "no room".to_owned()));
    finds(&all, &end, &[]);
}

/// An engine that died while the replacement was under way leaves nothing that runs; that is ours to mend.
#[test]
fn what_a_replacement_stopped_runs_in_the_end() {
    let dies = "20 a befell EngineGone; 21 a engine end 2; 21 a is 2 Exited; 22 a befell EngineBack; 60 a releases web";
    let end = ends_with("web", 2, Shown::Exited, 2);
    finds(&[BEGINNING, &begun(10, 12), dies], &end, &[Kind::Lost]);
    let later = dies.replace("20", "70").replace("21", "71").replace("22", "72").replace("60 a releases web", "");
    finds(&[BEGINNING, &replaced(10), &later], &end, &[]);
    // A workload that ends after its gate, while the store is away, is nobody's loss; at its gate it is.
    let by_itself = |at: u64| format!("{at} a itself end 2; {at} a is 2 Exited; 60 a releases web");
    finds(&[BEGINNING, &begun(10, 12), &by_itself(40)], &end, &[]);
    finds(&[BEGINNING, &begun(10, 12), &by_itself(20)], &end, &[Kind::Lost]);
}
