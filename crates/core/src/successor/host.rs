//! The host's side of a container: its `HostConfig`, sent back raw but for what must not be.
//!
//! Anonymous volumes stand only in `Mounts`; a copy of `HostConfig` alone would get new, empty ones. Each becomes a
//! mount by name, with its options. They stay even where the new image no longer declares the path: no data is ever
//! left behind without somebody asking for it. So does what the container got by `volumes-from`: the other container may be
//! another one by the next time.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::json::{clean_path, items, text};
use super::refusal::{Dependence, DependenceKind, Neighbour, Refusal};

/// Paths under `/proc` and `/sys` that engines hide by default, over all versions. Used to see that a list is an
/// engine's default: sent back as it is, it would keep the paths that a later engine hides for security visible.
const MASKED_BY_DEFAULT: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/system/cpu/",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// The paths that every engine's default list of hidden paths has.
const MASKED_ALWAYS: [&str; 3] = ["/proc/kcore", "/proc/timer_list", "/sys/firmware"];
/// Paths that engines make read-only by default.
const READ_ONLY_BY_DEFAULT: [&str; 6] =
    ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// The paths that every engine's default list of read-only paths has.
const READ_ONLY_ALWAYS: [&str; 3] = ["/proc/bus", "/proc/fs", "/proc/sys"];

