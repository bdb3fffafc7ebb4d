//! Docker Hub is told that its notification was taken: it alone, only over TLS, and only where its name really points
//! to. A server of the test's own plays its part.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deployer_core::webhook::{CALLBACK_HOST, Callback};
use deployer_hooks::callback::{Caller, Outside};
use futures_util::FutureExt;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, crypto};
use tokio_rustls::server::TlsStream;

/// For what takes milliseconds on an idle machine.
const SOON: Duration = Duration::from_secs(20);
/// An address of the public network: it is only compared, the connection goes to the test's own server.
const PUBLIC: &str = "44.205.64.79";
const TAKEN: &str = r#"{"state":"success","description":"the notification was taken"}"#;

/// An authority that only this test believes.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(parameters, key).expect("a certificate"))
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root certificate");
        roots
    }

    /// A server that shows itself as `name`.
    fn acceptor(&self, name: &str) -> TlsAcceptor {
        let key = KeyPair::generate().expect("a key");
        let parameters = CertificateParams::new([name.to_owned()]).expect("a name");
        let certificate = parameters.signed_by(&key, &self.0).expect("a certificate").der().clone();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate with its key");
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A caller at work, and a server that everything it connects to leads to.
struct Hub {
    callbacks: mpsc::Sender<Callback>,
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connected: Arc<Mutex<Vec<String>>>,
    calling: JoinSet<()>,
}

impl Hub {
    /// The name points to these addresses, and the server shows itself as `name`, vouched for by somebody whom the caller
    /// believes, or by a stranger.
    async fn new(addresses: &[&str], name: &str, is_believed: bool) -> Self {
        let authority = Authority::new();
        let believed = if is_believed { authority.roots() } else { Authority::new().roots() };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let here = listener.local_addr().expect("an address");
        let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().expect("an address")).collect();
        let connected = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&connected);
        let resolve = move |name: &'static str| {
            assert_eq!(name, CALLBACK_HOST, "no other name is looked up");
            let addresses = addresses.clone();
            async move { Ok(addresses) }.boxed()
        };
        let connect = move |address: SocketAddr| {
            seen.lock().expect("no panic").push(address.to_string());
            TcpStream::connect(here).boxed()
        };
        let (callbacks, waiting) = mpsc::channel(8);
        let mut calling = JoinSet::new();
        calling.spawn(Caller::new(waiting, Outside::chosen(resolve, connect, believed)).run());
        Self { callbacks, listener, acceptor: authority.acceptor(name), connected, calling }
    }

    async fn call(&self, path: &str) {
        let callback = Callback::parse(&format!("https://{CALLBACK_HOST}{path}")).expect("Docker Hub's");
        self.callbacks.send(callback).await.expect("it is at work");
    }

    /// The next request, as it came, and the connection it came over.
    async fn request(&self) -> (String, TlsStream<TcpStream>) {
        let exchange = async {
            let (stream, _) = self.listener.accept().await.expect("a connection");
            let mut stream = self.acceptor.accept(stream).await.expect("a handshake");
            let mut text = Vec::new();
            while !text.ends_with(TAKEN.as_bytes()) {
                let size = stream.read_buf(&mut text).await.expect("a request");
                assert!(size > 0, "it ended early: {}", String::from_utf8_lossy(&text));
            }
            (String::from_utf8(text).expect("text"), stream)
        };
        tokio::time::timeout(SOON, exchange).await.expect("a request")
    }

    /// Lets the caller finish what waits, and tells where it connected to.
    async fn finish(mut self) -> Vec<String> {
        drop(self.callbacks);
        let ended = tokio::time::timeout(SOON, self.calling.join_next()).await.expect("it ends");
        ended.expect("the caller").expect("no panic");
        self.connected.lock().expect("no panic").clone()
    }
}

async fn answer(mut stream: TlsStream<TcpStream>, text: &str) {
    stream.write_all(text.as_bytes()).await.expect("an answer");
    stream.shutdown().await.expect("an end");
}

