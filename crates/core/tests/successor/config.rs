//! A replacement keeps what the user asked for and takes everything else from the new image.
//! The numbers are those of the cases in which other updaters went wrong.

use crate::engine_model::{API_NEW, API_OLD, created, image, replace, replaced};
use deployer_core::successor::UserFields;
use serde_json::{Value, json};

/// Creates a container by `asked` on image `old`, replaces it on image `new`, and compares one place of its inspection.
#[track_caller]
fn check(old: &Value, asked: &Value, new: &Value, pointer: &str, expected: &Value) {
    let (old, new) = (image("a", old.clone()), image("b", new.clone()));
    let before = created("111", asked, &[], &old);
    let after = replaced(&before, &old, &new, "222", API_OLD);
    assert_eq!(
        after.pointer(pointer).unwrap_or(&Value::Null),
        expected,
        "{pointer}\nasked {asked}\non {old}\nthen {new}"
    );
}

/// Like [`check`], with a list of environment entries for each.
#[track_caller]
fn check_env(old: &[&str], asked: &[&str], new: &[&str], expected: &[&str]) {
    let env = |entries: &[&str]| json!({ "Env": entries });
    check(&env(old), &env(asked), &env(new), "/Config/Env", &json!(expected));
}

/// Like [`check`], with one field of `Config`.
#[track_caller]
fn check_field(field: &str, old: Value, asked: Value, new: Value, expected: Value) {
    let one = |value: &Value| if value.is_null() { json!({}) } else { json!({ field: value }) };
    check(&one(&old), &one(&asked), &one(&new), &format!("/Config/{field}"), &expected);
}

#[test]
fn t01_a_default_of_the_environment_follows_the_new_image() {
    check_env(&["VERSION=1", "PATH=/bin"], &[], &["VERSION=2", "PATH=/bin"], &["VERSION=2", "PATH=/bin"]);
    check_env(&["VERSION=1"], &["MODE=fast"], &["VERSION=2"], &["MODE=fast", "VERSION=2"]);
}

#[test]
fn t02_the_users_environment_survives_replacement_after_replacement() {
    let images = ["A=1", "A=2", "A=mine", "A=4"].map(|entry| image(entry, json!({ "Env": [entry, "B=0"] })));
    let mut container = created("1", &json!({ "Env": ["A=mine", "C=3"] }), &[], &images[0]);
    for pair in images.windows(2) {
        container = replaced(&container, &pair[0], &pair[1], "2", API_OLD);
        assert_eq!(container["Config"]["Env"], json!(["A=mine", "C=3", "B=0"]));
    }
}

#[test]
fn t03_a_value_like_the_default_is_the_images_unless_its_place_or_the_record_tells() {
    // Nothing tells the two apart.
    check_env(&["A=1"], &["A=1"], &["A=2"], &["A=2"]);
    // Engines append the image's entries: what stands before a user's entry is a user's.
    check_env(&["P=/", "A=1"], &["A=1", "B=1"], &["P=/", "A=2"], &["A=1", "B=1", "P=/"]);
    // A list copied whole by another updater, or sorted by another engine, says nothing.
    check_env(&["A=1"], &["A=1", "B=1"], &["A=2"], &["B=1", "A=2"]);

    // The user's value once equals the default of an image in between: by then it is recorded.
    let images = ["A=1", "A=mine", "A=3"].map(|entry| image(entry, json!({ "Env": [entry] })));
    let first = created("1", &json!({ "Env": ["A=mine"] }), &[], &images[0]);
    let second = replaced(&first, &images[0], &images[1], "2", API_OLD);
    let third = replaced(&second, &images[1], &images[2], "3", API_OLD);
    assert_eq!(third["Config"]["Env"], json!(["A=mine"]));
}

