//! Networks of a successor, its addresses and aliases. Numbers as in `config.rs`.

use crate::engine_model::{API_NEW, API_OLD, body_of, created, image, replace, replaced};
use serde_json::{Value, json};

fn three_networks() -> Value {
    let image = image("a", json!({}));
    let asked = json!({
        "HostConfig": { "NetworkMode": "middle" },
        "NetworkingConfig": { "EndpointsConfig": { "middle": { "Aliases": ["web"], "IPAMConfig": { "IPv4Address": "10.0.0.9" } } } },
    });
    let connect = [
        ("after".to_owned(), json!({ "DriverOpts": { "o": "1" }, "GwPriority": 7, "Links": null })),
        ("zone".to_owned(), json!({ "Aliases": ["z"], "IPAMConfig": {} })),
    ];
    created("1", &asked, &connect, &image)
}

#[test]
fn t20_all_networks_come_back_and_the_first_is_that_of_the_network_mode() {
    let image = image("a", json!({}));
    let successor = replace(&three_networks(), &image, &image, API_OLD).expect("replaceable");
    let endpoints = &successor.body["NetworkingConfig"]["EndpointsConfig"];
    assert_eq!(endpoints, &json!({ "middle": { "Aliases": ["web"], "IPAMConfig": { "IPv4Address": "10.0.0.9" } } }));
    let expected = [
        ("after".to_owned(), json!({ "DriverOpts": { "o": "1" }, "GwPriority": 7 })),
        ("zone".to_owned(), json!({ "Aliases": ["z"] })),
    ];
    assert_eq!(successor.connect, expected);
    assert_eq!(successor.networks, ["after", "middle", "zone"]);
}

#[test]
fn t21_from_api_1_44_all_networks_are_in_the_request() {
    let image = image("a", json!({}));
    let successor = replace(&three_networks(), &image, &image, API_NEW).expect("replaceable");
    let names: Vec<&String> =
        successor.body["NetworkingConfig"]["EndpointsConfig"].as_object().expect("endpoints").keys().collect();
    assert_eq!(names, ["after", "middle", "zone"]);
    assert_eq!(successor.connect, []);
}

#[test]
fn t20_the_first_network_is_found_whatever_the_mode_calls_it() {
    let id = |network: &str| network.repeat(64).get(..64).expect("an ID").to_owned();
    let check = |mode: &str, networks: [&str; 2], expected: &str| {
        let body = body_of(&json!({ "HostConfig": { "NetworkMode": "first" } }), API_OLD, |container| {
            let endpoints = networks.map(|name| (name.to_owned(), json!({ "NetworkID": id(name) })));
            container["HostConfig"]["NetworkMode"] = json!(mode);
            container["NetworkSettings"]["Networks"] = Value::Object(endpoints.into_iter().collect());
        });
        let first = body["NetworkingConfig"]["EndpointsConfig"].as_object().and_then(|all| all.keys().next());
        assert_eq!(first.map(String::as_str), Some(expected), "{mode} of {networks:?}");
    };
    check("shop", ["aside", "shop"], "shop");
    check(&id("shop"), ["aside", "shop"], "shop");
    check(&id("shop")[..12], ["aside", "shop"], "shop");
    // As much as this two networks could have in common.
    check(&id("shop")[..11], ["aside", "shop"], "aside");
    for mode in ["", "default", "bridge"] {
        check(mode, ["aside", "bridge"], "bridge");
        check(mode, ["aside", "default"], "default");
    }
}

#[test]
fn t20_a_container_taken_off_its_first_network_is_created_in_another_of_its_own() {
    let body = body_of(&json!({ "HostConfig": { "NetworkMode": "first" } }), API_OLD, |container| {
        container["NetworkSettings"]["Networks"] = json!({ "second": {} });
    });
    assert_eq!(body["HostConfig"]["NetworkMode"], "second");
    assert_eq!(body["NetworkingConfig"]["EndpointsConfig"], json!({ "second": {} }));

    let image = image("a", json!({}));
    let mut off = created("1", &json!({ "HostConfig": { "NetworkMode": "first" } }), &[], &image);
    off["NetworkSettings"]["Networks"] = json!({});
    let refusal = replace(&off, &image, &image, API_OLD).expect_err("in no network");
    assert_eq!(refusal.kind(), "disconnected");
}

#[test]
fn t22_fixed_addresses_of_both_families_are_kept() {
    let address = json!({ "IPv4Address": "10.0.0.9", "IPv6Address": "fd00::9", "LinkLocalIPs": ["169.254.1.1"] });
    let asked = json!({ "HostConfig": { "NetworkMode": "lan" },
        "NetworkingConfig": { "EndpointsConfig": { "lan": { "IPAMConfig": address } } } });
    let body = body_of(&asked, API_OLD, |_| ());
    assert_eq!(body["NetworkingConfig"]["EndpointsConfig"]["lan"]["IPAMConfig"], address);
}

