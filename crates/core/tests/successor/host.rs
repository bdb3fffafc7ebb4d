//! Volumes and limits of a successor, and what is refused. Numbers as in `config.rs`.

use crate::engine_model::{API_OLD, body_of, created, image, replace, replace_among, replaced};
use deployer_core::successor::{Dependence, DependenceKind, Neighbour, Refusal, Successor, depends_on};
use serde_json::{Value, json};

/// An ID that begins with this.
fn id(start: &str) -> String {
    format!("{start:0<64}")
}

/// A container that nothing is known of but its name and whether it runs.
fn neighbour<'a>(name: &'a str, id: &'a str, is_running: bool) -> Neighbour<'a> {
    Neighbour { id, name, is_running, uses: &[] }
}

/// What comes of a container made by `asked` on an engine with these others.
fn among(neighbours: &[Neighbour<'_>], asked: &Value) -> Result<Successor, Refusal> {
    let image = image("a", json!({}));
    replace_among(neighbours, &created("1", asked, &[], &image), &image, &image, API_OLD)
}

#[test]
fn t25_t27_t28_what_is_used_of_others_is_asked_for_again_while_it_is_there() {
    let (vpn, db, other) = (id("a"), id("b"), id("c"));
    let there = [neighbour("vpn", &vpn, true), neighbour("db", &db, true)];
    let stranger = [neighbour("other", &other, true)];
    for (host, field, sent) in [
        (json!({ "NetworkMode": format!("container:{vpn}") }), "NetworkMode", json!(format!("container:{vpn}"))),
        (json!({ "PidMode": "container:vpn" }), "PidMode", json!("container:vpn")),
        (json!({ "IpcMode": "container:vpn" }), "IpcMode", json!("container:vpn")),
        (json!({ "Links": ["/db:/web/database"] }), "Links", json!(["db:database"])),
    ] {
        let asked = json!({ "HostConfig": host });
        let successor = among(&there, &asked).unwrap_or_else(|refusal| panic!("{field}: {refusal}"));
        assert_eq!(successor.body["HostConfig"][field], sent);
        let gone = among(&stranger, &asked).expect_err("no engine would create it");
        assert_eq!(gone.kind(), "provider_gone", "{field}");
        let down = [neighbour("vpn", &vpn, false), neighbour("db", &db, false)];
        let down = among(&down, &asked).expect_err("no engine would start it");
        assert_eq!(down.kind(), "provider_down", "{field}");
    }
    let on_endpoint = json!({ "HostConfig": { "NetworkMode": "shop" },
        "NetworkingConfig": { "EndpointsConfig": { "shop": { "Links": ["db:database"] } } } });
    // There a link is a name, whoever has it.
    let successor = among(&[], &on_endpoint).expect("nothing is needed");
    assert_eq!(successor.body["NetworkingConfig"]["EndpointsConfig"]["shop"]["Links"], json!(["db:database"]));
}

#[test]
fn t25_in_the_network_of_another_nothing_of_the_network_is_asked_for() {
    let vpn = id("a");
    let asked = json!({ "Hostname": "of-the-vpn", "Domainname": "example.org",
        "HostConfig": { "NetworkMode": format!("container:{vpn}") } });
    let body = among(&[neighbour("vpn", &vpn, true)], &asked).expect("it is there").body;
    assert_eq!([body.get("Hostname"), body.get("Domainname"), body.get("NetworkingConfig")], [None; 3]);
}

#[test]
fn t27_volumes_of_another_are_kept_by_name_whether_it_is_there_or_not() {
    let image = image("a", json!({}));
    let (data, other) = (id("d"), id("c"));
    let mut container = created("1", &json!({ "HostConfig": { "VolumesFrom": ["data:ro"] } }), &[], &image);
    container["Mounts"] = json!([
        { "Type": "volume", "Name": "files", "Source": "/volumes/files", "Destination": "/files", "Driver": "local", "RW": false },
        { "Type": "bind", "Source": "/srv", "Destination": "/srv", "RW": true, "Propagation": "rprivate" },
        { "Type": "bind", "Source": "/var/log", "Destination": "/var/log", "RW": true, "Propagation": "" },
    ]);
    let named = json!([
        { "Type": "volume", "Source": "files", "Target": "/files", "ReadOnly": true, "VolumeOptions": { "NoCopy": true } },
        { "Type": "bind", "Source": "/srv", "Target": "/srv", "BindOptions": { "Propagation": "rprivate" } },
        { "Type": "bind", "Source": "/var/log", "Target": "/var/log" },
    ]);
    for (there, sent, named) in [
        (neighbour("data", &data, false), json!(["data:ro"]), Value::Null),
        (neighbour("other", &other, true), json!([]), named),
    ] {
        let there = &[there];
        let host =
            replace_among(there, &container, &image, &image, API_OLD).expect("replaceable").body["HostConfig"].take();
        assert_eq!((&host["VolumesFrom"], &host["Mounts"]), (&sent, &named));
    }
}

#[test]
fn t27_its_own_volume_is_kept_beside_those_that_another_gives_it() {
    let image = image("a", json!({ "Volumes": { "/own/": {} } }));
    let data = id("d");
    let mut container = created("1", &json!({ "HostConfig": { "VolumesFrom": ["data"] } }), &[], &image);
    let volume = |name: &str| json!({ "Type": "volume", "Name": name, "Destination": format!("/{name}"), "Driver": "local", "RW": true });
    container["Mounts"] = json!([volume("own"), volume("files")]);
    let there = [neighbour("data", &data, true)];
    let successor = replace_among(&there, &container, &image, &image, API_OLD).expect("replaceable");
    assert_eq!(
        successor.body["HostConfig"]["Mounts"],
        json!([{ "Type": "volume", "Source": "own", "Target": "/own" }]),
        "what its image has at the path is copied there as ever"
    );
}

#[test]
fn t26_a_provider_is_refused_by_name_and_by_id_and_with_the_sharers_name() {
    let image = image("a", json!({}));
    let provider = created("77", &json!({}), &[], &image);
    let own_id = provider["Id"].as_str().expect("an ID").to_owned();
    let sharer_id = id("5");
    let among = |host: Value| {
        let uses = depends_on(&json!({ "HostConfig": host }));
        let sharer = Neighbour { id: &sharer_id, name: "sidecar", is_running: false, uses: &uses };
        replace_among(&[neighbour("web", &own_id, true), sharer], &provider, &image, &image, API_OLD)
    };
    for on in ["web", &own_id, &own_id[..12]] {
        for mode in ["NetworkMode", "PidMode"] {
            let refusal = among(json!({ mode: format!("container:{on}") })).expect_err("is leant on");
            assert!(refusal.to_string().starts_with("container 'sidecar' shares the "), "{refusal}");
        }
    }
    for on in ["weber", "web-and-a-longer-name", &own_id[..11]] {
        assert!(among(json!({ "NetworkMode": format!("container:{on}") })).is_ok(), "{on}");
    }
    assert!(among(json!({ "VolumesFrom": ["web"] })).is_ok(), "volumes are kept by name");
}

#[test]
fn t28_every_dependence_is_listed_once() {
    let container = json!({
        "HostConfig": { "NetworkMode": "container:vpn", "VolumesFrom": ["data", "data:ro"], "Links": ["/db:/web/db"] },
        "NetworkSettings": { "Networks": { "a": { "Links": ["db:x", "cache:y"] } } },
    });
    let on = |kind, on: &str| Dependence { kind, on: on.to_owned() };
    let expected =
        [on(DependenceKind::Network, "vpn"), on(DependenceKind::Volumes, "data"), on(DependenceKind::Link, "db")];
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
    // Engine 28 leaves out the name, and not the place.
    let nameless = |source: &str| json!([{ "Type": "volume", "Source": source, "Destination": "/data", "RW": true }]);
    container["Mounts"] = nameless("/var/lib/docker/volumes/00c0ffee/_data");
    let successor = replace(&container, &image, &image, API_OLD).expect("the name is in the place");
    assert_eq!(successor.body["HostConfig"]["Binds"], json!(["00c0ffee:/data"]));
    assert_eq!(successor.volumes, ["00c0ffee"]);
    for mounts in [json!([]), nameless(""), nameless("/srv/_data"), nameless("/volumes/a/b/_data")] {
        container["Mounts"] = mounts;
        assert_eq!(replace(&container, &image, &image, API_OLD).expect_err("no name").kind(), "volume_unknown");
    }
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
    let refusal = among(&[], &json!({ "HostConfig": { "AutoRemove": true } })).expect_err("there is no way back");
    assert_eq!(refusal.kind(), "auto_remove");
    assert!(refusal.to_string().contains("create it without --rm"), "{refusal}");
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
fn t39_what_is_mounted_from_the_host_must_exist_and_a_volume_is_no_such_thing() {
    let image = image("a", json!({}));
    let mut container = created("1", &json!({}), &[], &image);
    let mounts = json!([{ "Type": "bind", "Source": "/srv/app.conf", "Destination": "/etc/app.conf", "RW": false },
        { "Type": "volume", "Name": "data", "Source": "/var/lib/docker/volumes/data/_data", "Destination": "/data" }]);
    container["Mounts"] = mounts;
    let successor = replace(&container, &image, &image, API_OLD).expect("replaceable");
    assert_eq!(successor.host_mounts, [("/srv/app.conf".to_owned(), "/etc/app.conf".to_owned())]);
}

/// A case of use, PB05: what is gone is found before anything is stopped.
#[test]
fn pb05_the_devices_that_must_exist_are_those_with_a_path_on_the_host() {
    let devices = json!([{ "PathOnHost": "/dev/ttyUSB0", "CgroupPermissions": "r" }, { "PathOnHost": "" }]);
    let image = image("a", json!({}));
    let devices_of = |host: Value| {
        let container = created("1", &json!({ "HostConfig": host }), &[], &image);
        replace(&container, &image, &image, API_OLD).expect("replaceable").devices
    };
    assert_eq!(devices_of(json!({ "Devices": devices })), ["/dev/ttyUSB0"]);
    assert_eq!(devices_of(json!({ "Devices": null })), [""; 0]);
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
    check(json!(["/proc/kcore", "/proc/timer_list"]), true);
    check(json!(["/proc/kcore", "/proc/timer_list", "/sys/firmware", "/proc/my-own"]), true);
}

#[test]
fn an_inspection_that_makes_no_sense_is_refused() {
    let image = image("a", json!({}));
    for container in [json!({}), json!({ "Config": {} }), json!({ "Config": [], "HostConfig": {} }), json!(null)] {
        assert_eq!(replace(&container, &image, &image, API_OLD).expect_err("no inspection").kind(), "malformed");
    }
}