/// The container's `HostConfig`, fit to be sent.
pub(super) fn host_config(
    container: &Value,
    host: &Map<String, Value>,
    others: &[Neighbour<'_>],
) -> Result<Map<String, Value>, Refusal> {
    let mut host = host.clone();
    if let Some(links) = host.get_mut("Links").and_then(Value::as_array_mut) {
        links.iter_mut().for_each(|link| *link = asked_link(link));
    }
    if let Some(entries) = host.get_mut("VolumesFrom").and_then(Value::as_array_mut) {
        entries.retain(|entry| is_there(entry, others));
    }
    if is_engine_default(&host, "MaskedPaths", &MASKED_BY_DEFAULT, &MASKED_ALWAYS) {
        host.remove("MaskedPaths");
    }
    if is_engine_default(&host, "ReadonlyPaths", &READ_ONLY_BY_DEFAULT, &READ_ONLY_ALWAYS) {
        host.remove("ReadonlyPaths");
    }
    if host.get("MemorySwappiness").and_then(Value::as_i64) == Some(-1) {
        // "Not set" in words that control groups of version 2 refuse.
        host.remove("MemorySwappiness");
    }
    if let Some(ports) = host.get_mut("PortBindings").and_then(Value::as_object_mut) {
        ports.remove("");
    }
    for device in host.get_mut("Devices").and_then(Value::as_array_mut).into_iter().flatten() {
        if text(device, "/CgroupPermissions").is_empty() {
            // runc refuses to start with none: a container that runs so was given the default by a tolerant runtime.
            device["CgroupPermissions"] = Value::from("rwm");
        }
    }
    name_mounts(container, &mut host)?;
    Ok(host)
}

/// A link as it is asked for, `container:alias`; shown is `/container:/own-name/alias`.
fn asked_link(shown: &Value) -> Value {
    let asked = shown.as_str().and_then(|link| link.split_once(':')).map(|(on, alias)| {
        let alias = alias.rsplit('/').next().unwrap_or(alias);
        Value::from(format!("{}:{alias}", on.trim_start_matches('/')))
    });
    asked.unwrap_or_else(|| shown.clone())
}

/// Whether the container that volumes are taken from is still there.
fn is_there(entry: &Value, others: &[Neighbour<'_>]) -> bool {
    let on = entry.as_str().and_then(|entry| entry.split(':').next()).unwrap_or_default().to_owned();
    let dependence = Dependence { kind: DependenceKind::Volumes, on };
    others.iter().any(|other| other.is_used_by(&dependence))
}

/// Paths on the host of the devices that the container was given one by one.
pub(super) fn device_paths(container: &Value) -> Vec<String> {
    let devices = container.pointer("/HostConfig/Devices").and_then(Value::as_array).into_iter().flatten();
    devices.map(|device| text(device, "/PathOnHost").to_owned()).filter(|path| !path.is_empty()).collect()
}

/// Files and directories of the host that the container has mounted: where each lies there, and where in the container.
pub(super) fn host_mounts(container: &Value) -> Vec<(String, String)> {
    let binds = items(container, "/Mounts").iter().filter(|mount| text(mount, "/Type") == "bind");
    binds.map(|mount| (text(mount, "/Source").to_owned(), text(mount, "/Destination").to_owned())).collect()
}

/// Names of all volumes that the container has mounted, anonymous ones included, sorted.
pub(super) fn volume_names(container: &Value) -> Vec<String> {
    let names: BTreeSet<String> =
        volume_mounts(container).map(|mount| volume_name(mount).to_owned()).filter(|name| !name.is_empty()).collect();
    names.into_iter().collect()
}

fn volume_mounts(container: &Value) -> impl Iterator<Item = &Value> {
    items(container, "/Mounts").iter().filter(|mount| text(mount, "/Type") == "volume")
}

/// Whether a list holds an engine's default: nothing but known default paths, and those that all engines have.
fn is_engine_default(host: &Map<String, Value>, name: &str, known: &[&str], always: &[&str]) -> bool {
    let Some(paths) = host.get(name).and_then(Value::as_array) else { return false };
    let is_known =
        |path: &str| known.iter().any(|known| path == *known || (known.ends_with('/') && path.starts_with(known)));
    paths.iter().all(|path| path.as_str().is_some_and(is_known))
        && always.iter().all(|path| paths.iter().any(|listed| listed == path))
}

/// Gives every anonymous volume its name: in `Binds` and `Mounts` where it stands there without one, and as a further
/// entry of `Mounts` where it stands in neither (the `VOLUME` of an image, or `-v /path`). What was taken from another container
/// that is gone is written out as well; of one that is there it is taken again.
fn name_mounts(container: &Value, host: &mut Map<String, Value>) -> Result<(), Refusal> {
    let mut placed: BTreeSet<String> = BTreeSet::new();
    for bind in host.get_mut("Binds").and_then(Value::as_array_mut).into_iter().flatten() {
        let text = bind.as_str().unwrap_or("").to_owned();
        let target = bind_target(&text);
        placed.insert(clean_path(target));
        if target == text {
            *bind = Value::from(format!("{}:{target}", volume_at(container, target)?));
        }
    }
    for mount in host.get_mut("Mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        let target = text(mount, "/Target").to_owned();
        placed.insert(clean_path(&target));
        if text(mount, "/Type") == "volume" && text(mount, "/Source").is_empty() {
            mount["Source"] = Value::from(volume_at(container, &target)?);
        }
    }
    // What the other one has is the engine's to give, with the options that it has there.
    let lenders = |host: &Value| items(host, "/VolumesFrom").len();
    let (asked, left) = (lenders(&container["HostConfig"]), lenders(&Value::Object(host.clone())));
    let is_declared = |mount: &Value| {
        let declared = container.pointer("/Config/Volumes").and_then(Value::as_object).into_iter().flatten();
        declared.into_iter().any(|(path, _)| clean_path(path) == clean_path(text(mount, "/Destination")))
    };
    let is_kept = |mount: &&Value| match text(mount, "/Type") {
        "volume" => asked == 0 || left < asked || is_declared(mount),
        "bind" => left < asked,
        _ => false,
    };
    let mut mounts: Vec<&Value> = items(container, "/Mounts").iter().filter(is_kept).collect();
    // An engine lists them in another order at each inspection.
    mounts.sort_by_key(|mount| text(mount, "/Destination"));
    let further = mounts.into_iter().filter(|mount| !placed.contains(&clean_path(text(mount, "/Destination"))));
    let further: Vec<Value> = further.map(|mount| named_mount(mount, asked == 0 || is_declared(mount))).collect();
    if !further.is_empty() {
        match host.get_mut("Mounts").and_then(Value::as_array_mut) {
            Some(mounts) => mounts.extend(further),
            None => {
                host.insert("Mounts".to_owned(), Value::Array(further));
            }
        }
    }
    Ok(())
}

/// A mount as it is asked for: a volume by its name, a part of the host by its path.
fn named_mount(mount: &Value, is_declared: bool) -> Value {
    let kind = text(mount, "/Type");
    let source = if kind == "bind" { text(mount, "/Source") } else { volume_name(mount) };
    let mut named = json!({ "Type": kind, "Source": source, "Target": text(mount, "/Destination") });
    if mount.get("RW") == Some(&Value::Bool(false)) {
        named["ReadOnly"] = Value::Bool(true);
    }
    let propagation = text(mount, "/Propagation");
    if kind == "bind" && !propagation.is_empty() {
        named["BindOptions"] = json!({ "Propagation": propagation });
    }
    let driver = text(mount, "/Driver");
    if !driver.is_empty() && driver != "local" {
        named["VolumeOptions"] = json!({ "DriverConfig": { "Name": driver } });
    }
    if kind == "volume" && !is_declared {
        // It was another container's: what this image has at the path is no business of that.
        named["VolumeOptions"]["NoCopy"] = Value::Bool(true);
    }
    named
}

/// The path in the container that an entry of `Binds` mounts on. An entry of one part is that path: an anonymous volume.
fn bind_target(bind: &str) -> &str {
    // A drive of Windows, as its engines show what their host lends.
    let drive = bind.as_bytes();
    let is_drive = matches!(drive, [letter, b':', b'\\' | b'/', ..] if letter.is_ascii_alphabetic());
    let rest = if is_drive { &bind[2..] } else { bind };
    rest.split(':').nth(1).unwrap_or(bind)
}

/// The name of a mounted volume. Engine 28 leaves out that of an anonymous one of `Binds`, but not where it lies: below the
/// engine's own folder of volumes, in one of its name.
fn volume_name(mount: &Value) -> &str {
    let named = text(mount, "/Name");
    let folder = || text(mount, "/Source").strip_suffix("/_data")?.rsplit_once("/volumes/").map(|(_, name)| name);
    if named.is_empty() { folder().filter(|name| !name.contains('/')).unwrap_or_default() } else { named }
}

fn volume_at<'a>(container: &'a Value, target: &str) -> Result<&'a str, Refusal> {
    volume_mounts(container)
        .find(|mount| clean_path(text(mount, "/Destination")) == clean_path(target))
        .map(volume_name)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Refusal::VolumeUnknown { path: target.to_owned() })
}
