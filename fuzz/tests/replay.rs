//! Every input of the corpus, and every one that once broke a promise, through its target.
use std::{fs, path::Path};

#[track_caller]
fn check(name: &str) {
    let (_, run) = fuzz::TARGETS.into_iter().find(|(known, _)| *known == name).expect("a target");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs = 0;
    for directory in ["corpus", "crashes"] {
        for file in fs::read_dir(root.join(directory).join(name)).into_iter().flatten().flatten() {
            // The harness shows this only for a test that fails: the last line names the input.
            println!("{}", file.path().display());
            run(&fs::read(file.path()).expect("an input"));
            inputs += 1;
        }
    }
    assert!(inputs > 0, "{name} has no corpus");
}

#[test]
fn packets() {
    check("packet");
}

#[test]
fn configurations() {
    check("config");
}

#[test]
fn requests() {
    check("request");
}
