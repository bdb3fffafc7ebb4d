//! Ports for servers that have to be known, or kept over a restart, before anything listens on them.

use std::fs::{self, File, OpenOptions};
use std::net::TcpListener;
use std::sync::Mutex;

/// Below the range from which Linux gives ports to clients and engines to published ports, so that neither takes one
/// between its reservation and its use.
const FIRST: u16 = 21_000;
const LAST: u16 = 29_999;

/// The locks of this process, held until it ends: a port is never given out twice, not even to another test process.
static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 that nothing listens on and that no other test on this machine will be given.
///
/// # Panics
///
/// When no port of the range is left.
pub fn free_port() -> u16 {
    let locks = std::env::temp_dir().join("deployer-testkit-ports");
    fs::create_dir_all(&locks).unwrap_or_else(|error| panic!("cannot make {}: {error}", locks.display()));
    let count = LAST - FIRST + 1;
    let start = (std::process::id() % u32::from(count)) as u16;
    for step in 0..count {
        let port = FIRST + (start + step) % count;
        let Ok(lock) = OpenOptions::new().create(true).append(true).open(locks.join(port.to_string())) else {
            continue;
        };
        if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            RESERVED.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(lock);
            return port;
        }
    }
    panic!("no free port from {FIRST} to {LAST}")
}
