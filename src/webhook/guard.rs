//! Which addresses a webhook may go to: those of the public internet, and those that the configuration names.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Decides about addresses, never about names: whatever a name or an odd spelling stands for is decided by the address that it
/// leads to.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allow: Vec<IpNet>,
}

impl Guard {
    /// A guard that lets webhooks go to public addresses and into the networks of `allow`.
    pub fn new(allow: Vec<IpNet>) -> Self {
        Self { allow }
    }

    /// Lets `address` pass, or says why not. An IPv6 address that leads to an IPv4 one is judged as that one.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        let target = target(address);
        if [address, target].iter().any(|address| self.allow.iter().any(|network| network.contains(address))) {
            return Ok(());
        }
        let because = match target {
            IpAddr::V4(v4) => V4.iter().find(|(network, _)| network.contains(&v4)).map(|(_, what)| *what),
            IpAddr::V6(v6) => V6.iter().find(|(network, _)| network.contains(&v6)).map(|(_, what)| *what),
        };
        because.map_or(Ok(()), |because| Err(Refused { address, because }))
    }
}

/// Where packets to `address` end.
fn target(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if NAT64.contains(&v6) => {
            let [.., a, b, c, d] = v6.octets();
            IpAddr::V4(Ipv4Addr::new(a, b, c, d))
        }
        canonical => canonical,
    }
}

/// An address that a webhook may not go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{address} is {because}, and webhook.allow does not name it")]
pub struct Refused {
    /// The address.
    pub address: IpAddr,
    /// What it is.
    pub because: &'static str,
}

/// An IPv6 address that a translator turns into the IPv4 address in its last four bytes (RFC 6052).
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96);

/// What is not the public internet, by the IANA registry of special-purpose IPv4 addresses and RFC 5771. Of two that hold an
/// address, the first names it.
const V4: [(Ipv4Net, &str); 17] = [
    (v4([0, 0, 0, 0], 8), "an address of this network (RFC 1122)"),
    (v4([10, 0, 0, 0], 8), "a private address (RFC 1918)"),
    (v4([100, 64, 0, 0], 10), "an address shared by a carrier's customers (RFC 6598)"),
    (v4([127, 0, 0, 0], 8), "a loopback address (RFC 1122)"),
    (v4([168, 63, 129, 16], 32), "a cloud's metadata service"),
    (v4([169, 254, 169, 254], 32), "a cloud's metadata service"),
    (v4([169, 254, 0, 0], 16), "a link-local address (RFC 3927)"),
    (v4([172, 16, 0, 0], 12), "a private address (RFC 1918)"),
    (v4([192, 0, 0, 0], 24), "an address for protocols (RFC 6890)"),
    (v4([192, 0, 2, 0], 24), "an address for documentation (RFC 5737)"),
    (v4([192, 88, 99, 0], 24), "an address of 6to4 relays (RFC 7526)"),
    (v4([192, 168, 0, 0], 16), "a private address (RFC 1918)"),
    (v4([198, 18, 0, 0], 15), "an address for benchmarks (RFC 2544)"),
    (v4([198, 51, 100, 0], 24), "an address for documentation (RFC 5737)"),
    (v4([203, 0, 113, 0], 24), "an address for documentation (RFC 5737)"),
    (v4([224, 0, 0, 0], 4), "a multicast address (RFC 5771)"),
    (v4([240, 0, 0, 0], 4), "a reserved address (RFC 1112)"),
];

/// The same for IPv6. Only 2000::/3 is in use on the public internet, so the last three refuse all the rest.
const V6: [(Ipv6Net, &str); 20] = [
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 128), "the unspecified address (RFC 4291)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 1], 128), "a loopback address (RFC 4291)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 96), "an IPv4-compatible address (RFC 4291)"),
    (v6([0, 0, 0, 0, 0xffff, 0, 0, 0], 96), "an IPv4-translated address (RFC 2765)"),
    (v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), "a local NAT64 address (RFC 8215)"),
    (v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64), "an address whose packets are discarded (RFC 6666)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32), "a Teredo address (RFC 4380)"),
    (v6([0x2001, 2, 0, 0, 0, 0, 0, 0], 48), "an address for benchmarks (RFC 5180)"),
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 23), "an address for protocols (RFC 2928)"),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), "an address for documentation (RFC 3849)"),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16), "a 6to4 address (RFC 3056)"),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20), "an address for documentation (RFC 9637)"),
    (v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), "a cloud's metadata service"),
    (v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7), "a unique local address (RFC 4193)"),
    (v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10), "a link-local address (RFC 4291)"),
    (v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10), "a site-local address (RFC 3879)"),
    (v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8), "a multicast address (RFC 4291)"),
    (v6([0, 0, 0, 0, 0, 0, 0, 0], 3), "not a global unicast address (RFC 4291)"),
    (v6([0x4000, 0, 0, 0, 0, 0, 0, 0], 2), "not a global unicast address (RFC 4291)"),
    (v6([0x8000, 0, 0, 0, 0, 0, 0, 0], 1), "not a global unicast address (RFC 4291)"),
];

