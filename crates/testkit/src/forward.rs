//! Ways from a host to this machine.

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};

/// A way from a host to a port of this machine. Dropping it cuts it, with every connection on it.
#[must_use = "dropping it cuts the way"]
pub struct Forward {
    listener: Arc<TcpListener>,
    accepting: Option<JoinHandle<()>>,
    connections: Connections,
}

/// Both ends of the connections that are open, so that they can be cut.
#[derive(Clone, Default)]
struct Connections(Arc<Mutex<BTreeMap<u64, [TcpStream; 2]>>>);

impl Forward {
    pub(crate) fn start(listener: TcpListener, port: u16) -> Self {
        let listener = Arc::new(listener);
        let connections = Connections::default();
        let (inbox, open) = (Arc::clone(&listener), connections.clone());
        let accepting = thread::spawn(move || {
            for number in 0.. {
                let Ok((inside, _)) = inbox.accept() else { break };
                let Ok(outside) = TcpStream::connect(("127.0.0.1", port)) else { continue };
                open.carry(number, inside, outside);
            }
        });
        Self { listener, accepting: Some(accepting), connections }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // The standard library shuts down streams only, the kernel listening sockets as well: accept then ends.
        if let Ok(listener) = self.listener.try_clone() {
            let _ = TcpStream::from(OwnedFd::from(listener)).shutdown(Shutdown::Both);
        }
        // Only then are all connections known.
        let _ = self.accepting.take().map(JoinHandle::join);
        for end in self.connections.lock().values().flatten() {
            // One that the other side has closed already is as cut as it can be.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Connections {
    /// Copies in both directions, in the background, until both have ended.
    fn carry(&self, number: u64, inside: TcpStream, outside: TcpStream) {
        let (Ok(inner), Ok(outer)) = (inside.try_clone(), outside.try_clone()) else { return };
        // A network has no Nagle in its middle: with it, small answers would wait 40 ms here for an acknowledgement.
        if inner.set_nodelay(true).is_err() || outer.set_nodelay(true).is_err() {
            return;
        }
        self.lock().insert(number, [inner, outer]);
        let open = self.clone();
        thread::spawn(move || {
            thread::scope(|scope| {
                scope.spawn(|| copy(&inside, &outside));
                copy(&outside, &inside);
            });
            open.lock().remove(&number);
        });
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, [TcpStream; 2]>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) {
    // However it ended, the other side is told that nothing more comes.
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}
