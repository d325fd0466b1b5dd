//! The guard of URLs: what passes leads to a public address, by a table that was written from the registries and not from
//! the guard.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use konigle_operator::address::{check_literal, is_public};
use konigle_operator::artifact::fuzzing;
use konigle_operator::konigle::Guard;
use url::{Host, Url};

/// IANA's IPv4 special-purpose address registry, multicast, and what was never given out.
const NOT_PUBLIC_V4: [&str; 17] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "255.255.255.255/32",
    "169.254.169.254/32",
];

/// IANA's IPv6 special-purpose address registry, within what is given out at all (`2000::/3`).
const NOT_PUBLIC_V6: [&str; 4] = ["2001::/23", "2001:db8::/32", "3fff::/20", "2001:10::/28"];

/// IPv6 addresses that stand for an IPv4 address: the prefix, and the first of its 32 bits.
const WRAPPERS: [(&str, u32); 4] = [("::/96", 96), ("::ffff:0:0/96", 96), ("64:ff9b::/96", 96), ("2002::/16", 16)];

/// An address by its first bytes, and a URL by all of them.
///
/// # Panics
///
/// When a promise is broken.
pub fn check(data: &[u8]) {
    if let Some(first) = data.first_chunk::<4>() {
        address(IpAddr::V4(Ipv4Addr::from(*first)));
        let [a, b, c, d] = first.map(u16::from);
        let (high, low) = (a << 8 | b, c << 8 | d);
        for segments in [
            [0, 0, 0, 0, 0, 0xffff, high, low],
            [0, 0, 0, 0, 0, 0, high, low],
            [0, 0, 0, 0, 0xffff, 0, high, low],
            [0x64, 0xff9b, 0, 0, 0, 0, high, low],
            [0x64, 0xff9b, 1, 0, 0, 0, high, low],
            [0x2002, high, low, 0, 0, 0, 0, 1],
            [0x2001, 0, high, low, 0, 0, 0, 1],
            [high, low, 0, 0, 0, 0, 0, 1],
        ] {
            address(IpAddr::V6(Ipv6Addr::from(segments)));
        }
    }
    if let Some(first) = data.first_chunk::<16>() {
        address(IpAddr::V6(Ipv6Addr::from(*first)));
    }
    urls(data);
}

fn address(ip: IpAddr) {
    assert_eq!(is_public(ip), is_public_by_the_registries(ip), "{ip}");
}

fn urls(data: &[u8]) {
    let Ok(operator) = Url::parse("https://tim.konigle.com") else { return };
    let guard = Guard::new(&operator, &["https://10.9.8.7:8443/konigle".to_owned()]);
    if let Ok(url) = guard.parse_secret(data)
        && !guard.trusts(url.as_str())
    {
        leads_outside(&url);
        assert!(
            url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none()
        );
    }
    let text = String::from_utf8_lossy(data);
    if let Ok(url) = Url::parse(&text) {
        if fuzzing::may_be_asked(&url) {
            leads_outside(&url);
        }
        if url.scheme() == "https" {
            assert_eq!(check_literal(&url).is_ok(), url.host().is_some_and(|host| may_be_outside(&host)), "{url}");
        }
    }
    let Ok(from) = Url::parse("https://ci.example.com/a/shop.zip") else { return };
    for status in [301, 302, 303, 307, 308] {
        let answer = http::Response::builder().status(status).header("location", data).body("");
        let hop = answer.ok().and_then(|answer| fuzzing::next_hop(&answer.into(), &from));
        if let Some(next) = hop {
            leads_outside(&next);
            assert!(next.username().is_empty() && next.password().is_none(), "{next}");
        }
    }
}

fn leads_outside(url: &Url) {
    assert_eq!(url.scheme(), "https", "{url}");
    let host = url.host().unwrap_or_else(|| panic!("{url} has no host"));
    assert!(may_be_outside(&host), "{url}");
}

/// A public address, or a name, which is no other spelling of an address.
fn may_be_outside(host: &Host<&str>) -> bool {
    match host {
        Host::Ipv4(ip) => is_public_by_the_registries(IpAddr::V4(*ip)),
        Host::Ipv6(ip) => is_public_by_the_registries(IpAddr::V6(*ip)),
        Host::Domain(name) => {
            assert!(!is_an_address_for_c(name) && name.parse::<IpAddr>().is_err(), "{name} is no name");
            true
        }
    }
}

/// Whether C's `inet_aton` takes it, as some resolvers do: one to four numbers, decimal, octal or hexadecimal.
fn is_an_address_for_c(name: &str) -> bool {
    let parts: Vec<&str> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    let number = |part: &&str| {
        let (digits, radix) = match part.as_bytes() {
            [b'0', b'x' | b'X', ..] => (&part[2..], 16),
            [b'0', _, ..] => (&part[1..], 8),
            _ => (*part, 10),
        };
        // A sign is no digit, though Rust takes it.
        !digits.starts_with('+') && u32::from_str_radix(digits, radix).is_ok()
    };
    (1..=4).contains(&parts.len()) && parts.iter().all(number)
}

fn is_public_by_the_registries(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !NOT_PUBLIC_V4.iter().any(|block| holds(block, IpAddr::V4(ip))),
        IpAddr::V6(ip) => {
            for (prefix, first) in WRAPPERS {
                if holds(prefix, IpAddr::V6(ip)) {
                    let bits = u128::from(ip) << first >> 96;
                    let inner = Ipv4Addr::from(u32::try_from(bits).unwrap_or_default());
                    return is_public_by_the_registries(IpAddr::V4(inner));
                }
            }
            holds("2000::/3", IpAddr::V6(ip)) && !NOT_PUBLIC_V6.iter().any(|block| holds(block, IpAddr::V6(ip)))
        }
    }
}

fn holds(block: &str, ip: IpAddr) -> bool {
    let (network, length) = block.split_once('/').unwrap_or_default();
    let length: u32 = length.parse().unwrap_or_default();
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)) << 96,
        IpAddr::V6(ip) => u128::from(ip),
    };
    let network: IpAddr = network.parse().unwrap_or_else(|error| panic!("{block}: {error}"));
    (bits(network) ^ bits(ip)).leading_zeros() >= length
}
