//! Arithmetic of the address pool that apps' networks are cut from.

use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Size of an app's network: 125 processes, which is a rollout of more than fifty from the old release to the new.
const APP_PREFIX: u8 = 25;

/// A range of IPv4 addresses, such as `10.213.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Subnet {
    base: u32,
    prefix: u8,
}

impl Subnet {
    fn size(self) -> u64 {
        1 << (32 - u32::from(self.prefix))
    }

    fn mask(prefix: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
    }

    /// Whether the two have an address in common.
    pub(super) fn overlaps(self, other: Self) -> bool {
        let mask = Self::mask(self.prefix.min(other.prefix));
        self.base & mask == other.base & mask
    }

    /// A range from an address and its mask, as the kernel's route table tells them.
    pub(super) fn from_mask(address: Ipv4Addr, mask: Ipv4Addr) -> Self {
        let prefix = u8::try_from(mask.to_bits().count_ones()).unwrap_or(32);
        Self { base: address.to_bits() & Self::mask(prefix), prefix }
    }

    /// The host's own address in the network, the first one.
    pub(super) fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base + 1)
    }

    /// Number of addresses that processes can have.
    pub(super) fn capacity(self) -> u32 {
        u32::try_from(self.size().saturating_sub(3)).unwrap_or(u32::MAX)
    }

    /// The address of that index, counted round and round behind the gateway.
    pub(super) fn address(self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base + 2 + index % self.capacity().max(1))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from_bits(self.base), self.prefix)
    }
}

/// A text that is not a range of addresses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not a range of IPv4 addresses such as 10.213.0.0/16")]
pub struct SubnetError(String);

impl FromStr for Subnet {
    type Err = SubnetError;
    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let parse = || {
            let (address, prefix) = text.split_once('/')?;
            let (address, prefix): (Ipv4Addr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
            let base = address.to_bits();
            (prefix <= 32 && base & Self::mask(prefix) == base).then_some(Self { base, prefix })
        };
        parse().ok_or_else(|| SubnetError(text.to_owned()))
    }
}

/// The addresses that the platform may give to apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubnetPool(Subnet);

impl Default for SubnetPool {
    /// `10.213.0.0/16`: room for 512 apps, in a corner that routers and other tools seldom take.
    fn default() -> Self {
        Self(Subnet { base: Ipv4Addr::new(10, 213, 0, 0).to_bits(), prefix: 16 })
    }
}

impl SubnetPool {
    /// How many apps' networks fit in.
    pub(super) fn slots(self) -> u32 {
        1 << (APP_PREFIX - self.0.prefix)
    }

    /// The network of that number, counted round and round.
    pub(super) fn subnet(self, slot: u32) -> Subnet {
        Subnet { base: self.0.base + ((slot % self.slots()) << (32 - APP_PREFIX)), prefix: APP_PREFIX }
    }

    /// The number of a network that lies in the pool.
    pub(super) fn slot_of(self, subnet: Subnet) -> Option<u32> {
        (self.0.overlaps(subnet) && subnet.prefix >= self.0.prefix)
            .then(|| (subnet.base - self.0.base) >> (32 - APP_PREFIX))
    }
}

