//! Stands between a daemon and its engine, and does something to one call.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crate::directory::Directory;
use crate::engine::Engine;

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mishap {
    /// It never gets to the engine, and is answered with status 500.
    Refused,
    /// It never gets to the engine, and the connection breaks.
    CutBefore,
    /// The engine carries it out, and the connection breaks before the answer.
    CutAfter,
    /// The engine carries it out, and nothing is ever answered: whoever asked waits until they give up.
    Unanswered,
}

impl Mishap {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Refused, Self::CutBefore, Self::CutAfter, Self::Unanswered];
}

/// A further socket of an engine. It ends with the process.
pub struct Interposer {
    socket: PathBuf,
    plan: Arc<Mutex<Plan>>,
    _directory: Directory,
}

#[derive(Default)]
struct Plan {
    // The calls since it was armed, as `METHOD PATH`, without those that follow the engine for ever.
    calls: Vec<String>,
    only_changes: bool,
    strikes: Option<(usize, Mishap)>,
    struck: Option<String>,
}

impl Interposer {
    /// A further socket of that engine, on which all goes well.
    ///
    /// # Panics
    ///
    /// When the engine is not at a socket, or none can be made.
    pub fn start(engine: &Engine) -> Self {
        let behind =
            engine.address().strip_prefix("unix://").expect("the engine of these tests is at a socket").to_owned();
        let directory = Directory::make();
        let socket = directory.join("engine.sock");
        let listener = UnixListener::bind(&socket).expect("a socket in the temporary directory can be made");
        let plan = Arc::new(Mutex::new(Plan::default()));
        let (accepting, behind) = (Arc::clone(&plan), PathBuf::from(behind));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (plan, behind) = (Arc::clone(&accepting), behind.clone());
                // A connection that breaks is as broken as it is meant to be.
                thread::spawn(move || drop(carry(&client, &behind, &plan)));
            }
        });
        Self { socket, plan, _directory: directory }
    }

    /// The engine by that socket.
    pub fn engine(&self) -> Engine {
        Engine::at_socket(&self.socket)
    }

    /// Lets something happen to the call of this number from now on, the first being 0; with `only_changes`, of those that
    /// change something (POST and DELETE).
    pub fn arm(&self, number: usize, mishap: Mishap, only_changes: bool) {
        *lock(&self.plan) = Plan { only_changes, strikes: Some((number, mishap)), ..Plan::default() };
    }

    /// The call that it happened to, as `METHOD PATH`.
    pub fn struck(&self) -> Option<String> {
        lock(&self.plan).struck.clone()
    }

    /// The calls that counted since it was armed.
    pub fn calls(&self) -> Vec<String> {
        lock(&self.plan).calls.clone()
    }
}

fn lock(plan: &Mutex<Plan>) -> MutexGuard<'_, Plan> {
    plan.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries one call to the engine and its answer back: the engine is told that no further one comes on this connection, and
/// tells it on.
fn carry(client: &UnixStream, behind: &PathBuf, plan: &Mutex<Plan>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = Vec::new();
    let mut length = 0;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or_default();
        }
        if line == "\r\n" {
            break;
        }
        if !lower.starts_with("connection:") {
            head.extend_from_slice(line.as_bytes());
        }
    }
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mishap = note(&head, plan);
    match mishap {
        Some(Mishap::CutBefore) => return Ok(()),
        Some(Mishap::Refused) => return refuse(client),
        _ => {}
    }
    let mut engine = UnixStream::connect(behind)?;
    engine.write_all(&head)?;
    engine.write_all(&body)?;
    match mishap {
        None => copy_until_either_ends(client, &engine),
        Some(_) => {
            io::copy(&mut engine, &mut io::sink())?;
            if mishap == Some(Mishap::Unanswered) {
                // Until the client has had enough.
                io::copy(&mut reader, &mut io::sink())?;
            }
            Ok(())
        }
    }
}

/// Counts a call. Gives back what is to become of it.
fn note(head: &[u8], plan: &Mutex<Plan>) -> Option<Mishap> {
    let line = String::from_utf8_lossy(head).lines().next().unwrap_or_default().to_owned();
    let call = line.rsplit_once(' ').map_or(line.clone(), |(call, _)| call.to_owned());
    let mut plan = lock(plan);
    let is_change = call.starts_with("POST ") || call.starts_with("DELETE ");
    if call.contains("/events") || (plan.only_changes && !is_change) {
        return None;
    }
    plan.calls.push(call.clone());
    let number = plan.calls.len() - 1;
    let (_, mishap) = plan.strikes.filter(|(strikes, _)| *strikes == number)?;
    plan.struck = Some(call);
    Some(mishap)
}

fn refuse(mut client: &UnixStream) -> io::Result<()> {
    let body = r#"{"message":"a mishap of the test"}"#;
    let head = "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nConnection: close";
    write!(client, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn copy_until_either_ends(client: &UnixStream, engine: &UnixStream) -> io::Result<()> {
    let (mut from, to) = (client.try_clone()?, engine.try_clone()?);
    let watching = thread::spawn(move || {
        // Nothing more comes but the end, on which a stream of events ends as well.
        let _ = io::copy(&mut from, &mut io::sink());
        let _ = to.shutdown(Shutdown::Both);
    });
    let (mut engine, mut client) = (engine, client);
    let copied = io::copy(&mut engine, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = watching.join();
    copied.map(drop)
}
