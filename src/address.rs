//! Which network addresses count as public, and a name resolver that gives out no other.
//!
//! Used wherever a resource or a Secret, and not the operator's own flags, chooses the host: without it a tenant could
//! make the operator call the cloud's metadata service or a Service of another namespace. The check is made on the very
//! addresses that are then connected to, so a name that changes its answer in between (DNS rebinding) gains nothing.
//!
//! Absent: any decision about which hosts deserve trust, and any connection. A client that uses [`PublicResolver`] must
//! also use no proxy (the proxy would resolve), and must pass each URL, redirects included, through [`check_literal`]:
//! HTTP clients do not resolve a host that is an address already.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Why an address may not be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// The host is, or resolves to, an address that is not public. If one of several is not, none is used.
    #[error("`{host}` stands for {ip}, which is not a public address")]
    NotPublic {
        /// The host as it was given: a name or an address.
        host: String,
        /// The first address of it that is not public.
        ip: IpAddr,
    },
    /// The name has no address at all.
    #[error("`{host}` has no address")]
    NoAddress {
        /// The name that was asked for.
        host: String,
    },
    /// The URL has no host.
    #[error("the URL has no host")]
    NoHost,
}

/// Whether `ip` is reachable from the whole internet by its own right.
///
/// Not public are all blocks that IANA's special-purpose registries (RFC 6890 and its successors) take out of global
/// unicast, and IPv6 forms that only wrap an IPv4 address (mapped, compatible, NAT64, 6to4) when that one is not public.
#[must_use]
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

#[expect(
    clippy::match_same_arms,
    reason = "a line for each block of the registries reads better than one long pattern"
)]
fn is_public_v4(ip: Ipv4Addr) -> bool {
    match ip.octets() {
        [0 | 10 | 127, ..] => false,  // this network, private, loopback
        [100, 64..=127, ..] => false, // carrier-grade NAT, 100.64.0.0/10
        [169, 254, ..] => false,      // link-local: the metadata services of the clouds
        [172, 16..=31, ..] => false,  // private
        [192, 0, 0 | 2, _] => false,  // protocol assignments; documentation
        [192, 88, 99, _] => false,    // the withdrawn 6to4 relays
        [192, 168, ..] => false,      // private
        [198, 18 | 19, ..] => false,  // benchmarking
        [198, 51, 100, _] => false,   // documentation
        [203, 0, 113, _] => false,    // documentation
        [224..=255, ..] => false,     // multicast, reserved, broadcast
        _ => true,
    }
}

#[expect(
    clippy::match_same_arms,
    reason = "a line for each block of the registries reads better than one long pattern"
)]
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let segments = ip.segments();
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // ::/96 (compatible; `::` and `::1` fall under 0.0.0.0/8) and ::ffff:0:0/96 (mapped)
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] => inner(high, low),
        // 64:ff9b::/96 (NAT64); the local-use prefix 64:ff9b:1::/48 falls through to "not global unicast"
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => inner(high, low),
        [0x2002, high, low, ..] => inner(high, low), // 6to4
        [0x2001, 0..=0x1ff, ..] => false,            // 2001::/23: protocol assignments, Teredo and benchmarking in it
        [0x2001, 0xdb8, ..] => false,                // documentation
        [0x3fff, 0..=0xfff, ..] => false,            // documentation
        // Only 2000::/3 is global unicast: loopback, unique local, link-local, multicast and what is not given out are not.
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

/// Whether the host is this machine: a loopback address, or the name `localhost`.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

/// Refuses a URL whose host is an address that is not public. A name passes: [`PublicResolver`] judges it when it is used.
pub fn check_literal(url: &Url) -> Result<(), AddressError> {
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        Some(Host::Domain(_)) => return Ok(()),
        None => return Err(AddressError::NoHost),
    };
    if is_public(ip) { Ok(()) } else { Err(AddressError::NotPublic { host: ip.to_string(), ip }) }
}

/// Fails with [`AddressError`] unless every address of a name is public, and gives out the very addresses that it judged:
/// the name is not asked for again between the judgement and the connection.
#[derive(Clone, Copy, Debug)]
pub struct PublicResolver<R>(R);

