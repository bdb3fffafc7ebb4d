//! Text of strangers made harmless for a terminal, a log and a table.
//!
//! Registries, images, containers and other nodes choose words that end up before people: a control character in them
//! could clear a terminal, write a false line into a log, or turn what is read around. Each such character is written
//! as JSON would write it, so that a JSON text stays one; doing it twice is doing it once.

use std::borrow::Cow;

use serde_json::Value;

/// The most characters that are kept of a stranger's sentence. The rest is left out, and three dots say so.
pub const WORDS_CHARS_MAX: usize = 1000;

/// A text as a single line.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, is_unsafe)
}

/// A text of several lines. Only where each of them is ours: a stranger's could be taken for one.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |letter| letter != '\n' && is_unsafe(letter))
}

/// A stranger's sentence: a single line, and no longer than somebody reads.
pub fn words(text: &str) -> String {
    let line = line(text);
    match line.char_indices().nth(WORDS_CHARS_MAX) {
        None => line.into_owned(),
        Some(_) => line.chars().take(WORDS_CHARS_MAX - 1).chain(['…']).collect(),
    }
}

/// Every text in a value, as single lines; whether any was changed.
pub fn value(value: &mut Value) -> bool {
    match value {
        Value::String(text) => match line(text) {
            Cow::Borrowed(_) => false,
            Cow::Owned(escaped) => {
                *text = escaped;
                true
            }
        },
        Value::Array(values) => values.iter_mut().fold(false, |is_changed, member| self::value(member) | is_changed),
        Value::Object(members) => {
            members.values_mut().fold(false, |is_changed, member| self::value(member) | is_changed)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether a character does something else than stand there: control characters (C0, delete, C1), line and paragraph
/// separators, what changes the direction of writing, and what is there and not seen.
fn is_unsafe(letter: char) -> bool {
    letter.is_control()
        || matches!(
            letter,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

fn escaped(text: &str, is_unsafe: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len() + 16);
    for letter in text.chars() {
        match letter {
            letter if !is_unsafe(letter) => plain.push(letter),
            '\n' => plain.push_str("\\n"),
            '\r' => plain.push_str("\\r"),
            '\t' => plain.push_str("\\t"),
            letter => {
                for unit in letter.encode_utf16(&mut [0; 2]) {
                    plain.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(line(text), expected);
        assert_eq!(line(expected), expected, "twice is once");
        assert_eq!(words(text), expected);
        let json: Value = serde_json::from_str(&format!("\"{}\"", expected.replace('"', "\\\""))).expect("still JSON");
        assert_eq!(json, json!(text));
    }

    #[test]
    fn security_9_no_control_character_is_left() {
        check("", "");
        check("registry says no: größer, 漢字, 👍, \"quoted\"", "registry says no: größer, 漢字, 👍, \"quoted\"");
        check("boom \u{1b}]0;PWNED\u{7}\u{1b}[2J", "boom \\u001b]0;PWNED\\u0007\\u001b[2J");
        check("\u{9b}2J \u{9d}x\u{9c}", "\\u009b2J \\u009dx\\u009c");
        check("a\r\nb\tc\u{8}\u{7f}\0", "a\\r\\nb\\tc\\u0008\\u007f\\u0000");
        check("\u{85} \u{2028} \u{2029}", "\\u0085 \\u2028 \\u2029");
        check("invoice\u{202e}gpj.exe \u{2066}x\u{2069} \u{61c}", "invoice\\u202egpj.exe \\u2066x\\u2069 \\u061c");
        check("pay\u{200b}pal \u{feff}\u{ad}", "pay\\u200bpal \\ufeff\\u00ad");
        check("\u{e0041}", "\\udb40\\udc41");
        for code in (0..0x20).chain(0x7f..0xa0) {
            let letter = char::from_u32(code).expect("a character");
            assert!(!line(&letter.to_string()).contains(letter), "{code:x}");
        }
    }

    #[test]
    fn security_9_lines_of_ours_stay_lines() {
        assert_eq!(lines("a\nb\r\u{1b}[1m\n"), "a\nb\\r\\u001b[1m\n");
        assert!(matches!(lines("a\nb"), Cow::Borrowed(_)));
    }

    #[test]
    fn security_9_a_strangers_sentence_ends() {
        let long = "\u{1b}".repeat(1 << 20);
        let kept = words(&long);
        assert_eq!(kept.chars().count(), WORDS_CHARS_MAX);
        assert_eq!(words(&kept), kept, "twice is once");
        assert_eq!(words(&"x".repeat(WORDS_CHARS_MAX)), "x".repeat(WORDS_CHARS_MAX));
    }

    #[test]
    fn security_9_every_text_of_a_value_is_made_plain() {
        let mut values = json!({"a": ["\u{1b}", 1, null], "b": {"c": "\n"}, "d": "plain"});
        assert!(value(&mut values));
        assert_eq!(values, json!({"a": ["\\u001b", 1, null], "b": {"c": "\\n"}, "d": "plain"}));
        assert!(!value(&mut values));
    }
}
