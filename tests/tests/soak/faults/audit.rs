//! What is on the nodes and should not be: addresses in the ledger, devices, routes, neighbours, rows of the tables, pins and
//! named namespaces, each held against what the API's objects need and what was there before.
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use serde_json::Value;
use tests::network::QUESTIONS;

use super::{
    NODES,
    bed::{Bed, Pod, within},
};

/// How long something may be on its way out.
const PATIENCE: Duration = Duration::from_secs(30);
/// Tables whose every row is a function of the objects: at the end as many rows as at the start.
const TABLES: [&str; 9] = ["PODS", "POD", "ROUTES", "NODES", "PEERS", "CIDRS", "POLICY", "SERVICES", "BACKENDS"];

/// What one node has.
#[derive(Default)]
pub(crate) struct Picture {
    /// Lines of each question, without those about pods' devices.
    lines: BTreeSet<String>,
    /// Pods' devices that any line names.
    devices: BTreeSet<String>,
    /// Those that have a place for filters.
    filtered: BTreeSet<String>,
    pins: BTreeSet<String>,
    tables: BTreeMap<String, BTreeSet<String>>,
}

/// All nodes' at the start.
pub(crate) struct Audit(BTreeMap<&'static str, Picture>);

/// A pod's device in a text, as `weft0a1b2c3d`.
fn device(text: &str) -> Option<&str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric()).find(|word| {
        let digits = word.strip_prefix("weft");
        digits.is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|digit| digit.is_ascii_hexdigit()))
    })
}

fn picture(bed: &Bed, node: &str) -> Result<Picture, String> {
    let queues = bed.run(node, "tc qdisc show");
    let filtered = queues.lines().filter(|line| line.starts_with("qdisc clsact ")).filter_map(device);
    let mut picture = Picture { filtered: filtered.map(str::to_owned).collect(), ..Picture::default() };
    for question in QUESTIONS {
        for line in bed.run(node, question).lines() {
            match device(line) {
                Some(device) => _ = picture.devices.insert(device.to_owned()),
                None => _ = picture.lines.insert(format!("{question}: {}", without_peer(line.trim_end()))),
            }
        }
    }
    let root = bed.inside(node, "/sys/fs/bpf/weft");
    pins(&root, &root, &mut picture.pins);
    let dump = bed.weft(node, "table dump")?;
    let mut name = String::new();
    for line in dump.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            name = rest.split(' ').next().unwrap_or_default().to_owned();
        } else if !line.is_empty() && !line.contains(" free,") {
            picture.tables.entry(name.clone()).or_default().insert(line.to_owned());
        }
    }
    Ok(picture)
}

/// The number of a link's other end is another one after a power cut.
fn without_peer(line: &str) -> String {
    let Some((before, rest)) = line.split_once("@if") else { return line.to_owned() };
    format!("{before}{}", rest.trim_start_matches(|letter: char| letter.is_ascii_digit()))
}

fn pins(root: &Path, directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        found.insert(path.strip_prefix(root).unwrap().display().to_string());
        if path.is_dir() && !path.is_symlink() {
            pins(root, &path, found);
        }
    }
}

impl Picture {
    fn rows(&self, table: &str) -> impl Iterator<Item = &str> {
        self.tables.get(table).into_iter().flatten().map(String::as_str)
    }

    /// First words of a table's rows.
    fn keys(&self, table: &str, words: usize) -> BTreeSet<String> {
        self.rows(table).map(|row| row.split(' ').take(words).collect::<Vec<_>>().join(" ")).collect()
    }

    /// Pins without those of pods' devices and without what each start numbers anew.
    fn lasting_pins(&self) -> (BTreeSet<&str>, usize) {
        let others = self.pins.iter().map(String::as_str).filter(|pin| device(pin).is_none());
        let (numbered, lasting): (Vec<&str>, BTreeSet<&str>) = {
            let (numbered, lasting): (Vec<_>, Vec<_>) = others.partition(|pin| pin.starts_with("progs/"));
            (numbered, lasting.into_iter().collect())
        };
        (lasting, numbered.len())
    }
}

impl Audit {
    pub(crate) fn begin(bed: &Bed) -> Audit {
        let one = |node| (node, picture(bed, node).unwrap_or_else(|why| panic!("{node}: {why}")));
        Audit(NODES.into_iter().map(one).collect())
    }

    /// What has leaked, by name, once nothing is on its way any more. `bare`: the objects are those of the start.
    pub(crate) fn leaks(&self, bed: &Bed, pods: &[Pod], bare: bool) -> Vec<String> {
        let clean = || {
            let leaks: Vec<String> = NODES.into_iter().flat_map(|node| self.of_node(bed, node, pods, bare)).collect();
            if leaks.is_empty() { Ok(()) } else { Err(leaks.join("\n")) }
        };
        within(PATIENCE, clean).err().into_iter().collect()
    }

