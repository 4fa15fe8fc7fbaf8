//! Real kubectl against the server, where the machine has one; where it has none, this says so loudly.
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::client::Cluster;

fn kubeconfig(cluster: &Cluster) -> PathBuf {
    use clap::Parser;
    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        pki: control_plane::pki::Args,
    }
    let out = cluster.directory().join("kubeconfig");
    let server = format!("https://{}", cluster.address());
    let arguments =
        ["pki", "kubeconfig", "--user", "kubernetes-admin", "--group", "system:masters", "--server", &server];
    let paths = ["--data-dir".as_ref(), cluster.directory().as_os_str(), "--out".as_ref(), out.as_os_str()];
    let cli =
        Cli::parse_from(arguments.iter().map(std::ffi::OsString::from).chain(paths.map(std::ffi::OsString::from)));
    control_plane::pki::run(cli.pki).expect("a kubeconfig");
    out
}

/// The versions that lie beside the one on the PATH, or that one alone; none where there is no kubectl.
fn programs() -> Vec<PathBuf> {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&places).map(|place| place.join("kubectl")).find(|program| program.exists());
    let Some(program) = found.and_then(|program| program.canonicalize().ok()) else { return Vec::new() };
    let beside = program.parent().and_then(|place| place.read_dir().ok());
    let versions = beside.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl.1."));
    let mut versions: Vec<PathBuf> = versions.filter(named).collect();
    versions.sort_unstable();
    if versions.is_empty() { vec![program] } else { versions }
}

fn kubectl(program: &Path, config: &Path, arguments: &str, input: Option<&str>) -> String {
    use std::io::Write;
    let mut command = Command::new(program);
    command.arg("--kubeconfig").arg(config).args(arguments.split_whitespace());
    command.env("KUBECTL_KUBERC", "false").env("HOME", config.parent().expect("it is in a directory"));
    command
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("kubectl starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.unwrap_or_default().as_bytes()).expect("kubectl reads");
    drop(stdin);
    let output = child.wait_with_output().expect("kubectl ends");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

const MANIFEST: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, labels: {a: b}}
data: {color: red}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
";

/// Command, whether the manifest goes in, and what the output must contain.
const STEPS: &[(&str, bool, &str)] = &[
    ("version", false, "v1.36.2+weft"),
    ("get namespaces", false, "kube-system"),
    ("apply -f -", true, "configmap/settings created"),
    ("apply -f -", true, "configmap/settings unchanged"),
    ("get service web", false, "NodePort"),
    ("get configmaps -l a=b", false, "settings"),
    ("create deployment web --image=nginx:1 --replicas=2", false, "deployment.apps/web created"),
    ("get deployment web", false, "READY"),
    ("scale deployment web --replicas=1", false, "deployment.apps/web scaled"),
    ("describe deployment web", false, "StrategyType:           RollingUpdate"),
    ("describe service web", false, "NodePort"),
    ("label configmap settings c=d", false, "configmap/settings labeled"),
    ("annotate configmap settings c=d", false, "configmap/settings annotate"),
    ("explain pods.spec.containers", false, "FIELD: containers"),
    ("api-resources", false, "deployments"),
    ("auth can-i create pods", false, "yes"),
    ("auth can-i create pods --as jane", false, "no"),
    ("get pods -A -o wide", false, "web-"),
    ("get events", false, "ScalingReplicaSet"),
    ("patch configmap settings -p {\"data\":{\"color\":\"blue\"}}", false, "configmap/settings patched"),
    ("get configmap settings -o jsonpath={.data.color}", false, "blue"),
    ("create token default", false, "ey"),
    ("create namespace other", false, "namespace/other created"),
    ("delete namespace other", false, "namespace \"other\" deleted"),
    ("delete deployment web", false, "deployment.apps \"web\" deleted"),
    ("delete -f -", true, "configmap \"settings\" deleted"),
    ("get pods nothing", false, "Error from server (NotFound): pods \"nothing\" not found"),
];

const DUAL_MANIFEST: &str = "
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {ipFamilyPolicy: PreferDualStack, selector: {app: web}, ports: [{port: 80}]}
";

/// The same on a cluster of both families, where IPv6 is the primary one.
const DUAL_STEPS: &[(&str, bool, &str)] = &[
    ("get service kubernetes", false, "fd00:10:96::1 "),
    ("apply -f -", true, "service/web created"),
    ("apply -f -", true, "service/web unchanged"),
    ("describe service web", false, "IPv6,IPv4"),
    ("get endpointslices -l kubernetes.io/service-name=web", false, "IPv6"),
    ("get service web -o jsonpath={.spec.clusterIPs[1]}", false, "10.96."),
    ("patch service web -p {\"spec\":{\"ipFamilyPolicy\":\"SingleStack\"}}", false, "service/web patched"),
    ("get service web -o jsonpath={.spec.clusterIPs[*]}:", false, "fd00:10:96::"),
    ("get service web -o jsonpath={.spec.ipFamilies}:", false, "[\"IPv6\"]:"),
    ("patch service web -p {\"spec\":{\"clusterIP\":\"fd00:10:96::99\"}}", false, "may not change once set"),
    ("apply -f -", true, "service/web configured"),
    ("get service web -o jsonpath={.spec.ipFamilies}:", false, "[\"IPv6\",\"IPv4\"]:"),
    ("expose service web --name=other --port=81", false, "service/other exposed"),
    ("delete service web other", false, "service \"other\" deleted"),
];

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_as_anywhere() {
    run(Cluster::start().await, programs(), MANIFEST, STEPS).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_works_in_ipv6_first() {
    let newest = programs().pop().into_iter().collect();
    let cluster = Cluster::start_with(crate::families::six_first).await;
    run(cluster, newest, DUAL_MANIFEST, DUAL_STEPS).await;
}

async fn run(
    cluster: Cluster,
    programs: Vec<PathBuf>,
    manifest: &'static str,
    script: &'static [(&'static str, bool, &'static str)],
) {
    let config = kubeconfig(&cluster);
    let steps = tokio::task::spawn_blocking(move || {
        if programs.is_empty() {
            eprintln!("SKIPPED, LOUDLY: there is no kubectl on this machine, so nothing was tried with it");
        }
        for program in programs {
            eprintln!("trying {}", program.display());
            for (arguments, with_manifest, expected) in script {
                let output = kubectl(&program, &config, arguments, with_manifest.then_some(manifest));
                assert!(output.contains(expected), "{} {arguments}\n{output}\nhas no {expected:?}", program.display());
            }
        }
    });
    steps.await.expect("all steps ran");
}