#[test]
fn t23_a_hardware_address_of_the_users_is_kept_and_a_generated_one_is_not() {
    let with_address = |place: &str, address: &'static str, api| {
        let asked = json!({ "HostConfig": { "NetworkMode": "lan" } });
        let image = image("a", json!({}));
        let mut container = created("1", &asked, &[("other".to_owned(), json!({}))], &image);
        *container.pointer_mut(place).expect("a place in the inspection") = json!(address);
        let successor = replace(&container, &image, &image, api).expect("replaceable");
        let endpoints = &successor.body["NetworkingConfig"]["EndpointsConfig"];
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        [
            text(&successor.body["MacAddress"]),
            text(&endpoints["lan"]["MacAddress"]),
            text(&endpoints["other"]["MacAddress"]),
        ]
    };
    let (lan, other) = ("/NetworkSettings/Networks/lan/MacAddress", "/NetworkSettings/Networks/other/MacAddress");
    let (own, generated) = ("92:d0:c6:0a:29:33", "02:42:ac:12:00:09");
    assert_eq!(with_address(lan, own, API_OLD), ["-", "-", "-"], "not the user's: it would stand in Config");
    assert_eq!(with_address(lan, own, API_NEW), ["-", "-", "-"], "not the user's: it would stand in Config");
    assert_eq!(with_address(lan, own, (1, 52)), ["-", own, "-"]);
    assert_eq!(with_address(other, own, API_NEW), ["-", "-", own]);
    assert_eq!(with_address(other, generated, API_NEW), ["-", "-", "-"]);
    assert_eq!(with_address(other, "", API_NEW), ["-", "-", "-"], "none at all is no error");

    let configured =
        |api| body_of(&json!({ "MacAddress": generated, "HostConfig": { "NetworkMode": "lan" } }), api, |_| ());
    assert_eq!(configured(API_OLD)["MacAddress"], generated);
    let moved = configured(API_NEW);
    assert_eq!(moved.get("MacAddress"), None);
    assert_eq!(moved["NetworkingConfig"]["EndpointsConfig"]["lan"]["MacAddress"], generated);
}

#[test]
fn t23_a_generated_address_is_not_taken_for_the_users_the_second_time() {
    let image = image("a", json!({}));
    let first = created("1", &json!({ "HostConfig": { "NetworkMode": "lan" } }), &[], &image);
    let mut second = replaced(&first, &image, &image, "2", (1, 52));
    second["NetworkSettings"]["Networks"]["lan"]["MacAddress"] = json!("9a:00:00:00:00:01");
    let third = replace(&second, &image, &image, (1, 52)).expect("replaceable");
    assert_eq!(third.body["NetworkingConfig"]["EndpointsConfig"]["lan"], json!({}));
}

#[test]
fn t24_aliases_are_kept_but_for_those_of_an_id_or_of_a_replacement() {
    let asked = json!({ "Hostname": "own", "HostConfig": { "NetworkMode": "shop" },
        "NetworkingConfig": { "EndpointsConfig": { "shop": {
            "Aliases": ["web", "web", "shop-web-1", "web.new-0a1b2c3d", "web.old-0a1b2c3d", "web.new-thing"] } } } });
    let body = body_of(&asked, API_OLD, |_| ());
    let aliases = &body["NetworkingConfig"]["EndpointsConfig"]["shop"]["Aliases"];
    assert_eq!(aliases, &json!(["web", "shop-web-1", "web.new-thing", "own"]));
}

#[test]
fn t24_the_default_bridge_gets_no_aliases() {
    let body = body_of(&json!({}), API_OLD, |container| {
        container["NetworkSettings"]["Networks"]["bridge"]["Aliases"] = json!(["web"]);
    });
    assert_eq!(body["NetworkingConfig"]["EndpointsConfig"], json!({ "bridge": {} }));
}

#[test]
fn t25_without_a_network_of_its_own_a_container_gets_no_endpoints() {
    for mode in ["host", "none"] {
        let image = image("a", json!({}));
        let container = created("1", &json!({ "HostConfig": { "NetworkMode": mode } }), &[], &image);
        let successor = replace(&container, &image, &image, API_OLD).expect("replaceable");
        assert_eq!(successor.body.get("NetworkingConfig"), None, "{mode}");
        assert_eq!((successor.connect.len(), successor.networks.len()), (0, 0), "{mode}");
    }
    let body = body_of(&json!({ "NetworkDisabled": true }), API_OLD, |_| ());
    assert_eq!((body.get("NetworkingConfig"), &body["NetworkDisabled"]), (None, &json!(true)));
}