#[test]
fn t04_defaults_go_with_the_old_image_and_odd_entries_stay() {
    check_env(&["OLD=1", "A=1"], &[], &["A=1"], &["A=1"]);
    check_env(&[], &["A=b=c=d"], &[], &["A=b=c=d"]);
    check_env(&["A=1"], &["A="], &["A=2"], &["A="]);
    check_env(&[], &["A=line\nline"], &[], &["A=line\nline"]);
    check_env(&["A=1"], &["A"], &["A=2"], &["A"]);
    check_env(&[], &["A=1", "A=2"], &[], &["A=1", "A=2"]);
}

#[test]
fn t05_a_default_command_follows_the_new_image() {
    check_field("Cmd", json!(["serve"]), Value::Null, json!(["serve", "--fast"]), json!(["serve", "--fast"]));
    check_field("Cmd", json!(["serve"]), json!(["shell"]), json!(["serve", "--fast"]), json!(["shell"]));
    check_field("Cmd", json!(["serve"]), Value::Null, Value::Null, Value::Null);
}

#[test]
fn t05_how_a_command_is_read_goes_with_the_command() {
    let (old, new) = (image("a", json!({ "Cmd": ["serve"] })), image("b", json!({ "Cmd": ["serve", "--fast"] })));
    let is_sent = |asked: Value| {
        let mut container = created("1", &asked, &[], &old);
        container["Config"]["ArgsEscaped"] = json!(true);
        replace(&container, &old, &new, API_OLD).expect("replaceable").body.get("ArgsEscaped").is_some()
    };
    assert!(!is_sent(json!({})), "it is said of the image's command");
    assert!(is_sent(json!({ "Cmd": ["shell"] })), "it is said of the user's");
}

#[test]
fn t06_a_default_entry_point_follows_the_new_image() {
    check_field("Entrypoint", json!(["/old"]), Value::Null, json!(["/new"]), json!(["/new"]));
    check_field("Entrypoint", json!(["/old"]), json!(["/mine"]), json!(["/new"]), json!(["/mine"]));
    check_field("Entrypoint", json!(["/old"]), Value::Null, Value::Null, Value::Null);
}

#[test]
fn t07_a_command_like_the_default_is_kept_with_an_entry_point_of_the_users() {
    let old = json!({ "Entrypoint": ["/old"], "Cmd": ["serve"] });
    let new = json!({ "Entrypoint": ["/new"], "Cmd": ["other"] });
    let asked = json!({ "Entrypoint": ["/mine"], "Cmd": ["serve"] });
    check(&old, &asked, &new, "/Config/Cmd", &json!(["serve"]));
    check(&old, &asked, &new, "/Config/Entrypoint", &json!(["/mine"]));
    // Without a command of its own, an entry point of the user's keeps the image's command out.
    check(&old, &json!({ "Entrypoint": ["/mine"] }), &new, "/Config/Cmd", &Value::Null);
    // That gives away even an entry point which equals the image's.
    check(&old, &json!({ "Entrypoint": ["/old"] }), &new, "/Config/Entrypoint", &json!(["/old"]));
    check(&old, &json!({ "Entrypoint": ["/old"] }), &new, "/Config/Cmd", &Value::Null);
}

#[test]
fn t08_an_entry_point_taken_away_stays_away() {
    let old = json!({ "Entrypoint": ["/old"], "Cmd": ["serve"] });
    let new = json!({ "Entrypoint": ["/new"], "Cmd": ["other"] });
    let asked = json!({ "Entrypoint": [""], "Cmd": ["serve"] });
    check(&old, &asked, &new, "/Config/Entrypoint", &Value::Null);
    check(&old, &asked, &new, "/Config/Cmd", &json!(["serve"]));
    // The empty list of the API takes it away too, and leaves the image's command.
    check(&old, &json!({ "Entrypoint": [] }), &new, "/Config/Entrypoint", &json!([]));
    check(&old, &json!({ "Entrypoint": [] }), &new, "/Config/Cmd", &json!(["other"]));
    check(&old, &json!({ "Entrypoint": [], "Cmd": ["mine"] }), &new, "/Config/Cmd", &json!(["mine"]));
}

