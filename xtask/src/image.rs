//! Images without a registry or docker: one static program each, as a tarball with an OCI layout in it. `busybox` is
//! Debian's, with its applets as links: for pods that need a shell.
//!
//! Reproducible: the same program gives the same bytes. Format: OCI image layout and image specifications 1.0.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{clock::Clock, debian, places::Places, shell};

/// A program and the user that it runs as.
struct Image {
    name: &'static str,
    tag: &'static str,
    user: &'static str,
    run: Run,
}

/// What a container of the image executes.
enum Run {
    /// This, with the pod's `args` behind it.
    Entrypoint(&'static str),
    /// This, unless the pod has `args`, which are then a command of their own.
    Command(&'static str),
}

/// What lies in an image's only layer.
enum Entry {
    Program(String, Vec<u8>),
    Link { at: String, to: String },
}

const BUSYBOX: Image = Image { name: "busybox", tag: "1.0", user: "0", run: Run::Command("sh") };

/// What `deploy/` runs on the nodes of any cluster: the agent, and the plugin that it installs.
const WEFT: Image = Image { name: "weft", tag: "1.0", user: "0", run: Run::Entrypoint("/weft") };

/// `probe` opens raw sockets to ping, so it keeps root and root's capabilities.
const IMAGES: [Image; 2] = [
    Image { name: "guestbook", tag: "1.0", user: "65532", run: Run::Entrypoint("/guestbook") },
    Image { name: "probe", tag: "1.0", user: "0", run: Run::Entrypoint("/probe") },
];

pub(crate) fn run(places: &Places, clock: &mut Clock) -> anyhow::Result<()> {
    clock.step("packing images", |_| {
        fs::create_dir_all(places.images()).with_context(|| format!("making {}", places.images().display()))?;
        IMAGES.iter().try_for_each(|image| {
            let program = places.programs().join(image.name);
            let bytes =
                fs::read(&program).with_context(|| format!("reading {}: run cargo xtask build", program.display()))?;
            let layer = [Entry::Program(image.name.to_owned(), bytes)];
            write_if_changed(&path(places, image), &pack(image, &layer)?)
        })
    })?;
    clock.step("packing weft", |_| {
        let layer =
            ["weft", "weft-cni"].map(|name| stripped(places, name)).into_iter().collect::<Result<Vec<_>, _>>()?;
        write_if_changed(&path(places, &WEFT), &pack(&WEFT, &layer)?)
    })?;
    let program = debian::unpacked(places, clock, "busybox-static")?.join("bin/busybox");
    clock.step("packing busybox", |_| {
        let layer = busybox(&program)?;
        write_if_changed(&path(places, &BUSYBOX), &pack(&BUSYBOX, &layer)?)
    })
}

/// One of our programs without its debug information, which is three quarters of it.
fn stripped(places: &Places, name: &str) -> anyhow::Result<Entry> {
    let (program, small) = (places.programs().join(name), places.images().join(format!("{name}.stripped")));
    shell::answer(Path::new("strip"), &["-o", &small.display().to_string(), &program.display().to_string()])
        .with_context(|| format!("stripping {}", program.display()))?;
    let bytes = fs::read(&small).with_context(|| format!("reading {}", small.display()))?;
    fs::remove_file(&small).with_context(|| format!("removing {}", small.display()))?;
    Ok(Entry::Program(name.to_owned(), bytes))
}

/// The program and a link for each of its applets.
fn busybox(program: &Path) -> anyhow::Result<Vec<Entry>> {
    let bytes = fs::read(program).with_context(|| format!("reading {}", program.display()))?;
    let applets = shell::answer(program, &["--list"]).context("busybox lists no applets")?;
    let links = applets.lines().filter(|applet| *applet != "busybox");
    let links = links.map(|applet| Entry::Link { at: format!("bin/{applet}"), to: "/bin/busybox".to_owned() });
    Ok(std::iter::once(Entry::Program("bin/busybox".to_owned(), bytes)).chain(links).collect())
}

/// The tarballs, for `weft up --image`.
pub(crate) fn paths(places: &Places) -> Vec<std::path::PathBuf> {
    IMAGES.iter().chain([&BUSYBOX]).map(|image| path(places, image)).collect()
}

fn path(places: &Places, image: &Image) -> std::path::PathBuf {
    places.images().join(format!("{}-{}.tar", image.name, image.tag))
}

fn write_if_changed(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("writing {}", path.display()))
}

fn pack(image: &Image, layer: &[Entry]) -> anyhow::Result<Vec<u8>> {
    let layer = layer_archive(layer)?;
    let config = config(image, &digest(&layer)).to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
    entry["annotations"] = json!({
        "io.containerd.image.name": format!("docker.io/library/{}:{}", image.name, image.tag),
        "org.opencontainers.image.ref.name": image.tag,
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", digest(bytes));
    archive(&[
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#, 0o644),
        ("index.json", index.to_string().as_bytes(), 0o644),
        (&blob(&manifest), &manifest, 0o644),
        (&blob(&config), &config, 0o644),
        (&blob(&layer), &layer, 0o644),
    ])
}

fn config(image: &Image, layer_digest: &str) -> Value {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let (key, program) = match image.run {
        Run::Entrypoint(program) => ("Entrypoint", program),
        Run::Command(program) => ("Cmd", program),
    };
    json!({
        "architecture": architecture,
        "os": "linux",
        "config": { key: [program], "User": image.user, "WorkingDir": "/", "Env": ["PATH=/:/bin"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{layer_digest}")] },
        "history": [{ "created_by": "cargo xtask image" }],
    })
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": format!("sha256:{}", digest(bytes)), "size": bytes.len() })
}

fn digest(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn layer_archive(entries: &[Entry]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for entry in entries {
        match entry {
            Entry::Program(at, bytes) => append(&mut archive, at, bytes, 0o755)?,
            Entry::Link { at, to } => {
                let mut header = header(0, 0o777);
                header.set_entry_type(tar::EntryType::Symlink);
                archive.append_link(&mut header, at, to).with_context(|| format!("packing {at}"))?;
            }
        }
    }
    archive.into_inner().context("packing")
}

/// A tar of files that belong to root and were made in 1970.
fn archive(files: &[(&str, &[u8], u32)]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes, mode) in files {
        append(&mut archive, name, bytes, *mode)?;
    }
    archive.into_inner().context("packing")
}

fn append(archive: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8], mode: u32) -> anyhow::Result<()> {
    let mut header = header(bytes.len() as u64, mode);
    archive.append_data(&mut header, name, bytes).with_context(|| format!("packing {name}"))
}

fn header(size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_blob_is_where_its_digest_says() {
        let layer = [Entry::Program("guestbook".to_owned(), b"program".to_vec())];
        let pack = || pack(&IMAGES[0], &layer).expect("packs");
        let bytes = pack();
        assert_eq!(bytes, pack(), "the same bytes twice");
        let mut names = Vec::new();
        for entry in tar::Archive::new(bytes.as_slice()).entries().expect("a tar") {
            let mut entry = entry.expect("an entry");
            let name = entry.path().expect("a name").to_string_lossy().into_owned();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).expect("content");
            if let Some(named) = name.strip_prefix("blobs/sha256/") {
                assert_eq!(named, digest(&content));
            }
            names.push(name);
        }
        assert_eq!(&names[..2], ["oci-layout", "index.json"]);
        assert_eq!(names.len(), 5);
    }
}
