//! TLS on both sides: what clients meet, and how this server meets the nodes. ring only.
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::pki::{Authority, Pair};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A certificate or key is no PEM.
    #[error("a certificate or key cannot be read")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// rustls refuses them.
    #[error("the certificates are refused")]
    Rustls(#[from] rustls::Error),
    /// The CA cannot verify clients.
    #[error("the CA cannot verify clients")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// For clients: with a certificate of the CA, or none.
pub(super) fn acceptor(authority: &Authority, serving: &Pair) -> Result<TlsAcceptor, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authority)?), Arc::clone(&provider))
        .allow_unauthenticated()
        .build()?;
    let (chain, key) = read(serving)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// For nodes: they must have a certificate of the CA, and we show ours.
pub(super) fn client(authority: &Authority, pair: &Pair) -> Result<Arc<ClientConfig>, Error> {
    let (chain, key) = read(pair)?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(authority)?)
        .with_client_auth_cert(chain, key)?;
    Ok(Arc::new(config))
}

fn roots(authority: &Authority) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.certificate.as_bytes())?)?;
    Ok(roots)
}

fn read(pair: &Pair) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
    let certificate = CertificateDer::from_pem_slice(pair.certificate.as_bytes())?;
    Ok((vec![certificate], PrivateKeyDer::from_pem_slice(pair.key.as_bytes())?))
}
