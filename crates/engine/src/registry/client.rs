//! The client for one registry: with the certificates of the system, and those that engines keep for its host.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::Client;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Where engines keep the certificates of registries, a folder for each host: Docker's place, and Podman's.
const FOLDERS: [&str; 2] = ["/etc/docker/certs.d", "/etc/containers/certs.d"];

/// A client for a host. The files are read anew each time, since they change under a running daemon, and pushes are few.
///
/// # Errors
/// A sentence that names the file that cannot be used.
pub fn of(host: &str, is_plain: bool) -> Result<Client, String> {
    let folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| Path::new(folder).join(host)).collect();
    let tls = tls(&folders)?;
    Client::builder()
        .tls_backend_preconfigured(tls)
        // Nor is a redirection followed into the clear.
        .https_only(!is_plain)
        .user_agent(concat!("deployer/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| error.to_string())
}

fn tls(folders: &[PathBuf]) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let mut own = None;
    for folder in folders {
        for file in files(folder) {
            match file.extension().and_then(|extension| extension.to_str()) {
                Some("crt") => drop(roots.add_parsable_certificates(certificates(&file)?)),
                Some("cert") => own = Some((certificates(&file)?, key(&file.with_extension("key"))?)),
                _ => {}
            }
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    match own {
        None => Ok(config.with_no_client_auth()),
        Some((chain, key)) => config.with_client_auth_cert(chain, key).map_err(|error| error.to_string()),
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    read.map_err(|error| format!("{}: {error}", file.display()))
}

fn key(file: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| format!("{}: {error}", file.display()))
}
