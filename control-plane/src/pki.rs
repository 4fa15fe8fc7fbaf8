//! The cluster's certificates: a CA made on first use, and what it signs.
//!
//! Everything lies under `<data-dir>/pki`, readable by its owner only. The serving certificate and the kubelet client
//! certificate are made anew at each start of the server, so that they follow the addresses and never run out.
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

mod command;
mod file;

pub use command::{Args, run};

/// The CN by which a node knows the API server.
pub const KUBELET_CLIENT: &str = "kube-apiserver-kubelet-client";

/// Why a certificate could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("cannot {operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A key or certificate could not be made or read.
    #[error("cannot make the certificate or key of {name}")]
    Certificate {
        /// The subject.
        name: String,
        /// The cause.
        #[source]
        source: rcgen::Error,
    },
    /// The certificate library writes at most two organizations.
    #[error("{given} groups were given, a client certificate holds at most two")]
    Groups {
        /// How many.
        given: usize,
    },
}

/// A certificate and its key, PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key, PKCS 8.
    pub key: String,
}

/// The cluster's certificate authority.
pub struct Authority {
    /// The CA's certificate, PEM.
    pub certificate: String,
    issuer: Issuer<'static, KeyPair>,
    /// The key that signs service-account tokens: P-256, PKCS 8, PEM.
    pub token_key: String,
    /// Its public half, PEM.
    pub token_public_key: String,
    /// The same as a point: 4, x, y.
    pub token_point: Vec<u8>,
}

impl Authority {
    /// Reads the CA and the token key under `data_dir`, or makes them. Two processes may do so at once.
    ///
    /// # Errors
    /// When a file cannot be read or written, or holds something else.
    pub fn open(data_dir: &Path) -> Result<Self, Error> {
        let directory = data_dir.join("pki");
        file::make_directory(&directory)?;
        let lock_path = directory.join(".lock");
        let lock = File::create(&lock_path).map_err(|source| file::failed("create", &lock_path, source))?;
        lock.lock().map_err(|source| file::failed("lock", &lock_path, source))?;
        let (certificate, key) = (directory.join("ca.crt"), directory.join("ca.key"));
        if !certificate.exists() {
            let pair = self_signed()?;
            file::write_secret(&key, &pair.key)?;
            file::write_secret(&certificate, &pair.certificate)?;
        }
        let token_path = directory.join("sa.key");
        if !token_path.exists() {
            let pair = KeyPair::generate().map_err(|source| refused("service-account tokens", source))?;
            file::write_secret(&token_path, &pair.serialize_pem())?;
        }
        let certificate = file::read(&certificate)?;
        let key = KeyPair::from_pem(&file::read(&key)?).map_err(|source| refused("the CA", source))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate, key).map_err(|source| refused("the CA", source))?;
        let token_key = file::read(&token_path)?;
        let token_pair = KeyPair::from_pem(&token_key).map_err(|source| refused("service-account tokens", source))?;
        Ok(Self {
            certificate,
            issuer,
            token_key,
            token_public_key: token_pair.public_key_pem(),
            token_point: token_pair.public_key_raw().to_vec(),
        })
    }

    /// A server's certificate for names and addresses.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn serving(&self, common_name: &str, names: &[String]) -> Result<Pair, Error> {
        let mut params = CertificateParams::new(names.to_vec()).map_err(|source| refused(common_name, source))?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        self.sign(common_name, params)
    }

    /// A client's certificate for a user and its groups.
    ///
    /// # Errors
    /// When there are more than two groups.
    pub fn client(&self, user: &str, groups: &[String]) -> Result<Pair, Error> {
        let mut params = CertificateParams::new(Vec::new()).map_err(|source| refused(user, source))?;
        let kinds = [DnType::OrganizationName, DnType::CustomDnType(vec![2, 5, 4, 10])];
        if groups.len() > kinds.len() {
            return Err(Error::Groups { given: groups.len() });
        }
        for (kind, group) in kinds.into_iter().zip(groups) {
            params.distinguished_name.push(kind, group.as_str());
        }
        params.distinguished_name.push(DnType::CommonName, user);
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        self.sign(user, params)
    }

    fn sign(&self, name: &str, mut params: CertificateParams) -> Result<Pair, Error> {
        params.use_authority_key_identifier_extension = true;
        params.key_usages.push(KeyUsagePurpose::DigitalSignature);
        validity(&mut params, 1);
        let key = KeyPair::generate().map_err(|source| refused(name, source))?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|source| refused(name, source))?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// The names that the API server's certificate always carries; addresses come on top.
pub fn server_names(service_ip: IpAddr, addresses: impl IntoIterator<Item = IpAddr>) -> Vec<String> {
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"];
    let mut names: Vec<String> =
        names.into_iter().chain(["localhost", "127.0.0.1", "::1"]).map(str::to_owned).collect();
    for address in std::iter::once(service_ip).chain(addresses).filter(|address| !address.is_unspecified()) {
        let name = address.to_string();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn self_signed() -> Result<Pair, Error> {
    let refused = |source| refused("the CA", source);
    let mut params = CertificateParams::new(Vec::new()).map_err(refused)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "weft-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    validity(&mut params, 10);
    let key = KeyPair::generate().map_err(refused)?;
    let certificate = params.self_signed(&key).map_err(refused)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// From yesterday, since clocks differ, for `years`.
fn validity(params: &mut CertificateParams, years: i16) {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let start = today.yesterday().unwrap_or(today);
    // The 28th exists in every month of every year.
    let date = |year: i16| {
        let day = start.day().min(28).unsigned_abs();
        rcgen::date_time_ymd(i32::from(year), start.month().unsigned_abs(), day)
    };
    params.not_before = date(start.year());
    params.not_after = date(start.year() + years);
}

fn refused(name: &str, source: rcgen::Error) -> Error {
    Error::Certificate { name: name.to_owned(), source }
}

/// Makes the directory of the data, owner only.
///
/// # Errors
/// When it cannot be made.
pub fn make_data_dir(path: &Path) -> Result<(), Error> {
    file::make_directory(path)
}

#[cfg(test)]
mod tests {
    use super::{Authority, server_names};

    #[test]
    fn a_second_opening_finds_the_same_authority() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let first = Authority::open(directory.path()).expect("a new authority");
        let second = Authority::open(directory.path()).expect("the same authority");
        assert_eq!(first.certificate, second.certificate);
        assert_eq!(first.token_public_key, second.token_public_key);
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(directory.path().join("pki/ca.key")).expect("the key's file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn names_are_unique_and_specified() {
        let names = server_names(
            "10.96.0.1".parse().expect("an address"),
            [
                "127.0.0.1".parse().expect("an address"),
                "0.0.0.0".parse().expect("an address"),
                "::".parse().expect("an address"),
                "172.31.0.11".parse().expect("an address"),
                "fd00:172:31::11".parse().expect("an address"),
            ],
        );
        assert_eq!(names.iter().filter(|name| *name == "127.0.0.1").count(), 1);
        assert_eq!(&names[names.len() - 3..], ["10.96.0.1", "172.31.0.11", "fd00:172:31::11"]);
    }
}
