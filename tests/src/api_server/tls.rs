//! Certificates.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// Names that every certificate is good for.
const NAMES: [&str; 5] =
    ["localhost", "127.0.0.1", "::1", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];

/// An authority and a server with a certificate of it.
pub(crate) struct Authority {
    /// The authority's certificate.
    pub(crate) certificate: String,
    /// Speaks as the server.
    pub(crate) acceptor: TlsAcceptor,
}

impl Authority {
    /// A new one, unlike all others, whose server goes by these addresses and names too.
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
        let mut params = CertificateParams::new(all).context("a name is not fit for a certificate")?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let key = KeyPair::generate().context("cannot make a key")?;
        let server = params.signed_by(&key, &issuer).context("cannot make a certificate")?;

        let private = PrivatePkcs8KeyDer::from(key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![server.der().clone()], private.into())
            .context("the certificate is not fit for a server")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { certificate: certificate.pem(), acceptor: TlsAcceptor::from(Arc::new(config)) })
    }
}
