//! Whether a domain leads to our routers, asked before an authority is: an authority takes only so many orders that come
//! to nothing.
//!
//! Routers are given a token drawn at random to answer with, where the authority's own would be (RFC 8555, 8.3), and the
//! controller asks the domain for it at the address that DNS tells. What anybody else answers there is told to nobody: a
//! domain may be led to a machine that only this one can reach.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use simple_dns::{CLASS, Name, Packet, Question, TYPE, rdata::RData};
use tokio::net::UdpSocket;

use super::{Fetcher, error::AcmeError, order::ROUTERS};
use crate::{
    db::{self, acme::Due, routing::Changed},
    deploy::wait,
};

/// How long a name server or a domain may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Addresses that are told, and asked.
const MOST_ADDRESSES: usize = 4;
/// Largest answer over UDP.
const DATAGRAM: usize = 4096;

/// How one looks.
#[derive(Debug, Clone)]
pub struct Check {
    /// Where an authority comes: 80, but for tests.
    pub port: u16,
    /// The name server that is asked, where this machine's own tells other addresses than the rest of the world hears.
    pub name_server: Option<SocketAddr>,
}

/// Fails when the domain does not lead to our routers.
pub(super) async fn check(fetcher: &Fetcher, due: &Due) -> Result<(), AcmeError> {
    let Some(check) = &fetcher.authority.check else { return Ok(()) };
    let platform = &fetcher.platform;
    let host = platform.options.host(&due.domain);
    let (token, answer) = (drawn(), drawn());
    let mut db = platform.pool.begin().await?;
    db::acme::set_answer(&mut db, &due.domain, &token, &answer).await?;
    let version = db::routing::raise(&mut db, Changed::Certificates).await?;
    db.commit().await?;
    if !wait::published(platform, version, ROUTERS).await? {
        return Err(AcmeError::Routers);
    }
    let addresses = addresses(check, &host).await;
    if addresses.is_empty() {
        return Err(AcmeError::Elsewhere(format!(
            "{host} has no address in DNS: add a record there that leads to this platform"
        )));
    }
    if answers(check, &host, &addresses, &token).await.as_deref() == Some(answer.as_bytes()) {
        return Ok(());
    }
    let told: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Err(AcmeError::Elsewhere(format!(
        "{host} leads to {}, and there this platform does not answer on port {}: change its record in DNS. If the record is \
         right, and only this machine cannot reach its own public address, the operator turns this look off \
         (--acme-check=off)",
        told.join(" and "),
        check.port
    )))
}

fn drawn() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The addresses of a host, IPv4 first; none where nobody knows it.
async fn addresses(check: &Check, host: &str) -> Vec<IpAddr> {
    let asking = async {
        match check.name_server {
            None => {
                let found = tokio::net::lookup_host((host, check.port)).await.ok();
                found.into_iter().flatten().map(|address| address.ip()).collect()
            }
            Some(server) => {
                let (four, six) = tokio::join!(ask(server, host, TYPE::A), ask(server, host, TYPE::AAAA));
                [four.unwrap_or_default(), six.unwrap_or_default()].concat()
            }
        }
    };
    let mut found: Vec<IpAddr> = tokio::time::timeout(PATIENCE, asking).await.unwrap_or_default();
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST_ADDRESSES);
    found
}

/// What a name server tells of a host.
async fn ask(server: SocketAddr, host: &str, kind: TYPE) -> Option<Vec<IpAddr>> {
    let number = rand::random::<u16>();
    let mut packet = Packet::new_query(number);
    packet.set_flags(simple_dns::PacketFlag::RECURSION_DESIRED);
    packet.questions.push(Question::new(Name::new(host).ok()?, kind.into(), CLASS::IN.into(), false));
    let any = if server.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { "::".parse().ok()? };
    let socket = UdpSocket::bind((any, 0)).await.ok()?;
    // Connected: nobody else is heard.
    socket.connect(server).await.ok()?;
    socket.send(&packet.build_bytes_vec().ok()?).await.ok()?;
    let mut datagram = vec![0; DATAGRAM];
    let read = socket.recv(&mut datagram).await.ok()?;
    let heard = Packet::parse(datagram.get(..read)?).ok()?;
    if heard.id() != number {
        return None;
    }
    let told = heard.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(address) => Some(IpAddr::V4(address.address.into())),
        RData::AAAA(address) => Some(IpAddr::V6(address.address.into())),
        _ => None,
    });
    Some(told.collect())
}

/// What the host answers about a token.
async fn answers(check: &Check, host: &str, addresses: &[IpAddr], token: &str) -> Option<Vec<u8>> {
    let addresses: Vec<SocketAddr> = addresses.iter().map(|address| (*address, check.port).into()).collect();
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .resolve_to_addrs(host, &addresses)
        .build()
        .ok()?;
    let url = format!("http://{host}:{}/.well-known/acme-challenge/{token}", check.port);
    let mut response = client.get(url).send().await.ok().filter(|response| response.status().is_success())?;
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.ok()? {
        body.extend_from_slice(&piece);
        if body.len() > DATAGRAM {
            return None;
        }
    }
    Some(body)
}

#[cfg(test)]
mod tests {
    use simple_dns::{ResourceRecord, rdata::A};

    use super::*;

    #[tokio::test]
    async fn a_name_server_is_asked_and_only_it_is_heard() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            for _ in 0..2 {
                let mut datagram = [0; 512];
                let (read, from) = server.recv_from(&mut datagram).await.unwrap();
                let asked = Packet::parse(&datagram[..read]).unwrap();
                let mut reply = Packet::new_reply(asked.id());
                if asked.questions[0].qtype == TYPE::A.into() {
                    let data = RData::A(A { address: Ipv4Addr::new(192, 0, 2, 1).into() });
                    let name = asked.questions[0].qname.clone();
                    reply.answers.push(ResourceRecord::new(name, CLASS::IN, 60, data));
                }
                server.send_to(&reply.build_bytes_vec().unwrap(), from).await.unwrap();
            }
        });
        let check = Check { port: 80, name_server: Some(address) };
        assert_eq!(addresses(&check, "www.example.test").await, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        serving.await.unwrap();
    }

    #[tokio::test]
    async fn only_the_very_answer_counts() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let check = Check { port: listener.local_addr().unwrap().port(), name_server: None };
        let serving = tokio::spawn(async move {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            for answer in [
                "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nright".to_owned(),
                "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\nright".to_owned(),
                "HTTP/1.1 301 Moved\r\nlocation: http://127.0.0.1:1/\r\nconnection: close\r\n\r\nright".to_owned(),
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(DATAGRAM + 1)),
            ] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                assert!(head.starts_with(b"GET /.well-known/acme-challenge/t HTTP/1.1\r\n"));
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let local = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        let _ = rustls::crypto::ring::default_provider().install_default();
        assert_eq!(answers(&check, "www.example.test", &local, "t").await.as_deref(), Some(&b"right"[..]));
        for _ in 0..3 {
            assert_eq!(answers(&check, "www.example.test", &local, "t").await, None);
        }
        serving.await.unwrap();
        assert_eq!(answers(&check, "www.example.test", &local, "t").await, None, "nobody listens");
    }
}
