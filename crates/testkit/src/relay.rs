//! A way to a server on which answers can get lost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Forwards a port of 127.0.0.1 to a server. It ends with the process.
pub struct Relay {
    address: String,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    loses_answers: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// A way to the server at an address.
    ///
    /// # Panics
    ///
    /// When no port can be listened on.
    pub fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of 127.0.0.1 is free");
        let address = listener.local_addr().expect("a bound socket has an address").to_string();
        let shared = Arc::new(Shared::default());
        let (server, accepting) = (server.to_owned(), Arc::clone(&shared));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let ends = [client.try_clone(), server.try_clone()].into_iter().flatten();
                accepting.lock().extend(ends);
                forward(&client, &server, None);
                forward(&server, &client, Some(Arc::clone(&accepting)));
            }
        });
        Self { address, shared }
    }

    /// `127.0.0.1:PORT`, where clients reach the server through it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// From now on requests arrive and their answers do not.
    pub fn lose_answers(&self) {
        self.shared.loses_answers.store(true, Ordering::SeqCst);
    }

    /// Cuts every connection. On those made from now on answers arrive.
    pub fn cut(&self) {
        let mut connections = self.shared.lock();
        self.shared.loses_answers.store(false, Ordering::SeqCst);
        for connection in connections.drain(..) {
            // One that is closed already is as cut as it can be.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<TcpStream>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies until one side ends. With `answers`, what comes while answers get lost is read and forgotten; a connection
/// that has lost some is of no use afterwards, which is why all of them are cut then.
fn forward(from: &TcpStream, to: &TcpStream, answers: Option<Arc<Shared>>) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    thread::spawn(move || {
        let mut buffer = [0; 16 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            let is_lost = answers.as_ref().is_some_and(|shared| shared.loses_answers.load(Ordering::SeqCst));
            if !is_lost && to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}