impl fmt::Display for SubnetPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a range cannot be the pool.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PoolError {
    /// It is no range at all.
    #[error(transparent)]
    Subnet(#[from] SubnetError),
    /// It has no room for an app, or takes more than any host should give away.
    #[error("{0} must be between a /8 and a /{APP_PREFIX}: every app takes a /{APP_PREFIX} of it")]
    Size(Subnet),
}

impl FromStr for SubnetPool {
    type Err = PoolError;
    fn from_str(text: &str) -> Result<Self, PoolError> {
        let subnet: Subnet = text.parse()?;
        if (8..=APP_PREFIX).contains(&subnet.prefix) { Ok(Self(subnet)) } else { Err(PoolError::Size(subnet)) }
    }
}

/// Ranges that the host already has a way to, from the text of `/proc/net/route`. Its default route is none.
pub(super) fn routed(table: &str) -> Vec<Subnet> {
    let field = |text: &str| u32::from_str_radix(text, 16).ok().map(|raw| Ipv4Addr::from_bits(raw.swap_bytes()));
    let route = |line: &str| {
        let mut fields = line.split_whitespace();
        let destination = field(fields.nth(1)?)?;
        let mask = field(fields.nth(5)?)?;
        (mask != Ipv4Addr::UNSPECIFIED).then(|| Subnet::from_mask(destination, mask))
    };
    table.lines().skip(1).filter_map(route).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_parsed_and_printed() {
        assert_eq!("10.213.0.0/16".parse::<Subnet>().unwrap().to_string(), "10.213.0.0/16");
        for wrong in ["10.213.0.1/16", "10.213.0.0", "10.213.0.0/33", "fd00::/64", "", "ten/16"] {
            assert_eq!(wrong.parse::<Subnet>(), Err(SubnetError(wrong.to_owned())), "{wrong}");
        }
    }

    #[test]
    fn overlap_is_seen_both_ways() {
        let wide: Subnet = "10.0.0.0/8".parse().unwrap();
        let narrow: Subnet = "10.213.7.0/25".parse().unwrap();
        let other: Subnet = "10.213.7.128/25".parse().unwrap();
        assert!(wide.overlaps(narrow) && narrow.overlaps(wide));
        assert!(!other.overlaps(narrow) && !narrow.overlaps(other));
        assert!("0.0.0.0/0".parse::<Subnet>().unwrap().overlaps(narrow));
    }

    #[test]
    fn the_default_pool_holds_two_hundred_apps_of_fifty_processes_in_a_rollout() {
        let pool = SubnetPool::default();
        assert_eq!(pool, "10.213.0.0/16".parse().unwrap());
        assert!(pool.slots() >= 200);
        assert!(pool.subnet(0).capacity() >= 100);
    }

    #[test]
    fn slots_and_their_networks_belong_together() {
        let pool = SubnetPool::default();
        assert_eq!(pool.subnet(0).to_string(), "10.213.0.0/25");
        assert_eq!(pool.subnet(511).to_string(), "10.213.255.128/25");
        assert_eq!(pool.subnet(512), pool.subnet(0));
        for slot in [0, 1, 77, 511] {
            assert_eq!(pool.slot_of(pool.subnet(slot)), Some(slot));
        }
        assert_eq!(pool.slot_of("172.17.0.0/16".parse().unwrap()), None);
        assert_eq!(pool.slot_of("10.0.0.0/8".parse().unwrap()), None);
    }

    #[test]
    fn addresses_leave_out_the_network_the_gateway_and_the_broadcast() {
        let subnet = SubnetPool::default().subnet(1);
        assert_eq!(subnet.gateway(), Ipv4Addr::new(10, 213, 0, 129));
        assert_eq!(subnet.address(0), Ipv4Addr::new(10, 213, 0, 130));
        assert_eq!(subnet.address(subnet.capacity() - 1), Ipv4Addr::new(10, 213, 0, 254));
        assert_eq!(subnet.address(subnet.capacity()), subnet.address(0));
    }

    #[test]
    fn pools_too_small_or_too_wide_are_refused() {
        assert!(matches!("10.213.0.0/26".parse::<SubnetPool>(), Err(PoolError::Size(_))));
        assert!(matches!("0.0.0.0/0".parse::<SubnetPool>(), Err(PoolError::Size(_))));
        assert_eq!("10.213.0.0/25".parse::<SubnetPool>().unwrap().slots(), 1);
    }

    #[test]
    fn routes_of_the_host_are_read_without_the_default_one() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n\
            docker0\t000011AC\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n\
            vpn0\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0\n";
        let expected: Vec<Subnet> = vec!["172.17.0.0/16".parse().unwrap(), "10.0.0.0/8".parse().unwrap()];
        assert_eq!(routed(table), expected);
    }
}
