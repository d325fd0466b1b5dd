//! An authority of the test's own, and certificates of it for servers on loopback.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

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

fn parameters(common_name: &str, names: &[&str]) -> Result<CertificateParams> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut parameters = CertificateParams::new(names)?;
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    Ok(parameters)
}
