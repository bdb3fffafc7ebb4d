//! Networks, volumes and limits of a successor, and what is refused. Numbers as in `config.rs`.

use crate::engine_model::{API_NEW, API_OLD, created, image, replace, replaced};
use deployer_core::successor::{Dependence, DependenceKind, depends_on, refuse_if_provider};
use serde_json::{Value, json};

/// The body of the successor of a container made by `asked`, after `change` was done to its inspection.
#[track_caller]
fn body_of(asked: &Value, api: (u32, u32), change: impl Fn(&mut Value)) -> Value {
    let image = image("a", json!({}));
    let mut container = created("1", asked, &[], &image);
    change(&mut container);
    replace(&container, &image, &image, api).expect("replaceable").body
}

/// The refusal's word for a container made by `asked`.
#[track_caller]
fn check_refused(asked: &Value, kind: &str, words: &str) {
    let image = image("a", json!({}));
    let refusal = replace(&created("1", asked, &[], &image), &image, &image, API_OLD).expect_err("must be refused");
    assert_eq!(refusal.kind(), kind);
    assert!(refusal.to_string().contains(words), "{refusal}");
}

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
fn t20_a_network_mode_given_as_an_id_is_found() {
    let body = body_of(&json!({ "HostConfig": { "NetworkMode": "shop" } }), API_OLD, |container| {
        container["HostConfig"]["NetworkMode"] = container["NetworkSettings"]["Networks"]["shop"]["NetworkID"].clone();
    });
    assert!(body["NetworkingConfig"]["EndpointsConfig"].get("shop").is_some());
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

#[test]
fn t26_t27_sharers_are_refused_by_what_they_share() {
    for (host, words) in [
        (json!({ "NetworkMode": "container:vpn" }), "shares the network of container 'vpn'"),
        (json!({ "PidMode": "container:app" }), "shares the processes of container 'app'"),
        (json!({ "IpcMode": "container:app" }), "shares the IPC namespace of container 'app'"),
        (json!({ "VolumesFrom": ["data:ro"] }), "takes its volumes from container 'data'"),
        (json!({ "Links": ["/db:/web/database"] }), "is linked to container 'db'"),
    ] {
        check_refused(&json!({ "HostConfig": host }), "leans", words);
    }
    check_refused(
        &json!({ "HostConfig": { "NetworkMode": "shop" },
            "NetworkingConfig": { "EndpointsConfig": { "shop": { "Links": ["db:database"] } } } }),
        "leans",
        "is linked to container 'db'",
    );
}

#[test]
fn t26_a_provider_is_refused_by_name_and_by_id_and_with_the_sharers_name() {
    let image = image("a", json!({}));
    let provider = created("77", &json!({}), &[], &image);
    let id = provider["Id"].as_str().expect("an ID").to_owned();
    for on in ["web", &id, &id[..12]] {
        for host in
            [json!({ "NetworkMode": format!("container:{on}") }), json!({ "PidMode": format!("container:{on}") })]
        {
            let sharer = created("88", &json!({ "HostConfig": host }), &[], &image);
            let uses = [("web", depends_on(&provider)), ("sidecar", depends_on(&sharer))];
            let refusal = refuse_if_provider(&provider, uses.iter().map(|(name, uses)| (*name, &**uses)));
            let refusal = refusal.expect_err("is leant on");
            assert!(refusal.to_string().starts_with("container 'sidecar' shares the "), "{refusal}");
        }
    }
    let mut other = created("88", &json!({ "HostConfig": { "NetworkMode": "container:weber" } }), &[], &image);
    assert_eq!(refuse_if_provider(&provider, [("other", &*depends_on(&other))]), Ok(()));
    other["HostConfig"] = json!({ "VolumesFrom": ["web"] });
    assert_eq!(refuse_if_provider(&provider, [("other", &*depends_on(&other))]), Ok(()), "volumes are kept by name");
}

#[test]
fn t28_every_dependence_is_listed_once() {
    let container = json!({
        "HostConfig": { "NetworkMode": "container:vpn", "VolumesFrom": ["data", "data:ro"], "Links": ["/db:/web/db"] },
        "NetworkSettings": { "Networks": { "a": { "Links": ["db:x", "cache:y"] } } },
    });
    let on = |kind, on: &str| Dependence { kind, on: on.to_owned() };
    let expected = [
        on(DependenceKind::Network, "vpn"),
        on(DependenceKind::Volumes, "data"),
        on(DependenceKind::Link, "db"),
        on(DependenceKind::Link, "cache"),
    ];
    assert_eq!(depends_on(&container), expected);
}

#[test]
fn t29_a_generated_host_name_is_dropped_and_the_users_kept() {
    assert_eq!(body_of(&json!({}), API_OLD, |_| ()).get("Hostname"), None);
    assert_eq!(body_of(&json!({ "Hostname": "own" }), API_OLD, |_| ())["Hostname"], "own");
    // In the host's network the engine notes the host's name; sent back, it changes nothing.
    let host_network = json!({ "HostConfig": { "NetworkMode": "host" } });
    assert_eq!(body_of(&host_network, API_OLD, |_| ())["Hostname"], "the-host");
    // With the host's own name, engines refuse one.
    let shared = json!({ "Hostname": "noted", "HostConfig": { "NetworkMode": "host", "UTSMode": "host" } });
    assert_eq!(body_of(&shared, API_OLD, |_| ()).get("Hostname"), None);
}

#[test]
fn t30_what_must_exist_is_named() {
    let image = image("a", json!({ "Volumes": { "/anonymous": {} } }));
    let asked = json!({ "HostConfig": { "NetworkMode": "shop", "Binds": ["data:/data", "/srv:/srv"] } });
    let successor = replace(&created("1", &asked, &[], &image), &image, &image, API_OLD).expect("replaceable");
    assert_eq!(successor.networks, ["shop"]);
    assert_eq!(successor.volumes, ["anonymous-000000000001/anonymous", "data"]);
}

#[test]
fn t31_port_bindings_are_sent_back_as_they_are() {
    let bindings = json!({ "53/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "53" }], "53/udp": [{ "HostIp": "", "HostPort": "53" }],
        "80/tcp": [{ "HostIp": "", "HostPort": "" }], "81/tcp": null });
    let body =
        body_of(&json!({ "HostConfig": { "PortBindings": bindings, "PublishAllPorts": true } }), API_OLD, |_| ());
    assert_eq!(body["HostConfig"]["PortBindings"], bindings);
    assert_eq!(body["HostConfig"]["PublishAllPorts"], true);
}

#[test]
fn t35_anonymous_volumes_are_reattached_by_name_however_they_were_made() {
    let old = image("a", json!({ "Volumes": { "/declared": {} } }));
    let new = image("b", json!({}));
    let asked = json!({ "Volumes": { "/command-line/": {} }, "HostConfig": {
        "Binds": ["/in-binds", "named:/named:ro"],
        "Mounts": [{ "Type": "volume", "Target": "/in-mounts", "VolumeOptions": { "NoCopy": true, "Subpath": "x" } }] } });
    let before = created("1", &asked, &[], &old);
    let after = replaced(&before, &old, &new, "2", API_OLD);
    let volumes = |container: &Value| -> Vec<(Value, Value)> {
        let mounts = container["Mounts"].as_array().expect("mounts");
        mounts.iter().map(|mount| (mount["Destination"].clone(), mount["Name"].clone())).collect()
    };
    assert_eq!(volumes(&before).len(), 5);
    assert_eq!(volumes(&after), volumes(&before), "the same volumes on the same paths, even where no longer declared");
    assert_eq!(after["HostConfig"]["Binds"], json!(["anonymous-000000000001/in-binds:/in-binds", "named:/named:ro"]));
    assert_eq!(after["HostConfig"]["Mounts"][0]["VolumeOptions"], json!({ "NoCopy": true, "Subpath": "x" }));
    assert_eq!(volumes(&replaced(&after, &new, &old, "3", API_OLD)), volumes(&before), "and once more");
}

#[test]
fn t35_a_volume_that_the_inspection_does_not_name_is_refused() {
    let image = image("a", json!({}));
    let mut container = created("1", &json!({ "HostConfig": { "Binds": ["/data"] } }), &[], &image);
    container["Mounts"] = json!([]);
    assert_eq!(replace(&container, &image, &image, API_OLD).expect_err("no name").kind(), "volume_unknown");
}

#[test]
fn t36_options_of_mounts_are_kept() {
    let mounts = json!([
        { "Type": "bind", "Source": "/srv", "Target": "/srv", "ReadOnly": true, "BindOptions": { "Propagation": "rslave" } },
        { "Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": { "SizeBytes": 4096, "Mode": 448 } },
        { "Type": "volume", "Source": "data", "Target": "/data", "VolumeOptions": { "Subpath": "a", "DriverConfig": { "Name": "nfs" } } },
    ]);
    let binds = json!(["/etc/app:/etc/app:ro,rslave", "data2:/data2:nocopy"]);
    let asked = json!({ "HostConfig": { "Mounts": mounts, "Binds": binds, "Tmpfs": { "/run": "size=1m" } } });
    let body = body_of(&asked, API_OLD, |_| ());
    assert_eq!(body["HostConfig"]["Mounts"], mounts);
    assert_eq!(body["HostConfig"]["Binds"], binds);
    assert_eq!(body["HostConfig"]["Tmpfs"], json!({ "/run": "size=1m" }));

    // What is written out for an anonymous volume: its driver, and that it is not to be written.
    let body = body_of(&json!({ "Volumes": { "/data": {} } }), API_OLD, |container| {
        container["Mounts"][0]["Driver"] = json!("nfs");
        container["Mounts"][0]["RW"] = json!(false);
    });
    let expected = json!([{ "Type": "volume", "Source": "anonymous-000000000001/data", "Target": "/data", "ReadOnly": true,
        "VolumeOptions": { "DriverConfig": { "Name": "nfs" } } }]);
    assert_eq!(body["HostConfig"]["Mounts"], expected);
}

#[test]
fn t38_t44_a_container_that_removes_itself_is_refused() {
    check_refused(&json!({ "HostConfig": { "AutoRemove": true } }), "auto_remove", "create it without --rm");
}

#[test]
fn t40_t41_t43_options_of_the_runtime_are_sent_back_as_they_are() {
    let host = json!({
        "DeviceRequests": [{ "Driver": "", "Count": -1, "Capabilities": [["gpu"]] }], "Runtime": "nvidia",
        "Devices": [{ "PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r" }],
        "Ulimits": [{ "Name": "nofile", "Soft": 1, "Hard": 2 }], "NanoCpus": 500_000_000, "CpuShares": 3,
        "Memory": 1 << 26, "MemorySwappiness": 10, "Init": true, "UsernsMode": "host", "PidsLimit": 7,
        "LogConfig": { "Type": "local", "Config": { "max-size": "1m" } }, "CapAdd": ["NET_ADMIN"], "Sysctls": { "a": "1" },
        "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 }, "ShmSize": 1 << 20,
    });
    let asked = json!({ "Tty": true, "OpenStdin": true, "StdinOnce": true, "Domainname": "example.org",
        "StopTimeout": 77, "AttachStdout": true, "HostConfig": host });
    let image = image("a", json!({ "Tty": true }));
    let successor = replace(&created("1", &asked, &[], &image), &image, &image, API_OLD).expect("replaceable");
    for (name, value) in host.as_object().expect("an object") {
        assert_eq!(&successor.body["HostConfig"][name], value, "{name}");
    }
    for name in ["Tty", "OpenStdin", "StdinOnce", "Domainname", "StopTimeout", "AttachStdout"] {
        assert_eq!(successor.body[name], asked[name], "{name}");
    }
    assert_eq!(successor.restart_policy, host["RestartPolicy"]);
}

#[test]
fn t40_a_device_without_permissions_gets_the_default() {
    let host =
        json!({ "Devices": [{ "PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "" }] });
    let body = body_of(&json!({ "HostConfig": host }), API_OLD, |_| ());
    assert_eq!(body["HostConfig"]["Devices"][0]["CgroupPermissions"], "rwm");
}

#[test]
fn t41_swappiness_that_means_unset_is_not_sent() {
    let body = body_of(&json!({ "HostConfig": { "MemorySwappiness": -1 } }), API_OLD, |_| ());
    assert_eq!(body["HostConfig"].get("MemorySwappiness"), None);
}

#[test]
fn paths_that_the_engine_hides_are_left_to_the_engine_and_those_of_the_user_are_not() {
    let check = |masked: Value, is_sent: bool| {
        let body = body_of(&json!({ "HostConfig": { "MaskedPaths": masked } }), API_OLD, |_| ());
        assert_eq!(body["HostConfig"].get("MaskedPaths"), is_sent.then_some(&masked), "{masked}");
    };
    check(json!(["/proc/asound", "/proc/kcore", "/proc/timer_list", "/sys/firmware"]), false);
    check(
        json!(["/proc/kcore", "/proc/timer_list", "/sys/firmware", "/sys/devices/system/cpu/cpu0/thermal_throttle"]),
        false,
    );
    check(json!([]), true);
    check(json!(["/proc/kcore"]), true);
    check(json!(["/proc/kcore", "/proc/timer_list", "/sys/firmware", "/proc/my-own"]), true);
}

#[test]
fn an_inspection_that_makes_no_sense_is_refused() {
    let image = image("a", json!({}));
    for container in [json!({}), json!({ "Config": {} }), json!({ "Config": [], "HostConfig": {} }), json!(null)] {
        assert_eq!(replace(&container, &image, &image, API_OLD).expect_err("no inspection").kind(), "malformed");
    }
}