#[test]
fn t09_going_back_to_an_older_image_brings_nothing_of_the_newer_one() {
    let older = image("a", json!({ "Entrypoint": ["/v1"], "Cmd": ["one"], "Env": ["V=1"], "Volumes": { "/one": {} } }));
    let newer = image(
        "b",
        json!({ "Entrypoint": ["/v2"], "Cmd": ["two"], "Env": ["V=2", "N=2"], "StopSignal": "SIGQUIT",
        "Healthcheck": { "Test": ["CMD", "two"] }, "Labels": { "two": "2" }, "ExposedPorts": { "2/tcp": {} } }),
    );
    let asked = json!({ "Env": ["MINE=1"] });
    let on_newer = replaced(&created("1", &asked, &[], &older), &older, &newer, "2", API_OLD);
    let back = replaced(&on_newer, &newer, &older, "3", API_OLD);
    let fresh = created("4", &asked, &[], &older);
    for field in ["Entrypoint", "Cmd", "Env", "StopSignal", "Healthcheck", "ExposedPorts", "Volumes"] {
        assert_eq!(back["Config"][field], fresh["Config"][field], "{field}");
    }
    assert_eq!(back["Config"]["Labels"].get("two"), None);
}

#[test]
fn t10_labels_of_the_image_are_renewed_and_those_of_the_user_and_compose_stay() {
    let label = |name: &str| format!("/Config/Labels/{name}");
    let old = json!({ "Labels": { "version": "1", "gone": "x", "com.docker.compose.project": "shop" } });
    let new = json!({ "Labels": { "version": "2" } });
    let asked = json!({ "Labels": { "mine": "1", "com.docker.compose.project": "shop" } });
    check(&old, &asked, &new, &label("version"), &json!("2"));
    check(&old, &asked, &new, &label("gone"), &Value::Null);
    check(&old, &asked, &new, &label("mine"), &json!("1"));
    check(&old, &asked, &new, &label("com.docker.compose.project"), &json!("shop"));
    check(&old, &json!({ "Labels": { "version": "mine" } }), &new, &label("version"), &json!("mine"));
}

#[test]
fn t11_user_and_working_directory_follow_the_new_image_unless_set() {
    for field in ["User", "WorkingDir"] {
        check_field(field, json!("/old"), Value::Null, json!("/new"), json!("/new"));
        check_field(field, json!("/old"), json!("/mine"), json!("/new"), json!("/mine"));
        check_field(field, json!("/old"), Value::Null, Value::Null, json!(""));
    }
    // Engines clean the directory, which does not make it the user's.
    check_field("WorkingDir", json!("/old/"), Value::Null, json!("/new"), json!("/new"));
}

#[test]
fn t12_a_health_check_is_the_users_field_by_field() {
    let check_health = |old: Value, asked: Value, new: Value, expected: Value| {
        check_field("Healthcheck", old, asked, new, expected);
    };
    let old = json!({ "Test": ["CMD", "old"], "Interval": 30_000_000_000_i64, "StartInterval": 5_000_000_000_i64 });
    let new = json!({ "Test": ["CMD", "new"], "Interval": 10_000_000_000_i64 });
    check_health(old.clone(), Value::Null, new.clone(), new.clone());
    check_health(
        old.clone(),
        json!({ "Interval": 1_000_000_000_i64 }),
        new.clone(),
        json!({ "Test": ["CMD", "new"], "Interval": 1_000_000_000_i64 }),
    );
    check_health(
        old.clone(),
        json!({ "StartInterval": 7_000_000_000_i64 }),
        json!({ "Test": ["CMD", "new"] }),
        json!({ "Test": ["CMD", "new"], "StartInterval": 7_000_000_000_i64 }),
    );
    check_health(
        old.clone(),
        json!({ "Test": ["NONE"] }),
        new,
        json!({ "Test": ["NONE"], "Interval": 10_000_000_000_i64 }),
    );
    check_health(Value::Null, json!({ "Test": ["NONE"] }), Value::Null, json!({ "Test": ["NONE"] }));
    check_health(old, Value::Null, Value::Null, Value::Null);
}

