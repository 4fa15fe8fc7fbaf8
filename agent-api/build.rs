//! Compiles the proto with protox, so that no protoc has to be installed.
use std::{error::Error, io, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let root =
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| io::Error::other("not under cargo"))?);
    let proto = root.join("proto/agent.proto");
    println!("cargo::rerun-if-changed={}", proto.display());
    let files = protox::compile([&proto], [root.join("proto")])?;
    // `-o json` of the commands prints messages as they are, with the names that protobuf's JSON gives fields.
    let json = "#[derive(serde::Serialize)] #[serde(rename_all = \"camelCase\")]";
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        .type_attribute(".", json)
        .compile_fds(files)?;
    Ok(())
}
