//! Without the privileges, every command that touches a local cluster says so in one line and does nothing.
use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use tests::{built::program, cluster::traces};

/// Runs each command under `setpriv` with these flags and expects one line with `expected`.
#[track_caller]
fn check(setpriv: &[&str], expected: &str) {
    // A clone may lie where only root can look.
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("our own directory");
    let weft = directory.path().join("weft");
    fs::copy(program("weft"), &weft).expect("the program is copied");
    for line in ["up", "down", "check", "image load none.tar"] {
        let mut command = Command::new("setpriv");
        command.args(setpriv).arg(&weft).args(line.split(' ')).args(["--name", "refused"]);
        let output = command.output().expect("setpriv starts");
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "weft {line} went on");
        assert_eq!(errors.lines().count(), 1, "weft {line}: {errors}");
        assert!(errors.contains(expected), "weft {line}: {errors}");
    }
    assert_eq!(traces("refused"), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_machine_without_the_privileges() {
    check(&["--reuid", "65534", "--regid", "65534", "--clear-groups"], "run it as root");
    check(&["--bounding-set=-bpf", "--inh-caps=-bpf"], "root lacks the capability CAP_BPF");
    check(&["--bounding-set=-net_admin", "--inh-caps=-net_admin"], "root lacks the capability CAP_NET_ADMIN");
}
