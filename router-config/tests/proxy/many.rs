//! Ten thousand hosts, with certificates and without: the program itself, asked while its table changes.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use paas_router::model::{Certificate, Table};
use rcgen::PKCS_ECDSA_P256_SHA256;

use crate::harness::{Backend, Visitor, get, nobody, route, until};
use crate::program::{command, folder, start};
use crate::publisher::Publisher;
use crate::secure::{certificate, come, der};

const HOSTS: usize = 10_000;

fn host(number: usize) -> String {
    format!("app-{number}.many.test")
}

/// Every host with a route of its own to this target, and the certificates of every tenth.
fn table(version: u64, certificates: &[Certificate], target: SocketAddr) -> Table {
    let routes = (0..HOSTS).map(|number| route(&host(number), &[target]).into()).collect();
    Table { version, routes, certificates: certificates.to_vec().into(), ..Table::default() }
}

/// A certificate with a key of its own for every tenth host.
fn certificates() -> Vec<Certificate> {
    (0..HOSTS).step_by(10).map(|number| certificate(&[&host(number)], &PKCS_ECDSA_P256_SHA256)).collect()
}

/// What the process holds in memory, in KiB.
fn memory(process: u32) -> u64 {
    let status = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hosts_come_and_change_without_a_failed_request_and_in_bounded_memory() {
    let folder = folder();
    let (one, two) = (Backend::saying("one").await, Backend::saying("two").await);
    let (publisher, server) = Publisher::start("secret").await;
    let (http, https) = (nobody().await, nobody().await);
    let mut command = command(folder.path(), http, server.address);
    command.arg(format!("--https-listen={https}"));
    let program = start(&mut command, http).await;
    let certificates = certificates();
    publisher.publish_table(&table(1, &certificates, one.address));
    until("the first table is served", || publisher.last().is_some_and(|(_, report)| report["version"] == 1)).await;

    // Visitors all over the hosts, who never stop.
    let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let visitors: Vec<_> = (0..4)
        .map(|visitor| {
            let (over, asked) = (Arc::clone(&over), Arc::clone(&asked));
            tokio::spawn(async move {
                let mut failures = String::new();
                let mut connection = Visitor::connect(http).await;
                for number in (visitor..).step_by(997) {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let host = host(number % HOSTS);
                    connection.send(get(&host, "/")).await;
                    let reply = connection.reply().await;
                    if reply.status != 200 || !["one", "two"].contains(&reply.body.as_str()) {
                        let _ = writeln!(failures, "{host}: {} {}", reply.status, reply.body);
                    }
                    asked.fetch_add(1, Ordering::Relaxed);
                }
                failures
            })
        })
        .collect();
    let mut held = Vec::new();
    for version in 2..=21 {
        let target = if version % 2 == 0 { two.address } else { one.address };
        publisher.publish_table(&table(version, &certificates, target));
        let before = asked.load(Ordering::Relaxed);
        until("the table is served, and visitors were there", || {
            let is_served = publisher.last().is_some_and(|(_, report)| report["version"] == version);
            is_served && asked.load(Ordering::Relaxed) > before + 10
        })
        .await;
        held.push(memory(program.id()));
    }
    over.store(true, Ordering::Relaxed);
    for visitor in visitors {
        assert_eq!(visitor.await.unwrap(), "");
    }
    // What a table takes is given back: the last quarter of the changes holds no more than the first plus one table.
    let (early, late) = (held[..5].iter().max().unwrap(), held[15..].iter().max().unwrap());
    assert!(*late < early + early / 2, "memory grew from table to table (KiB): {held:?}");
    assert!(*late < 400 * 1024, "ten thousand hosts in {late} KiB: {held:?}");

    // Each host is shown its own certificate, and those without are shown none of another's.
    for number in [0, 10, 4990, 9990] {
        let stream = come(https, &host(number), &["http/1.1"]).await;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert_eq!(shown, der(&certificates[number / 10]), "{}", host(number));
    }
    let stream = come(https, &host(1), &["http/1.1"]).await;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert!(!certificates.iter().any(|other| der(other) == shown));
    // One host's certificate is replaced, and only that one.
    let mut certificates = certificates;
    certificates[499] = certificate(&[&host(4990)], &PKCS_ECDSA_P256_SHA256);
    publisher.publish_table(&table(22, &certificates, one.address));
    until("the table is served", || publisher.last().is_some_and(|(_, report)| report["version"] == 22)).await;
    for number in [4980, 4990] {
        let stream = come(https, &host(number), &["http/1.1"]).await;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        assert_eq!(shown, der(&certificates[number / 10]), "{}", host(number));
    }
}
