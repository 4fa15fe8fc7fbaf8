//! The store with archives made here, in both formats.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Error, Store, load_tar};

fn sha(bytes: &[u8]) -> String {
    format!("{:x}", Sha256::digest(bytes))
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        tar.append_data(&mut header, name, *content).expect("tar in memory");
    }
    tar.into_inner().expect("tar in memory")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(bytes).expect("in memory");
    gz.finish().expect("in memory")
}

fn config_of(diff_ids: &[String]) -> Vec<u8> {
    serde_json::json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "config": {"Entrypoint": ["/app"], "Env": ["A=b"], "StopSignal": "SIGINT"}})
    .to_string()
    .into_bytes()
}

/// A docker archive of one image with the given uncompressed layers.
fn docker_archive(dir: &Path, tag: &str, layers: &[Vec<u8>]) -> PathBuf {
    let diff_ids: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", sha(layer))).collect();
    let config = config_of(&diff_ids);
    let names: Vec<String> = (0..layers.len()).map(|at| format!("{at}/layer.tar")).collect();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]).to_string();
    let mut files: Vec<(&str, &[u8])> = vec![("manifest.json", manifest.as_bytes()), ("config.json", &config)];
    files.extend(names.iter().zip(layers).map(|(name, layer)| (name.as_str(), layer.as_slice())));
    let path = dir.join("image.tar");
    fs::write(&path, tar_of(&files)).expect("archive");
    path
}

#[test]
fn a_docker_archive_with_whiteouts() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = dir.path().join("store");
    let lower = tar_of(&[("etc/old", b"1"), ("app", b"binary")]);
    let upper = tar_of(&[("etc/.wh.old", b""), ("etc/new", b"2")]);
    let archive = docker_archive(dir.path(), "guestbook:1.0", &[lower, upper]);
    assert_eq!(load_tar(&store, &archive).expect("load"), ["docker.io/library/guestbook:1.0"]);

    let store = Store::open(&store).expect("open");
    let image = store.image("guestbook:1.0").expect("index").expect("loaded");
    let config = store.config(&image).expect("config");
    assert_eq!((config.entrypoint, config.stop_signal.as_str()), (Some(vec!["/app".to_owned()]), "SIGINT"));
    let dirs = store.layer_dirs(&image).expect("unpacked");
    assert_eq!(fs::read(dirs[0].join("app")).expect("file"), b"binary");
    assert_eq!(fs::read(dirs[1].join("etc/new")).expect("file"), b"2");
    let mark = fs::symlink_metadata(dirs[1].join("etc/old")).expect("whiteout");
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(&mark.file_type()));
    assert!(store.image("other:1").expect("index").is_none());
    assert_eq!(store.image(&image.id).expect("index"), Some(image));
}

#[test]
fn an_oci_layout_in_a_gzip_tar_and_in_a_directory() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let layer = tar_of(&[("app", b"oci")]);
    let packed = gzip(&layer);
    let config = config_of(&[format!("sha256:{}", sha(&layer))]);
    let manifest = serde_json::json!({"config": {"digest": format!("sha256:{}", sha(&config))},
        "layers": [{"digest": format!("sha256:{}", sha(&packed))}]})
    .to_string();
    let index = serde_json::json!({"manifests": [{"digest": format!("sha256:{}", sha(manifest.as_bytes())),
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "annotations": {"org.opencontainers.image.ref.name": "probe:1"}}]})
    .to_string();
    let blobs: Vec<(String, &[u8])> = [config.as_slice(), manifest.as_bytes(), &packed]
        .into_iter()
        .map(|blob| (format!("blobs/sha256/{}", sha(blob)), blob))
        .collect();
    let mut files: Vec<(&str, &[u8])> = vec![("index.json", index.as_bytes())];
    files.extend(blobs.iter().map(|(name, blob)| (name.as_str(), *blob)));

    let archive = dir.path().join("oci.tar.gz");
    fs::write(&archive, gzip(&tar_of(&files))).expect("archive");
    let layout = dir.path().join("layout");
    tar::Archive::new(tar_of(&files).as_slice()).unpack(&layout).expect("layout");
    for (name, source) in [("a", &archive), ("b", &layout)] {
        let store = Store::open(&dir.path().join(name)).expect("open");
        assert_eq!(store.load(source).expect("load"), ["docker.io/library/probe:1"]);
        let image = store.image("probe:1").expect("index").expect("loaded");
        assert_eq!(fs::read(store.layer_dirs(&image).expect("layers")[0].join("app")).expect("file"), b"oci");
    }
}

#[test]
fn a_reference_that_goes_takes_only_its_own_blobs() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(&dir.path().join("store")).expect("open");
    let shared = tar_of(&[("base", b"base")]);
    store.load(&docker_archive(dir.path(), "one:1", &[shared.clone(), tar_of(&[("one", b"1")])])).expect("load");
    store.load(&docker_archive(dir.path(), "two:1", &[shared, tar_of(&[("two", b"2")])])).expect("load");
    store.remove("one:1").expect("remove");
    assert!(store.image("one:1").expect("index").is_none());
    let two = store.image("two:1").expect("index").expect("stays");
    assert!(store.layer_dirs(&two).expect("layers").iter().all(|layer| layer.exists()));
    assert_eq!(fs::read_dir(dir.path().join("store/blobs/sha256")).expect("blobs").count(), 3);
}

#[track_caller]
fn check_refused(files: &[(&str, &[u8])], expected: &str) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let archive = dir.path().join("x.tar");
    fs::write(&archive, tar_of(files)).expect("archive");
    let error: Error = load_tar(&dir.path().join("store"), &archive).expect_err("refused");
    assert!(error.to_string().contains(expected), "{error}");
}

#[test]
fn bad_archives_are_refused_with_a_reason() {
    check_refused(&[("readme", b"hello")], "neither an OCI image layout nor a docker archive");
    check_refused(&[("index.json", br#"{"manifests": []}"#)], "names no image reference");
    check_refused(&[("manifest.json", b"[")], "parse");
    let config = config_of(&[format!("sha256:{}", "0".repeat(64))]);
    let manifest = br#"[{"Config": "c", "RepoTags": ["a:1"], "Layers": ["l"]}]"#;
    check_refused(&[("manifest.json", manifest), ("c", &config), ("l", &tar_of(&[("f", b"x")]))], "its image says");
}
