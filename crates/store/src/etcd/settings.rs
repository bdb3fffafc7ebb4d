//! Where etcd is and as whom it is spoken to.

use std::fmt;

/// The settings of the store, as the configuration has parsed them.
#[derive(Clone, Debug)]
pub struct EtcdSettings {
    /// URLs of the members, at least one: all `http` or all `https`.
    pub endpoints: Vec<String>,
    /// Certificates, where the endpoints are `https`.
    pub tls: Option<Tls>,
    /// The user, where etcd asks for one.
    pub user: Option<User>,
}

impl EtcdSettings {
    /// What may be wrong with them if a member hangs up before it has said anything.
    pub(super) fn hint(&self) -> Option<&'static str> {
        match &self.tls {
            None => Some("if it serves TLS, write https://"),
            Some(Tls { identity: None, .. }) => Some("if it asks for a certificate, set cert_file and key_file"),
            Some(_) => None,
        }
    }
}

/// Certificates and the key, in PEM.
#[derive(Clone)]
pub struct Tls {
    /// Who signs the members' certificates.
    pub ca: String,
    /// This node's certificate and its key, where etcd asks for one.
    pub identity: Option<(String, String)>,
}

/// A user of etcd.
#[derive(Clone, Debug)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Password,
}

/// A password, which is never printed.
#[derive(Clone)]
pub struct Password(pub String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identity = self.identity.as_ref().map(|_| "***");
        f.debug_struct("Tls").field("ca", &"…").field("identity", &identity).finish()
    }
}
