//! PEM texts, looked into once so that what is wrong with them is said at the start and not by every connection.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Whether the certificates can vouch for others.
pub fn check_authority(pem: &str) -> Result<(), &'static str> {
    let mut roots = RootCertStore::empty();
    let (usable, unusable) = roots.add_parsable_certificates(certificates(pem)?);
    if usable > 0 && unusable == 0 { Ok(()) } else { Err("holds a certificate that makes no sense") }
}

/// The certificates of a PEM text, at least one.
fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, &'static str> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    found.ok().filter(|found| !found.is_empty()).ok_or("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
}

/// What is wrong with a certificate and its key, and with which of them.
pub enum Unusable {
    /// The certificate.
    Certificate(&'static str),
    /// The key.
    Key(String),
}

/// Whether a certificate and its key belong together.
pub fn check_identity(certificate: &str, key: &str) -> Result<(), Unusable> {
    let chain = certificates(certificate).map_err(Unusable::Certificate)?;
    let no_key = |_| Unusable::Key("holds no key in PEM without a passphrase (-----BEGIN PRIVATE KEY-----)".to_owned());
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(no_key)?;
    let not_its_key = |error| Unusable::Key(format!("is not the key of cert_file: {error}"));
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(not_its_key)?;
    builder.with_root_certificates(RootCertStore::empty()).with_client_auth_cert(chain, key).map_err(not_its_key)?;
    Ok(())
}