#[test]
fn t12_a_time_that_engines_refuse_is_never_sent() {
    let (old, new) = (image("a", json!({ "Healthcheck": { "Interval": 10 } })), image("b", json!({})));
    let asked = json!({ "Healthcheck": { "Retries": 3, "StartPeriod": 0, "StartInterval": 1_000_000 } });
    let mut container = created("1", &asked, &[], &old);
    container["Config"]["Healthcheck"]["Timeout"] = json!(999_999);
    let body = replace(&container, &old, &new, API_OLD).expect("replaceable").body;
    assert_eq!(body["Healthcheck"], json!({ "Retries": 3, "StartInterval": 1_000_000 }));
}

#[test]
fn t13_a_stop_signal_follows_the_new_image_unless_set() {
    check_field("StopSignal", json!("SIGQUIT"), Value::Null, json!("SIGINT"), json!("SIGINT"));
    check_field("StopSignal", json!("SIGQUIT"), Value::Null, Value::Null, json!(""));
    check_field("StopSignal", Value::Null, Value::Null, json!("SIGINT"), json!("SIGINT"));
    check_field("StopSignal", json!("SIGQUIT"), json!("SIGUSR1"), json!("SIGINT"), json!("SIGUSR1"));
    check_field("StopSignal", Value::Null, json!("SIGUSR1"), json!("SIGINT"), json!("SIGUSR1"));
}

#[test]
fn t14_declared_volumes_and_ports_follow_the_new_image() {
    for field in ["Volumes", "ExposedPorts"] {
        let set = |keys: &[&str]| Value::Object(keys.iter().map(|key| ((*key).to_owned(), json!({}))).collect());
        check_field(field, set(&["/a"]), Value::Null, set(&["/b"]), set(&["/b"]));
        check_field(field, set(&["/a"]), set(&["/mine"]), set(&["/b"]), set(&["/b", "/mine"]));
        check_field(field, set(&["/a"]), Value::Null, Value::Null, Value::Null);
    }
}