const fn v4([a, b, c, d]: [u8; 4], length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6([a, b, c, d, e, f, g, h]: [u16; 8], length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn because(address: &str) -> &'static str {
        Guard::default().check(address.parse().unwrap()).map_or_else(|refused| refused.because, |()| "public")
    }

    /// Each range from its first to its last address, and what is right beside it.
    #[test]
    fn ranges_begin_and_end_where_their_rfcs_say() {
        let table = [
            ("0.0.0.0", "an address of this network (RFC 1122)"),
            ("0.255.255.255", "an address of this network (RFC 1122)"),
            ("1.0.0.0", "public"),
            ("9.255.255.255", "public"),
            ("10.0.0.0", "a private address (RFC 1918)"),
            ("10.255.255.255", "a private address (RFC 1918)"),
            ("11.0.0.0", "public"),
            ("100.63.255.255", "public"),
            ("100.64.0.0", "an address shared by a carrier's customers (RFC 6598)"),
            ("100.100.100.200", "an address shared by a carrier's customers (RFC 6598)"),
            ("100.127.255.255", "an address shared by a carrier's customers (RFC 6598)"),
            ("100.128.0.0", "public"),
            ("126.255.255.255", "public"),
            ("127.0.0.0", "a loopback address (RFC 1122)"),
            ("127.0.0.1", "a loopback address (RFC 1122)"),
            ("127.255.255.255", "a loopback address (RFC 1122)"),
            ("128.0.0.0", "public"),
            ("168.63.129.15", "public"),
            ("168.63.129.16", "a cloud's metadata service"),
            ("168.63.129.17", "public"),
            ("169.253.255.255", "public"),
            ("169.254.0.0", "a link-local address (RFC 3927)"),
            ("169.254.169.254", "a cloud's metadata service"),
            ("169.254.255.255", "a link-local address (RFC 3927)"),
            ("169.255.0.0", "public"),
            ("172.15.255.255", "public"),
            ("172.16.0.0", "a private address (RFC 1918)"),
            ("172.31.255.255", "a private address (RFC 1918)"),
            ("172.32.0.0", "public"),
            ("191.255.255.255", "public"),
            ("192.0.0.0", "an address for protocols (RFC 6890)"),
            ("192.0.0.255", "an address for protocols (RFC 6890)"),
            ("192.0.1.0", "public"),
            ("192.0.2.0", "an address for documentation (RFC 5737)"),
            ("192.0.2.255", "an address for documentation (RFC 5737)"),
            ("192.0.3.0", "public"),
            ("192.88.98.255", "public"),
            ("192.88.99.0", "an address of 6to4 relays (RFC 7526)"),
            ("192.88.100.0", "public"),
            ("192.167.255.255", "public"),
            ("192.168.0.0", "a private address (RFC 1918)"),
            ("192.168.255.255", "a private address (RFC 1918)"),
            ("192.169.0.0", "public"),
            ("198.17.255.255", "public"),
            ("198.18.0.0", "an address for benchmarks (RFC 2544)"),
            ("198.19.255.255", "an address for benchmarks (RFC 2544)"),
            ("198.20.0.0", "public"),
            ("198.51.99.255", "public"),
            ("198.51.100.0", "an address for documentation (RFC 5737)"),
            ("198.51.101.0", "public"),
            ("203.0.112.255", "public"),
            ("203.0.113.255", "an address for documentation (RFC 5737)"),
            ("203.0.114.0", "public"),
            ("223.255.255.255", "public"),
            ("224.0.0.0", "a multicast address (RFC 5771)"),
            ("239.255.255.255", "a multicast address (RFC 5771)"),
            ("240.0.0.0", "a reserved address (RFC 1112)"),
            ("255.255.255.255", "a reserved address (RFC 1112)"),
            ("::", "the unspecified address (RFC 4291)"),
            ("::1", "a loopback address (RFC 4291)"),
            ("::2", "an IPv4-compatible address (RFC 4291)"),
            ("::8.8.8.8", "an IPv4-compatible address (RFC 4291)"),
            ("::ffff:0:8.8.8.8", "an IPv4-translated address (RFC 2765)"),
            ("64:ff9b:1::", "a local NAT64 address (RFC 8215)"),
            ("64:ff9b:1:ffff:ffff:ffff:ffff:ffff", "a local NAT64 address (RFC 8215)"),
            ("64:ff9b:2::", "not a global unicast address (RFC 4291)"),
            ("100::", "an address whose packets are discarded (RFC 6666)"),
            ("1fff:ffff::", "not a global unicast address (RFC 4291)"),
            ("2000::", "public"),
            ("2001::", "a Teredo address (RFC 4380)"),
            ("2001:2::1", "an address for benchmarks (RFC 5180)"),
            ("2001:2:1::1", "an address for protocols (RFC 2928)"),
            ("2001:20::1", "an address for protocols (RFC 2928)"),
            ("2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff", "an address for protocols (RFC 2928)"),
            ("2001:200::", "public"),
            ("2001:db7:ffff::", "public"),
            ("2001:db8::", "an address for documentation (RFC 3849)"),
            ("2001:db9::", "public"),
            ("2002::", "a 6to4 address (RFC 3056)"),
            ("2003::", "public"),
            ("3ffe:ffff::", "public"),
            ("3fff::", "an address for documentation (RFC 9637)"),
            ("3fff:fff::", "an address for documentation (RFC 9637)"),
            ("3fff:1000::", "public"),
            ("4000::", "not a global unicast address (RFC 4291)"),
            ("5f00::", "not a global unicast address (RFC 4291)"),
            ("8000::", "not a global unicast address (RFC 4291)"),
            ("fc00::", "a unique local address (RFC 4193)"),
            ("fd00:ec2::254", "a cloud's metadata service"),
            ("fdff:ffff::", "a unique local address (RFC 4193)"),
            ("fe80::1", "a link-local address (RFC 4291)"),
            ("fec0::1", "a site-local address (RFC 3879)"),
            ("ff02::1", "a multicast address (RFC 4291)"),
            ("2606:4700:4700::1111", "public"),
        ];
        for (address, what) in table {
            assert_eq!(because(address), what, "{address}");
        }
    }

    #[test]
    fn ipv4_in_ipv6_is_judged_as_ipv4() {
        for (outer, inner) in [
            ("::ffff:127.0.0.1", "127.0.0.1"),
            ("::ffff:a9fe:a9fe", "169.254.169.254"),
            ("64:ff9b::10.0.0.1", "10.0.0.1"),
            ("64:ff9b::8.8.8.8", "8.8.8.8"),
            ("::ffff:8.8.8.8", "8.8.8.8"),
        ] {
            assert_eq!(because(outer), because(inner), "{outer}");
        }
    }

    #[test]
    fn a_network_that_is_allowed_is_open_and_no_other() {
        let guard = Guard::new(["10.1.0.0/16", "fd12::/16", "64:ff9b::10.2.0.0/112"].map(|net| net.parse().unwrap()).into());
        for open in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::10.1.2.3", "64:ff9b::10.2.2.3", "fd12::1", "8.8.8.8"] {
            assert_eq!(guard.check(open.parse().unwrap()), Ok(()), "{open}");
        }
        for closed in ["10.2.2.3", "127.0.0.1", "fd13::1", "64:ff9b::10.3.0.1", "::10.1.2.3"] {
            assert!(guard.check(closed.parse().unwrap()).is_err(), "{closed}");
        }
    }

    #[test]
    fn a_refusal_says_what_the_address_is_and_what_would_open_it() {
        insta::assert_snapshot!(
            Guard::default().check("::ffff:10.0.0.1".parse().unwrap()).unwrap_err(),
            @"::ffff:10.0.0.1 is a private address (RFC 1918), and webhook.allow does not name it"
        );
    }

    proptest! {
        /// The standard library knows these ranges by other code.
        #[test]
        fn what_the_standard_library_calls_special_is_refused(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let special = v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_multicast() || v4.is_broadcast()
                || v4.is_documentation() || v4.is_unspecified();
            let refused = Guard::default().check(v4.into()).is_err();
            prop_assert!(refused || !special, "{}", v4);
        }

        #[test]
        fn only_global_unicast_is_public(bits: u128) {
            let v6 = Ipv6Addr::from_bits(bits);
            let refused = Guard::default().check(v6.into()).is_err();
            prop_assert!(refused || bits >> 125 == 1 || NAT64.contains(&v6), "{}", v6);
        }

        #[test]
        fn no_wrapping_opens_an_ipv4_address(bits: u32) {
            let v4 = Ipv4Addr::from_bits(bits);
            let refused = Guard::default().check(v4.into()).is_err();
            let nat64 = Ipv6Addr::from_bits(NAT64.addr().to_bits() | u128::from(bits));
            for v6 in [v4.to_ipv6_mapped(), nat64] {
                prop_assert_eq!(Guard::default().check(v6.into()).is_err(), refused, "{}", v6);
            }
            let compatible = Ipv6Addr::from_bits(u128::from(bits));
            let six_to_four = Ipv6Addr::from_bits(0x2002 << 112 | u128::from(bits) << 80);
            let teredo = Ipv6Addr::from_bits(0x2001 << 112 | u128::from(!bits));
            for v6 in [compatible, six_to_four, teredo] {
                prop_assert!(Guard::default().check(v6.into()).is_err(), "{}", v6);
            }
        }
    }
}