#[tokio::test]
async fn what_is_said_holds_nothing_of_ours() {
    let hub = Hub::new(&[PUBLIC], CALLBACK_HOST, true).await;
    hub.call("/u/acme/web/hook/2b0f/").await;
    let (request, stream) = hub.request().await;
    answer(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
    let expected = format!(
        "POST /u/acme/web/hook/2b0f/ HTTP/1.1\r\nhost: {CALLBACK_HOST}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{TAKEN}",
        TAKEN.len()
    );
    assert_eq!(request, expected);
    assert_eq!(hub.finish().await, [format!("{PUBLIC}:443")], "where the name was found to point to");
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_a_refusal_not_repeated() {
    let hub = Hub::new(&[PUBLIC], CALLBACK_HOST, true).await;
    for head in ["302 Found\r\nlocation: http://169.254.169.254/", "307 Again\r\nlocation: /u/other/", "503 Later"] {
        hub.call("/u/first/").await;
        answer(hub.request().await.1, &format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n")).await;
    }
    hub.call("/u/last/").await;
    let (request, stream) = hub.request().await;
    assert!(request.starts_with("POST /u/last/ "), "{request}");
    answer(stream, "HTTP/1.1 204 Fine\r\n\r\n").await;
    assert_eq!(hub.finish().await.len(), 4);
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let hub = Hub::new(&[PUBLIC], CALLBACK_HOST, true).await;
    hub.call("/u/endless/").await;
    let (_, mut stream) = hub.request().await;
    stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.expect("an answer");
    let mut sent = 0_usize;
    let endless = async {
        while stream.write_all(&[b'x'; 1024]).await.is_ok() {
            sent += 1024
        }
    };
    tokio::time::timeout(SOON, endless).await.expect("the connection is closed on it");
    assert!(sent < 16 << 20, "{sent} bytes were taken");
    hub.call("/u/next/").await;
    answer(hub.request().await.1, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(hub.finish().await.len(), 2);
}

/// No request comes over the connection, if there is one at all.
#[track_caller]
fn check_untold(addresses: &'static [&'static str], name: &'static str, is_believed: bool, connections: usize) {
    let outcome = async {
        let hub = Hub::new(addresses, name, is_believed).await;
        hub.call("/u/acme/web/hook/2b0f/").await;
        for _ in 0..connections {
            let (stream, _) = hub.listener.accept().await.expect("a connection");
            assert!(hub.acceptor.accept(stream).await.is_err(), "the handshake fails");
        }
        hub.finish().await
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connected = runtime.block_on(async { tokio::time::timeout(SOON, outcome).await.expect("an end") });
    assert_eq!(connected.len(), connections, "{addresses:?} {name}");
}

#[test]
fn a_name_that_points_inside_is_not_called() {
    for addresses in [
        &["127.0.0.1"] as &'static [&'static str],
        &["10.0.0.1"],
        &["169.254.169.254"],
        &["::1"],
        &["::ffff:192.168.0.1"],
        &["fe80::1"],
        &[PUBLIC, "172.16.0.1"],
        &["fd00::1", PUBLIC],
        &[],
    ] {
        check_untold(addresses, CALLBACK_HOST, true, 0);
    }
}

#[test]
fn who_does_not_show_that_he_is_docker_hub_is_told_nothing() {
    check_untold(&[PUBLIC], CALLBACK_HOST, false, 1);
    check_untold(&[PUBLIC], "hub.docker.com", true, 1);
    check_untold(&[PUBLIC], "evil.example", true, 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_hangs_is_given_up_after_five_seconds() {
    let began = tokio::time::Instant::now();
    let (callbacks, waiting) = mpsc::channel(8);
    for _ in 0..3 {
        callbacks
            .try_send(Callback::parse(&format!("https://{CALLBACK_HOST}/u/a/")).expect("Docker Hub's"))
            .expect("room");
    }
    drop(callbacks);
    let resolve = |_: &'static str| async { Ok(vec![PUBLIC.parse().expect("an address")]) }.boxed();
    let connect = |_: SocketAddr| std::future::pending::<io::Result<TcpStream>>().boxed();
    Caller::new(waiting, Outside::chosen(resolve, connect, RootCertStore::empty())).run().await;
    assert_eq!(began.elapsed().as_secs(), 15, "each in its turn");
}
