//! Certificates.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};

/// Names that every server's certificate is good for.
const NAMES: [&str; 5] =
    ["localhost", "127.0.0.1", "::1", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// An authority, of servers that go by the same names and of their clients.
pub(crate) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
    /// Of its servers.
    names: Vec<String>,
}

/// What a client proves with who it is.
pub(crate) struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    /// The certificate and its key, as PEM.
    pub(crate) pem: (String, String),
}

impl Authority {
    /// A new one, unlike all others, whose servers go by these addresses and names too.
    pub(crate) fn new(addresses: &[IpAddr], names: &[String]) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.self_signed(&key).context("cannot make an authority")?;
        let issuer = Issuer::new(params, key);
        let mut all: Vec<String> = NAMES.map(str::to_owned).into();
        all.extend(addresses.iter().map(ToString::to_string));
        all.extend_from_slice(names);
        Ok(Self { certificate, issuer, names: all })
    }

    /// Another one, for servers of the same names.
    pub(crate) fn another(&self) -> Result<Self> {
        Self::new(&[], &self.names)
    }

    /// Its own certificate, as PEM.
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Speaks as a server with a new certificate. Clients may show one of this authority, or none.
    pub(crate) fn server(&self) -> Result<TlsAcceptor> {
        let (certificate, key) = self.issue("kube-apiserver", self.names.clone())?;
        let provider = Arc::new(ring::default_provider());
        let mut clients = RootCertStore::empty();
        clients.add(self.certificate.der().clone())?;
        let clients = WebPkiClientVerifier::builder_with_provider(clients.into(), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(clients)
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .context("the certificate is not fit for a server")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(config)))
    }

    /// A new certificate for a client.
    pub(crate) fn client(&self) -> Result<Identity> {
        let (certificate, key) = self.issue("system:kube-proxy", Vec::new())?;
        let pem = (certificate.pem(), key.serialize_pem());
        Ok(Identity { certificate: certificate.der().clone(), pem })
    }

    fn issue(&self, common_name: &str, names: Vec<String>) -> Result<(Certificate, KeyPair)> {
        let mut params = CertificateParams::new(names).context("a name is not fit for a certificate")?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        let key = KeyPair::generate().context("cannot make a key")?;
        let certificate = params.signed_by(&key, &self.issuer).context("cannot make a certificate")?;
        Ok((certificate, key))
    }
}
