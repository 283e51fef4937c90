//! Deploy hooks (contract §1.14): what a receiver is told of a deployment that has ended, and whom we may tell.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use paas_api::{ReleaseVersion, Secret};
use ring::hmac;
use url::Url;
use uuid::Uuid;

use super::network::Network;
use crate::settings::HookUrl;

/// How often one receiver is tried.
pub const MOST_TRIES: u32 = 10;

/// How a deployment ended, as far as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The release serves.
    Succeeded,
    /// The release before it serves on.
    Failed,
}

impl Outcome {
    /// As the ledger and the wire write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
        }
    }
}

impl std::str::FromStr for Outcome {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "succeeded" => Ok(Self::Succeeded),
            "failed" => Ok(Self::Failed),
            other => Err(format!("outcome {other}")),
        }
    }
}

/// One thing to tell one receiver.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// The same in every try, so that a receiver knows what it has heard before.
    pub id: Uuid,
    /// Whose log tells of it; none when the app is gone by now.
    pub app_id: Option<Uuid>,
    /// Name of the app.
    pub app: String,
    /// Release that was deployed.
    pub version: ReleaseVersion,
    /// Its summary, or what is said instead when it failed.
    pub summary: String,
    /// Commit, or empty.
    pub sha: String,
    /// Who made the release.
    pub username: String,
    /// How it went.
    pub outcome: Outcome,
    /// The how-manieth try this is, from 1.
    pub attempt: u32,
}

impl Delivery {
    /// The receiver's URL with what it is told, sorted by name. A good deployment has exactly the contract's five words; a
    /// failed one is marked by `outcome=failed`, so that nobody takes it for a deployment.
    pub fn url(&self, hook: &HookUrl) -> Url {
        let release = self.version.to_string();
        let mut words = vec![("app", self.app.as_str())];
        if self.outcome == Outcome::Failed {
            words.push(("outcome", self.outcome.as_str()));
        }
        words.extend([
            ("release", release.as_str()),
            ("release_summary", &self.summary),
            ("sha", &self.sha),
            ("user", &self.username),
        ]);
        let mut url = hook.url().clone();
        url.query_pairs_mut().extend_pairs(words);
        url
    }
}

/// The contract's signature: the HMAC-SHA1 of the whole URL, in hexadecimal.
pub fn signature(secret: &Secret, url: &Url) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.expose().as_bytes());
    hex::encode(hmac::sign(&key, url.as_str().as_bytes()))
}

/// A signature that cannot be replayed: the HMAC-SHA256 of the time, the delivery's id and the URL, joined by dots.
pub fn dated_signature(secret: &Secret, seconds: i64, id: Uuid, url: &Url) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes());
    format!("sha256={}", hex::encode(hmac::sign(&key, format!("{seconds}.{id}.{url}").as_bytes())))
}

/// How long to wait after a try that failed; `None` when it was the last.
pub fn pause_after(attempt: u32) -> Option<Duration> {
    (attempt < MOST_TRIES).then(|| Duration::from_secs((1 << (attempt.max(1) - 1)).min(300)))
}

/// Whether a receiver may be at an address: anywhere on the public Internet, and where the settings allow it.
pub fn may_tell(address: IpAddr, allowed: &[Network]) -> bool {
    let address = address.to_canonical();
    allowed.iter().any(|network| network.contains(address))
        || match address {
            IpAddr::V4(address) => is_public_v4(address),
            IpAddr::V6(address) => is_public_v6(address),
        }
}

/// Not one of the special networks of IANA's registry (RFC 6890).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || a == 10
        || a == 127
        || a >= 224
        || (a == 100 && (64..128).contains(&b))
        || (a == 169 && b == 254)
        || (a == 172 && (16..32).contains(&b))
        || (a == 192 && b == 168)
        || (a == 192 && b == 0 && (c == 0 || c == 2))
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (b == 18 || b == 19))
        || (a == 198 && b == 51 && c == 100)
        || (a == 203 && b == 0 && c == 113))
}

/// Of the global unicast addresses, without those that lead somewhere else: 6to4, Teredo and other protocols' own,
/// documentation. NAT64 is as public as what it leads to.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            is_public_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
        }
        [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
        [0x2002, ..] => false,
        [0x3fff, second, ..] => second >= 0x1000,
        [first, ..] => (0x2000..0x4000).contains(&first),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delivery(outcome: Outcome) -> Delivery {
        Delivery {
            id: Uuid::nil(),
            app_id: None,
            app: "hello".into(),
            version: ReleaseVersion::new(5).unwrap(),
            summary: "ann deployed 1a2b3c4 & more".into(),
            sha: "1a2b3c4d".into(),
            username: "ann".into(),
            outcome,
            attempt: 1,
        }
    }

    #[test]
    fn a_receiver_is_told_in_the_contracts_words() {
        let hook: HookUrl = "https://hooks.example.com/x?token=t".parse().unwrap();
        assert_eq!(
            delivery(Outcome::Succeeded).url(&hook).as_str(),
            "https://hooks.example.com/x?token=t&app=hello&release=v5&release_summary=ann+deployed+1a2b3c4+%26+more\
             &sha=1a2b3c4d&user=ann"
        );
        let hook: HookUrl = "https://hooks.example.com".parse().unwrap();
        assert!(delivery(Outcome::Failed).url(&hook).as_str().starts_with(
            "https://hooks.example.com/?app=hello&outcome=failed&release=v5&release_summary=ann+deployed"
        ));
    }

    #[test]
    fn signatures_are_what_other_programs_compute() {
        // printf %s 'https://hooks.example.com/?app=hello' | openssl dgst -sha1 -hmac 'my secret'
        let url = Url::parse("https://hooks.example.com/?app=hello").unwrap();
        assert_eq!(signature(&"my secret".into(), &url), "aca132a7e6ca707064742c080c45508147d5fe2e");
        let dated = dated_signature(&"my secret".into(), 1_700_000_000, Uuid::nil(), &url);
        assert_eq!(dated, "sha256=9f129f974687b95005c1492bcee04cf069602a57f77f7becafb3dec3b1ed043c");
    }

    #[test]
    fn pauses_grow_and_end() {
        let pauses: Vec<u64> = (1..=MOST_TRIES).map_while(pause_after).map(|pause| pause.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    }

    #[test]
    fn only_the_public_internet_is_told_unless_allowed() {
        for public in
            ["1.1.1.1", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.63.0.1", "2606:4700::1111", "64:ff9b::808:808"]
        {
            assert!(may_tell(public.parse().unwrap(), &[]), "{public}");
        }
        for special in [
            "0.0.0.0",
            "10.1.2.3",
            "127.0.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "100.64.0.1",
            "192.0.0.1",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "fec0::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "5f00::1",
        ] {
            assert!(!may_tell(special.parse().unwrap(), &[]), "{special}");
        }
        let allowed = ["10.0.0.0/8".parse().unwrap(), "::1".parse().unwrap()];
        assert!(may_tell("10.1.2.3".parse().unwrap(), &allowed));
        assert!(may_tell("::ffff:10.1.2.3".parse().unwrap(), &allowed));
        assert!(may_tell("::1".parse().unwrap(), &allowed));
        assert!(!may_tell("127.0.0.1".parse().unwrap(), &allowed));
    }
}
