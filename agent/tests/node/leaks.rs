//! What nobody owns any more goes while the agent runs: an address whose sandbox ended without a DEL, a device of no pod, rows
//! that somebody else put into a table or took from one.
use std::{path::PathBuf, sync::Arc, time::Instant};

use abi::Addr;
use agent::{ipam::Ledger, load, tables::row};

use crate::{
    Namespace, Node, SECOND,
    lists::{METRICS, scrape},
    namespaces::sh,
    on_a_node, reaches, serve,
};

/// Kinds of `weft_leaks_freed_total`, in their order there: addresses, devices, rows.
async fn freed() -> [u64; 3] {
    let metrics = tokio::task::spawn_blocking(scrape).await.expect("a scrape");
    ["address", "device", "row"].map(|kind| {
        let series = format!("weft_leaks_freed_total{{kind=\"{kind}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(series.as_str())?.parse().ok()).expect("a number")
    })
}

#[test]
fn what_nobody_owns_goes_while_the_agent_runs() {
    on_a_node(async |directory: PathBuf, _outside: Arc<Namespace>| {
        let node = Node::start(&directory, &["--leak-sweep-seconds", "1", "--metrics-listen", METRICS]).await;
        let (gone, gone_address) = node.pod("gone").await;
        let (a, a_address) = node.pod("a").await;
        let (b, b_address) = node.pod("b").await;
        serve(&b, b_address, 8080);
        assert_eq!(freed().await, [0; 3]);

        drop(gone);
        sh("ip link add weft0123abcd type veth peer name stray0");
        let pods = load::open(&load::tables_dir(&directory.join("bpf")), &abi::map::PODS).expect("pinned");
        let of = |address: std::net::Ipv4Addr| row(&Addr::from(std::net::IpAddr::from(address)), &7_u32);
        let (stray, seven) = of([10, 244, 0, 99].into());
        pods.put(&stray, &seven).expect("written");
        pods.delete(&of(b_address).0).expect("removed");

        let deadline = Instant::now() + 30 * SECOND;
        loop {
            let freed = freed().await;
            let table = node.table("PODS").await;
            let [stray, gone, b] = ["10.244.0.99".to_owned(), gone_address.to_string(), b_address.to_string()]
                .map(|address| table.lines().any(|line| line.starts_with(&format!("{address} "))));
            let device = std::path::Path::new("/proc/thread-self/net/dev_snmp6/weft0123abcd").exists();
            // Both rows that are not as written, in one round or in two.
            if freed == [1, 1, 2] && !stray && !gone && b && !device {
                break;
            }
            assert!(Instant::now() < deadline, "freed {freed:?}, device {device}:\n{table}");
            tokio::time::sleep(SECOND / 10).await;
        }
        reaches(&a, b_address, 8080, a_address);
        let files = std::fs::read_dir(directory.join("state")).expect("a directory").flatten();
        let ledger: Vec<_> = files.flat_map(|file| Ledger::look(&file.path()).expect("a ledger")).collect();
        let has = |id: &str| ledger.iter().any(|entry| entry.container_id == id);
        assert!(!has("c-gone") && has("c-b"), "{ledger:?}");
    });
}