    fn of_node(&self, bed: &Bed, node: &'static str, pods: &[Pod], bare: bool) -> Vec<String> {
        let now = match picture(bed, node) {
            Ok(now) => now,
            Err(why) => return vec![format!("{node}: {why}")],
        };
        let mut leaks = Vec::new();
        let before = &self.0[node];
        let mut differs = |what: &str, have: &BTreeSet<String>, want: &BTreeSet<String>| {
            leaks.extend(have.difference(want).map(|one| format!("{node}: {what}: left {one}")));
            leaks.extend(want.difference(have).map(|one| format!("{node}: {what}: missing {one}")));
        };
        let here: Vec<&Pod> = pods.iter().filter(|pod| pod.node == node).collect();
        let ledger = bed.ledger(node);
        let owners = ledger.iter().map(|entry| format!("{} {} {}", entry.pod, entry.uid, entry.addresses.join(",")));
        let wanted = here.iter().map(|pod| format!("{}/{} {} {}", pod.namespace, pod.name, pod.uid, pod.address));
        differs("address in the ledger", &owners.collect(), &wanted.collect());
        let devices: BTreeSet<String> = ledger.iter().map(|entry| entry.device.clone()).collect();
        differs("device of a pod", &now.devices, &devices);
        differs("place of our filters", &now.filtered, &devices);
        // Their hooks are filters: there is nothing to pin but that a start found a device without a place for them, and made it.
        let marks = |pin: &str| pin.starts_with("clsact/");
        let pinned = now.pins.iter().filter(|pin| !marks(pin) || device(pin).is_none_or(|one| !devices.contains(one)));
        let pinned = pinned.filter_map(|pin| device(pin).map(str::to_owned)).collect();
        differs("pin of a pod's device", &pinned, &BTreeSet::new());
        differs("line of the node's network", &now.lines, &before.lines);
        let names = fs::read_dir(bed.inside(node, "/run/netns")).into_iter().flatten().flatten();
        let names = names.map(|entry| format!("/run/netns/{}", entry.file_name().display())).collect();
        differs("namespace", &names, &ledger.iter().map(|entry| entry.netns.clone()).collect());
        for (table, words, wanted) in tables(bed, before, &here) {
            differs(&format!("row of {table}"), &now.keys(table, words), &wanted);
        }
        // Only peers that some policy names have a row.
        let (peers, addresses) = (now.keys("PEERS", 1), pods.iter().map(|pod| pod.address.to_string()).collect());
        leaks.extend(peers.difference(&addresses).map(|one| format!("{node}: row of PEERS: left {one}")));
        let ((lasting, numbered), (were, had)) = (now.lasting_pins(), before.lasting_pins());
        let marked = now.pins.iter().any(|pin| marks(pin));
        let left = lasting.difference(&were).filter(|pin| **pin != "clsact" || !marked);
        leaks.extend(left.map(|pin| format!("{node}: pin left: {pin}")));
        if numbered > had {
            leaks.push(format!("{node}: {numbered} pins of stages, {had} at the start"));
        }
        let metrics = bed.asked(node, "/metrics").unwrap_or_default();
        let freed = metrics.lines().filter(|line| line.starts_with("weft_leaks_freed_total") && !line.ends_with(" 0"));
        leaks.extend(freed.map(|line| format!("{node}: the agent's sweep has found something: {line}")));
        let backends = backends(bed);
        let served = now.rows("BACKENDS").map(|row| row.split(' ').skip(1).take(3).collect::<Vec<_>>().join(" "));
        leaks.extend(
            served.filter(|one| !backends.contains(one)).map(|one| format!("{node}: row of BACKENDS: left {one}")),
        );
        for table in TABLES.into_iter().filter(|_| bare) {
            let (has, had) = (now.rows(table).count(), before.rows(table).count());
            if has != had {
                leaks.push(format!("{node}: {has} rows of {table}, {had} at the start"));
            }
        }
        leaks
    }
}

/// Tables with the words of a row that make its key, and the keys that there should be.
fn tables(bed: &Bed, before: &Picture, here: &[&Pod]) -> Vec<(&'static str, usize, BTreeSet<String>)> {
    // What is no pod's was there at the start: the node's own.
    let own = before.keys("PODS", 1).into_iter().filter(|key| !key.starts_with("10.244."));
    vec![
        ("PODS", 1, here.iter().map(|pod| pod.address.to_string()).chain(own).collect()),
        ("ROUTES", 4, before.keys("ROUTES", 4)),
        ("NODES", 3, before.keys("NODES", 3)),
        ("SERVICES", 3, services(bed)),
    ]
}

fn proto(value: &Value) -> String {
    value.as_str().unwrap_or("TCP").to_lowercase()
}

fn services(bed: &Bed) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for service in bed.api.items("/api/v1/services") {
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            let proto = proto(&port["protocol"]);
            for address in service["spec"]["clusterIPs"].as_array().into_iter().flatten() {
                keys.insert(format!("{} {proto} {}", address.as_str().unwrap_or_default(), port["port"]));
            }
            if let Some(number) = port["nodePort"].as_u64() {
                keys.insert(format!("node-port {proto} {number}"));
            }
        }
    }
    keys
}

fn backends(bed: &Bed) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for slice in bed.api.items("/apis/discovery.k8s.io/v1/endpointslices") {
        for port in slice["ports"].as_array().into_iter().flatten() {
            for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
                let addresses = endpoint["addresses"].as_array().into_iter().flatten().filter_map(Value::as_str);
                all.extend(addresses.map(|address| format!("{address} {} {}", proto(&port["protocol"]), port["port"])));
            }
        }
    }
    all
}
