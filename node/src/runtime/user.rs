//! Who a container runs as: the image's `USER` and the security context → numbers.

use std::fs;
use std::path::Path;

use super::Security;

/// Ids of the container's first process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// A user or group named by the image that its /etc/passwd or /etc/group does not have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unable to find {kind} {name}: no matching entries in {file} file")]
pub struct UnknownName {
    kind: &'static str,
    name: String,
    file: &'static str,
}

/// Resolves the image's user (`user[:group]`, names or numbers) under the security context's overrides.
pub(super) fn resolve(rootfs: &Path, image_user: &str, security: &Security) -> Result<User, UnknownName> {
    let passwd = read_inside(rootfs, "etc/passwd");
    let group = read_inside(rootfs, "etc/group");
    resolve_in(&passwd, &group, image_user, security)
}

/// Reads a small file of the image without following links, which could leave it.
fn read_inside(rootfs: &Path, relative: &str) -> String {
    let path = rootfs.join(relative);
    let plain = |path: &Path| fs::symlink_metadata(path).is_ok_and(|metadata| !metadata.is_symlink());
    if plain(&rootfs.join("etc")) && plain(&path) {
        fs::read_to_string(path).unwrap_or_default()
    } else {
        String::new()
    }
}

fn resolve_in(passwd: &str, group: &str, image_user: &str, security: &Security) -> Result<User, UnknownName> {
    let (name, group_name) = image_user.split_once(':').map_or((image_user, None), |(user, group)| (user, Some(group)));
    let name = security.run_as_user.map_or_else(|| name.to_owned(), |uid| uid.to_string());
    let entry = find(passwd, &name, 2);
    let uid = match (&entry, name.parse::<u32>()) {
        (Some(fields), _) => number(fields, 2),
        (None, Ok(uid)) => uid,
        (None, Err(_)) if name.is_empty() => 0,
        (None, Err(_)) => return Err(UnknownName { kind: "user", name, file: "passwd" }),
    };
    let of_passwd = entry.as_ref().map_or(0, |fields| number(fields, 3));
    let gid = match (security.run_as_group, group_name.filter(|_| security.run_as_user.is_none())) {
        (Some(gid), _) => gid,
        (None, Some(group_name)) => match (find(group, group_name, 2), group_name.parse()) {
            (Some(fields), _) => number(&fields, 2),
            (None, Ok(gid)) => gid,
            (None, Err(_)) => return Err(UnknownName { kind: "group", name: group_name.to_owned(), file: "group" }),
        },
        (None, None) => of_passwd,
    };
    let mut groups = security.supplemental_groups.clone();
    // The primary group too: without it, a file of that group could be denied to a process that has left it (CVE-2022-36109).
    groups.push(gid);
    groups.extend(entry.as_ref().map(|fields| groups_of(group, fields[0])).unwrap_or_default());
    groups.sort_unstable();
    groups.dedup();
    let home = entry.and_then(|fields| fields.get(5).filter(|home| !home.is_empty()).map(ToString::to_string));
    Ok(User { uid, gid, groups, home: home.unwrap_or_else(|| if uid == 0 { "/root" } else { "/" }.to_owned()) })
}

/// The line whose name, or whose number in column `id`, is `wanted`; an empty name is user 0.
fn find<'a>(file: &'a str, wanted: &str, id: usize) -> Option<Vec<&'a str>> {
    let wanted = if wanted.is_empty() { "0" } else { wanted };
    let lines = || file.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|fields| fields.len() > id);
    lines().find(|fields| fields[0] == wanted).or_else(|| lines().find(|fields| fields[id] == wanted))
}

fn number(fields: &[&str], at: usize) -> u32 {
    fields.get(at).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn groups_of(group: &str, user: &str) -> Vec<u32> {
    let lines = group.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines
        .filter(|fields| fields.get(3).is_some_and(|members| members.split(',').any(|one| one == user)))
        .map(|fields| number(&fields, 2))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:101:102::/srv/web:/bin/false\n";
    const GROUP: &str = "root:x:0:\nweb:x:102:\nlogs:x:200:root,web\n";

    #[track_caller]
    fn check(image_user: &str, security: &Security, expected: Option<(u32, u32, &[u32], &str)>) {
        let found = resolve_in(PASSWD, GROUP, image_user, security).ok();
        let expected =
            expected.map(|(uid, gid, groups, home)| User { uid, gid, groups: groups.to_vec(), home: home.to_owned() });
        assert_eq!(found, expected);
    }

    #[test]
    fn users() {
        check("", &Security::default(), Some((0, 0, &[0, 200], "/root")));
        check("web", &Security::default(), Some((101, 102, &[102, 200], "/srv/web")));
        check("101", &Security::default(), Some((101, 102, &[102, 200], "/srv/web")));
        check("web:logs", &Security::default(), Some((101, 200, &[200], "/srv/web")));
        check("1234:55", &Security::default(), Some((1234, 55, &[55], "/")));
        check("nobody", &Security::default(), None);
        check("web:none", &Security::default(), None);
        check(
            "web",
            &Security { run_as_user: Some(7), run_as_group: Some(8), ..Security::default() },
            Some((7, 8, &[8], "/")),
        );
        check(
            "web:logs",
            &Security { run_as_user: Some(101), supplemental_groups: vec![9], ..Security::default() },
            Some((101, 102, &[9, 102, 200], "/srv/web")),
        );
    }
}