impl<R> PublicResolver<R> {
    /// Judges what another resolver says.
    pub fn over(resolver: R) -> Self {
        Self(resolver)
    }
}

impl<R: Resolve> Resolve for PublicResolver<R> {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let resolving = self.0.resolve(name);
        Box::pin(async move {
            let addresses: Vec<_> = resolving.await?.collect();
            check_resolved(&host, addresses.iter().map(std::net::SocketAddr::ip))?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Resolves names as the system does.
#[derive(Clone, Copy, Debug)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            Ok(Box::new(tokio::net::lookup_host((name.as_str(), 0)).await?.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

fn check_resolved(host: &str, mut addresses: impl ExactSizeIterator<Item = IpAddr>) -> Result<(), AddressError> {
    if addresses.len() == 0 {
        return Err(AddressError::NoAddress { host: host.to_owned() });
    }
    match addresses.find(|ip| !is_public(*ip)) {
        Some(ip) => Err(AddressError::NotPublic { host: host.to_owned(), ip }),
        None => Ok(()),
    }
}

/// Finds an [`AddressError`] among the causes of `error`: HTTP clients wrap what their resolver says several times.
#[must_use]
pub fn find_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a AddressError> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_public_addresses_from_others() {
        let public = [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "203.0.112.1",
            "223.255.255.255",
            "169.253.1.1",
            "2606:4700::1111",
            "2a00:1450:4001::1",
            "2001:200::1",
            "::ffff:8.8.8.8",
            "::8.8.8.8",
            "64:ff9b::808:808",
            "2002:808:808::1",
            "3fff:1000::1",
        ];
        let other = [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "100.64.0.1",
            "100.127.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "2002:7f00:1::1",
            "2002:a9fe:a9fe::",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2001:2::1",
            "2001:10::1",
            "3fff::1",
            "100::1",
            "5f00::1",
            "4000::1",
        ];
        for (addresses, expected) in [(&public[..], true), (&other[..], false)] {
            for address in addresses {
                assert_eq!(is_public(address.parse().unwrap()), expected, "{address}");
            }
        }
    }

    #[test]
    fn refuses_addresses_in_urls_however_they_are_written() {
        for (url, allowed) in [
            ("https://8.8.8.8/x", true),
            ("https://example.com/", true),
            ("https://127.0.0.1/", false),
            ("https://2130706433/", false),
            ("https://0x7f.1/", false),
            ("https://0177.0.0.1/", false),
            ("https://[::1]:8443/", false),
            ("https://[::ffff:10.1.2.3]/", false),
            ("https://169.254.169.254/latest/meta-data", false),
        ] {
            assert_eq!(check_literal(&Url::parse(url).unwrap()).is_ok(), allowed, "{url}");
        }
    }

    #[test]
    fn knows_this_machine() {
        for (url, expected) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.8.9.1", true),
            ("http://[::1]:1", true),
            ("http://LOCALHOST", true),
            ("http://localhost.example.com", false),
            ("http://10.0.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }

    #[test]
    fn one_private_address_spoils_a_name() {
        let public: IpAddr = "8.8.8.8".parse().unwrap();
        let private: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(check_resolved("a", [public].into_iter()), Ok(()));
        assert_eq!(
            check_resolved("a", [public, private].into_iter()),
            Err(AddressError::NotPublic { host: "a".to_owned(), ip: private })
        );
        assert_eq!(check_resolved("a", [].into_iter()), Err(AddressError::NoAddress { host: "a".to_owned() }));
    }

    #[tokio::test]
    async fn the_resolver_refuses_localhost_and_the_client_shows_why() {
        let client =
            reqwest::Client::builder().no_proxy().dns_resolver(PublicResolver::over(SystemResolver)).build().unwrap();
        let error = client.get("https://localhost:1/").send().await.unwrap_err();
        assert!(
            matches!(find_cause(&error), Some(AddressError::NotPublic { host, .. }) if host == "localhost"),
            "{error:?}"
        );
    }
}
