//! What the store says, read by this node although others wrote it.

use super::*;

fn entry(value: &str) -> Entry {
    Entry { key: "/deployer/x".into(), value: value.into(), create_revision: 3, mod_revision: 7 }
}

/// Whoever can write the prefix puts words before people on every node.
#[test]
fn security_9_no_value_of_another_node_holds_a_control_character() {
    let halt = decode::<Halt>(entry(
        "{\"seq\": 2, \"node\": \"a\\u001b[2J\", \"reason\": \"boom\\n\u{9b}\u{202e}\", \"at\": 0}",
    ));
    let halt = halt.expect("it makes sense").value;
    assert_eq!((halt.node.as_str(), halt.reason.as_str()), (r"a\u001b[2J", r"boom\n\u009b\u202e"));
    let plain = decode::<Halt>(entry(r#"{"seq": 2, "node": "a", "reason": "größer: \"C:\\new\"", "at": 0}"#));
    assert_eq!(plain.expect("it makes sense").value.reason, r#"größer: "C:\new""#);
    let nonsense = decode::<Halt>(entry("{\"seq\": \"\\u001b[2J\"}")).expect_err("no number").to_string();
    assert!(nonsense.contains("/deployer/x") && !nonsense.contains('\u{1b}'), "{nonsense:?}");
}
