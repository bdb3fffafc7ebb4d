//! The way out: names to addresses, addresses to connections, and whose certificates are believed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use deployer_wire::Connection;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

type Resolve = Box<dyn Fn(&'static str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;
type Connect = Box<dyn Fn(SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync>;

/// How the network is reached.
pub struct Outside {
    resolve: Resolve,
    connect: Connect,
    tls: TlsConnector,
}

impl Outside {
    /// As this machine does it, with the root certificates that it trusts: the engine beside us pulls from Docker Hub with
    /// the same ones, and they are kept up to date with the machine.
    pub fn system() -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(error = %error, "a root certificate cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            tracing::warn!("this machine has no root certificates (ca-certificates): nobody can be called back");
        }
        let resolve = |name: &'static str| {
            let found = async move { Ok(tokio::net::lookup_host((name, 0)).await?.map(|found| found.ip()).collect()) };
            found.boxed()
        };
        Self::chosen(resolve, |address| TcpStream::connect(address).boxed(), roots)
    }

    /// As somebody chose: for tests, in which a server of their own plays the part of a host.
    pub fn chosen(
        resolve: impl Fn(&'static str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync + 'static,
        connect: impl Fn(SocketAddr) -> BoxFuture<'static, io::Result<TcpStream>> + Send + Sync + 'static,
        roots: RootCertStore,
    ) -> Self {
        let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { resolve: Box::new(resolve), connect: Box::new(connect), tls: TlsConnector::from(Arc::new(config)) }
    }

    /// The addresses of a name.
    pub(super) async fn resolve(&self, name: &'static str) -> io::Result<Vec<IpAddr>> {
        (self.resolve)(name).await
    }

    /// A connection to an address.
    pub(super) async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        (self.connect)(address).await
    }

    /// The connection, encrypted, once the other side has shown that it is `name`.
    pub(super) async fn encrypt(&self, name: &'static str, stream: TcpStream) -> io::Result<Box<dyn Connection>> {
        let name = ServerName::try_from(name).map_err(io::Error::other)?;
        Ok(Box::new(self.tls.connect(name, stream).await?))
    }
}
