//! Finds the BPF object that the agent carries inside itself, and says what to do when there is none.
use std::{env, path::PathBuf};

fn main() {
    println!("cargo::rerun-if-env-changed=WEFT_BPF_OBJECT");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let built = root.join("../target/bpf/weft.bpf.o");
    let object = env::var_os("WEFT_BPF_OBJECT").map_or(built, PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(path) => println!("cargo::rustc-env=WEFT_BPF_OBJECT={}", path.display()),
        Err(_) => println!(
            "cargo::error=the BPF object is missing ({}): run `cargo xtask build` (or `cargo xtask setup` first)",
            object.display()
        ),
    }
}