#[test]
fn t15_published_ports_stay_published_whatever_is_exposed() {
    let asked = json!({ "HostConfig": { "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] } } });
    check(&json!({}), &asked, &json!({}), "/HostConfig/PortBindings", &asked["HostConfig"]["PortBindings"]);
    // The user exposed what is bound (the command line does so), and the new image no longer does: it stays exposed.
    let mut exposed = asked.clone();
    exposed["ExposedPorts"] = json!({ "80/tcp": {} });
    let image_exposes = json!({ "ExposedPorts": { "80/tcp": {} } });
    check(&image_exposes, &exposed, &json!({}), "/Config/ExposedPorts", &json!({ "80/tcp": {} }));

    let image = image("a", json!({}));
    let broken = json!({ "ExposedPorts": { "": {} }, "HostConfig": { "PortBindings": { "": null } } });
    let body = replace(&created("1", &broken, &[], &image), &image, &image, API_OLD).expect("replaceable").body;
    assert_eq!((body.get("ExposedPorts"), &body["HostConfig"]["PortBindings"]), (None, &json!({})));
}

#[test]
fn t16_without_the_old_image_only_a_recorded_container_is_replaced() {
    let (old, new) = (image("a", json!({ "Env": ["A=1"] })), image("b", json!({ "Env": ["A=2"] })));
    let first = created("1", &json!({ "Env": ["MINE=1"] }), &[], &old);
    let labels = std::collections::BTreeMap::new();
    let input = |container, remembered| deployer_core::successor::Input {
        container,
        old_image: None,
        new_image: &new,
        image: "web:1",
        neighbours: &[],
        remembered,
        api: API_OLD,
        labels: &labels,
    };
    let refusal =
        deployer_core::successor::successor(input(&first, None)).expect_err("nothing tells the user's settings");
    assert_eq!(refusal.kind(), "old_image_gone");
    assert!(refusal.to_string().contains("pull that image again"), "{refusal}");

    let second = replaced(&first, &old, &old, "2", API_OLD);
    let remembered = UserFields::remembered(&second, None).expect("recorded in the label");
    let body = deployer_core::successor::successor(input(&second, Some(&remembered))).expect("recorded").body;
    assert_eq!(body["Env"], json!(["MINE=1"]));
}

#[test]
fn a_record_inherited_from_a_committed_image_is_passed_over() {
    let record = created("1", &json!({}), &[], &image("a", json!({})));
    let label =
        replace(&record, &image("a", json!({})), &image("b", json!({})), API_OLD).expect("replaceable").user.to_label();
    let committed = image("c", json!({ "Labels": { "deployer.user": label } }));
    let container = created("2", &json!({ "Env": ["A=1"] }), &[], &committed);
    assert_eq!(UserFields::remembered(&container, Some(&committed)), None);
    assert_eq!(UserFields::remembered(&container, None), None, "nobody knows whose it is");
    assert_eq!(replaced(&container, &committed, &committed, "3", API_OLD)["Config"]["Env"], json!(["A=1"]));
}

#[test]
fn the_record_holds_names_and_no_values_and_an_unknown_form_is_not_read() {
    let (old, new) = (image("a", json!({})), image("b", json!({})));
    let asked = json!({ "Env": ["PASSWORD=hunter2"], "Labels": { "key": "hunter2" }, "User": "hunter2" });
    let label = replace(&created("1", &asked, &[], &old), &old, &new, API_OLD).expect("replaceable").user.to_label();
    assert!(label.contains("PASSWORD") && !label.contains("hunter2"), "{label}");
    for unreadable in [r#"{"v":2}"#, "{}x", ""] {
        let container = json!({ "Config": { "Labels": { "deployer.user": unreadable } } });
        assert_eq!(UserFields::remembered(&container, None), None, "{unreadable}");
    }
}

#[test]
fn labels_of_an_earlier_replacement_are_not_carried_on() {
    let image = image("a", json!({}));
    let asked = json!({ "Labels": { "deployer.replaces": "x", "deployer.digest": "y", "deployer.txn": "old", "deployer.enable": "true" } });
    let body = replace(&created("1", &asked, &[], &image), &image, &image, API_OLD).expect("replaceable").body;
    let names: Vec<&String> = body["Labels"].as_object().expect("labels").keys().collect();
    assert_eq!(names, ["deployer.enable", "deployer.txn", "deployer.user"]);
    assert_eq!(body["Labels"]["deployer.txn"], "0a1b2c3d");
}

#[test]
fn t65_composes_note_of_the_image_is_corrected_and_its_other_labels_stay() {
    let (old, new) = (image("a", json!({})), image("b", json!({})));
    let asked = json!({ "Labels": { "com.docker.compose.image": old["Id"], "com.docker.compose.config-hash": "h", "com.docker.compose.service": "web" } });
    let after = replaced(&created("1", &asked, &[], &old), &old, &new, "2", API_OLD);
    assert_eq!(after["Config"]["Labels"]["com.docker.compose.image"], new["Id"]);
    assert_eq!(after["Config"]["Labels"]["com.docker.compose.config-hash"], "h");
    let plain = replaced(&created("1", &json!({}), &[], &old), &old, &new, "2", API_OLD);
    assert_eq!(plain["Config"]["Labels"].get("com.docker.compose.image"), None);
}

#[test]
fn settings_that_nobody_here_has_heard_of_survive() {
    let asked =
        json!({ "FutureSetting": { "a": [1] }, "HostConfig": { "FutureLimit": 7, "Annotations": { "x": "y" } } });
    check(&json!({}), &asked, &json!({}), "/Config/FutureSetting", &json!({ "a": [1] }));
    check(&json!({}), &asked, &json!({}), "/HostConfig/FutureLimit", &json!(7));
    check(&json!({}), &asked, &json!({}), "/HostConfig/Annotations", &json!({ "x": "y" }));
}

#[test]
fn the_request_names_the_image_by_its_tag() {
    let image = image("a", json!({}));
    let successor =
        replace(&created("1", &json!({ "Image": "web" }), &[], &image), &image, &image, API_NEW).expect("replaceable");
    assert_eq!(successor.body["Image"], "registry:5000/web:1");
}
