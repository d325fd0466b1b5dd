//! An authority of the test's own, and certificates of it for servers on loopback.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::run_folder::new_folder;
use super::{Context, Result};

/// An authority that nobody trusts unless told to.
pub(crate) struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// The PEM files that a server speaks TLS with.
pub(crate) struct Certificate {
    /// The certificate.
    pub(crate) certificate: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

impl Authority {
    /// Makes an authority, in a folder of its own.
    pub(crate) fn new() -> Result<Self> {
        let folder = new_folder("authority")?;
        let key = KeyPair::generate()?;
        let mut parameters = parameters("the test's own authority", &[])?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = parameters.self_signed(&key)?;
        let authority = Self { folder, issuer: Issuer::new(parameters, key) };
        fs::write(authority.file(), certificate.pem()).context("writing the authority's certificate")?;
        Ok(authority)
    }

    /// The PEM file of its certificate, for those who are to trust it.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    /// Its certificate as PEM, as `ca.crt` of a Secret holds it.
    pub(crate) fn pem(&self) -> Result<String> {
        fs::read_to_string(self.file()).context("reading the authority's certificate")
    }

    /// Signs a certificate for a server at 127.0.0.1 and `localhost`, whose files it puts into `folder`.
    pub(crate) fn certify(&self, folder: &Path) -> Result<Certificate> {
        let key = KeyPair::generate()?;
        let mut parameters = parameters("a server on loopback", &["127.0.0.1", "localhost"])?;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        let files = Certificate { certificate: folder.join("tls.crt"), key: folder.join("tls.key") };
        fs::write(&files.certificate, certificate.pem()).context("writing a server's certificate")?;
        fs::write(&files.key, key.serialize_pem()).context("writing a server's key")?;
        Ok(files)
    }
}

/// Listens on loopback and speaks TLS, with a certificate of an authority of the test's own; for `axum::serve`.
pub(crate) struct TlsListener {
    listener: TcpListener,
    address: SocketAddr,
    acceptor: TlsAcceptor,
}

impl TlsListener {
    /// Listens on a port of its own.
    pub(crate) async fn bind(authority: &Authority) -> Result<Self> {
        let files = authority.certify(&new_folder("listener")?)?;
        let certificate = CertificateDer::from_pem_file(files.certificate)?;
        let key = PrivateKeyDer::from_pem_file(files.key)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key)?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening on loopback")?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl axum::serve::Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            // Who does not trust the certificate breaks off; the next one may.
            if let Ok((stream, address)) = self.listener.accept().await
                && let Ok(stream) = self.acceptor.accept(stream).await
            {
                return (stream, address);
            }
        }
    }

    fn local_addr(&self) -> std::io::Result<Self::Addr> {
        Ok(self.address)
    }
}

fn parameters(common_name: &str, names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    Ok(parameters)
}
