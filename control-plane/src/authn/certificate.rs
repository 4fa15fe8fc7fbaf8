//! The user that a verified client certificate names: CN is the user, each O a group.
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{AUTHENTICATED, User};

/// The user of a DER certificate whose chain TLS has verified; `None` without a CN.
pub fn user_of(der: &[u8]) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let mut groups: Vec<String> =
        subject.iter_organization().filter_map(|group| Some(group.as_str().ok()?.to_owned())).collect();
    groups.push(AUTHENTICATED.to_owned());
    Some(User { name, groups, ..User::default() })
}

#[cfg(test)]
mod tests {
    use super::user_of;
    use crate::pki::Authority;

    #[test]
    fn groups_are_organizations() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let authority = Authority::open(directory.path()).expect("a new authority");
        let groups = ["system:nodes".to_owned(), "more".to_owned()];
        let pair = authority.client("system:node:a", &groups).expect("a certificate");
        let (_, pem) = x509_parser::pem::parse_x509_pem(pair.certificate.as_bytes()).expect("PEM");
        let user = user_of(&pem.contents).expect("a user");
        assert_eq!(user.name, "system:node:a");
        assert_eq!(user.groups, ["system:nodes", "more", "system:authenticated"]);
    }
}
