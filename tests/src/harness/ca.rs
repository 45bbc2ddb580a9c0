//! A certificate authority for one test run.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::{host, watchdog};

/// A certificate and its key, both PEM.
#[derive(Debug, Clone)]
pub struct CertFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Issues certificates that nobody outside the test trusts.
#[derive(Debug)]
pub struct Ca {
    dir: PathBuf,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Ca {
    /// A new authority with a new key.
    pub fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "Hearth test authority");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let dir = watchdog::folder("ca");
        std::fs::write(dir.join("ca.pem"), issuer.pem()).context("write the authority")?;
        Ok(Self { dir, issuer })
    }

    /// The authority's certificate, PEM: what clients trust.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// The folder of every file issued.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A certificate for a server or client of this name, valid for 127.0.0.1, localhost and [`host`].
    pub fn issue(&self, name: &str) -> anyhow::Result<CertFiles> {
        self.issue_until(name, None)
    }

    /// The same, until the beginning of a day (year, month, day) in UTC.
    pub fn issue_until(&self, name: &str, end: Option<(i32, u8, u8)>) -> anyhow::Result<CertFiles> {
        let names = BTreeSet::from(["localhost".to_owned(), "127.0.0.1".to_owned(), host()]);
        let mut params = CertificateParams::new(names.into_iter().collect::<Vec<String>>())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.use_authority_key_identifier_extension = true;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        if let Some((year, month, day)) = end {
            params.not_after = rcgen::date_time_ymd(year, month, day);
        }
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        let files = CertFiles {
            cert: self.dir.join(format!("{name}.pem")),
            key: self.dir.join(format!("{name}.key")),
        };
        std::fs::write(&files.cert, cert.pem()).context("write a certificate")?;
        std::fs::write(&files.key, key.serialize_pem()).context("write a key")?;
        Ok(files)
    }
}
