//! The list of a container's changed files, read as it comes: there may be any number of them.

use deployer_core::successor::ChangedPaths;
use serde::Deserialize;

use super::client::{CALL_LIMIT, Client, Request, short};
use super::endpoints;
use crate::engine::EngineError;
use deployer_wire::{Answer, WireError};

/// Longest entry of the list that is read. Paths end at 4 KiB, which JSON may write six times as long.
const ENTRY_BYTES_MAX: usize = 64 << 10;
/// The API's word for "deleted".
const DELETED: u8 = 2;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Changed {
    path: String,
    #[serde(default)]
    kind: u8,
}

/// Paths added to or modified in the container's own file system, as far as [`ChangedPaths`] keeps them.
pub async fn list(client: &Client, id: &str) -> Result<Vec<String>, EngineError> {
    let what = format!("list changed files of container {}", short(id));
    let answer = client.send(Request::new(&endpoints::CHANGES, &[id], &what)).await?;
    match tokio::time::timeout(CALL_LIMIT, read(answer)).await {
        Ok(Ok(paths)) => Ok(paths.into_paths()),
        Ok(Err(Unread::Wire(error))) => Err(client.wire_error(&what, error)),
        Ok(Err(Unread::Nonsense(message))) => Err(EngineError::Nonsense { what, message }),
        Ok(Err(Unread::TooMany)) => {
            let message = format!("more than {} files; is what it writes in a volume?", ChangedPaths::MAX);
            Err(EngineError::TooLong { what, message })
        }
        Err(_) => Err(client.wire_error(&what, WireError::Timeout(CALL_LIMIT))),
    }
}

enum Unread {
    Wire(WireError),
    Nonsense(String),
    TooMany,
}

async fn read(mut answer: Answer) -> Result<ChangedPaths, Unread> {
    let (mut entries, mut paths) = (Entries::default(), ChangedPaths::default());
    while let Some(chunk) = answer.chunk().await.map_err(Unread::Wire)? {
        for byte in chunk {
            let Some(entry) = entries.take(byte)? else { continue };
            let changed: Changed =
                serde_json::from_slice(&entry).map_err(|_| Unread::Nonsense("an entry cannot be read".to_owned()))?;
            if changed.kind != DELETED && !paths.take(&changed.path) {
                return Err(Unread::TooMany);
            }
        }
    }
    if entries.is_between() { Ok(paths) } else { Err(Unread::Nonsense("it ends in the middle".to_owned())) }
}

/// A JSON list of objects, or null, taken apart byte by byte.
#[derive(Default)]
struct Entries {
    entry: Vec<u8>,
    depth: u32,
    is_in_text: bool,
    is_escaped: bool,
}

impl Entries {
    /// Takes in one more byte; gives back the entry that it ends.
    fn take(&mut self, byte: u8) -> Result<Option<Vec<u8>>, Unread> {
        if self.depth == 0 {
            match byte {
                b'{' => self.depth = 1,
                b'[' | b']' | b',' | b' ' | b'\t' | b'\r' | b'\n' | b'n' | b'u' | b'l' => return Ok(None),
                _ => return Err(Unread::Nonsense("it is no list".to_owned())),
            }
            self.entry.push(byte);
            return Ok(None);
        }
        self.entry.push(byte);
        if self.entry.len() > ENTRY_BYTES_MAX {
            return Err(Unread::Nonsense(format!("an entry is longer than {ENTRY_BYTES_MAX} bytes")));
        }
        match byte {
            _ if self.is_escaped => self.is_escaped = false,
            b'\\' if self.is_in_text => self.is_escaped = true,
            b'"' => self.is_in_text = !self.is_in_text,
            b'{' if !self.is_in_text => self.depth += 1,
            b'}' if !self.is_in_text => self.depth -= 1,
            _ => {}
        }
        Ok((self.depth == 0).then(|| std::mem::take(&mut self.entry)))
    }

    fn is_between(&self) -> bool {
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Result<Vec<String>, String> {
        let mut entries = Entries::default();
        let mut found = Vec::new();
        for byte in text.bytes() {
            match entries.take(byte) {
                Ok(entry) => found.extend(entry.map(|entry| String::from_utf8(entry).expect("text"))),
                Err(Unread::Nonsense(message)) => return Err(message),
                Err(_) => return Err(String::new()),
            }
        }
        if entries.is_between() { Ok(found) } else { Err("in the middle".to_owned()) }
    }

    #[test]
    fn security_8_a_list_is_taken_apart_as_it_comes() {
        let list = |entries: &[&str]| Ok(entries.iter().map(|entry| (*entry).to_owned()).collect());
        assert_eq!(entries("null\n"), list(&[]));
        assert_eq!(entries("[]"), list(&[]));
        let two = "[{\"Path\":\"/a}\\\"{\",\"Kind\":1},\n {\"Path\":\"/b\\\\\",\"x\":{\"y\":\"}\"}}]\n";
        assert_eq!(
            entries(two),
            list(&["{\"Path\":\"/a}\\\"{\",\"Kind\":1}", "{\"Path\":\"/b\\\\\",\"x\":{\"y\":\"}\"}}"])
        );
        assert_eq!(entries("\"no\""), Err("it is no list".to_owned()));
        assert_eq!(entries("[{\"Path\":\"/a"), Err("in the middle".to_owned()));
        let long = format!("[{{\"Path\":\"{}\"}}]", "x".repeat(ENTRY_BYTES_MAX));
        assert!(entries(&long).is_err_and(|message| message.contains("longer")));
    }

    /// An engine on a port of its own, which answers one call with this list.
    async fn listed(list: &str) -> Result<Vec<String>, EngineError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        let client = Client::new(deployer_wire::Endpoint::Tcp(address));
        let serve = async {
            for body in ["", list] {
                let (mut connection, _) = listener.accept().await.expect("a call");
                let _ = tokio::io::AsyncReadExt::read(&mut connection, &mut [0; 4096]).await.expect("a head");
                let head = format!("HTTP/1.1 200 OK\r\napi-version: 1.41\r\ncontent-length: {}\r\n\r\n", body.len());
                // A client that has read enough closes in the middle.
                let _ = tokio::io::AsyncWriteExt::write_all(&mut connection, (head + body).as_bytes()).await;
            }
        };
        tokio::join!(super::list(&client, "4f"), serve).0
    }

    /// More than 32 MiB of changed paths were an error that halted the rollout everywhere.
    #[tokio::test]
    async fn security_8_a_list_of_any_length_is_read_where_programs_write() {
        let entry = |number: u32, folder: &str| format!("{{\"Path\":\"{folder}/{number:0100}\",\"Kind\":1}},");
        let many = |count: u32, folder: &str| (0..count).map(|number| entry(number, folder)).collect::<String>();
        let long = format!("[{}{{\"Path\":\"/etc/gone\",\"Kind\":2}}]", many(300_000, "/var/lib/db"));
        assert!(long.len() > deployer_wire::ANSWER_BYTES_MAX, "{}", long.len());
        assert_eq!(listed(&long).await.expect("read"), ["/var/lib"]);
        let odd = listed(&format!("[{}{{\"Path\":\"/x\"}}]", many(50_000, "/srv"))).await.expect_err("too many");
        assert_eq!(odd.kind(), "too_long", "{odd}");
        assert_eq!(listed("null").await.expect("read"), [""; 0]);
        assert_eq!(listed("[{\"Kind\":1}]").await.expect_err("no path").kind(), "nonsense");
    }
}
