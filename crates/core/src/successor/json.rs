//! Tolerant reading of an engine's raw JSON: what is absent or of another type reads as empty.

use serde_json::Value;

/// Characters of an ID that the engine uses as a generated host name and alias.
pub(super) const SHORT_ID_CHARS: usize = 12;

/// The text at a JSON pointer.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

/// The texts of the list at a JSON pointer.
pub(super) fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    items(value, pointer).iter().filter_map(Value::as_str).collect()
}

/// The list at a JSON pointer.
pub(super) fn items<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The members of the object at a JSON pointer.
pub(super) fn members<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = (&'a String, &'a Value)> {
    value.pointer(pointer).and_then(Value::as_object).into_iter().flatten()
}

/// A container's name without the slash that the engine puts in front.
pub(super) fn container_name(container: &Value) -> &str {
    text(container, "/Name").trim_start_matches('/')
}

/// The first twelve digits of a container's ID.
pub(super) fn short_id(container: &Value) -> &str {
    text(container, "/Id").get(..SHORT_ID_CHARS).unwrap_or("")
}

/// A path as the engine writes it down: without `.`, `..`, doubled slashes and a slash at the end.
pub(super) fn clean_path(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if is_absolute => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    if is_absolute { format!("/{joined}") } else { joined }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cleaned_as_engines_do_it() {
        let check = |path: &str, expected: &str| assert_eq!(clean_path(path), expected, "{path}");
        check("/", "/");
        check("//data/./logs//", "/data/logs");
        check("/data/../logs", "/logs");
        check("/../..", "/");
        check("data/logs/", "data/logs");
        check("data/../../logs", "../logs");
        check("../../logs", "../../logs");
    }
}
