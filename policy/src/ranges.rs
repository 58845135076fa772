//! Blocks of addresses, less some, as disjoint ranges.

use ipnet::IpNet;

/// What of a block is in none of the exceptions: disjoint ranges in ascending order.
pub(crate) fn subtract(block: IpNet, exceptions: &[IpNet]) -> Vec<IpNet> {
    let within: Vec<IpNet> = exceptions.iter().copied().filter(|out| overlaps(block, *out)).collect();
    if within.is_empty() {
        return vec![block];
    }
    if within.iter().any(|out| out.contains(&block)) {
        return Vec::new();
    }
    // An exception within the block is longer than it, so the block can be halved.
    let halves = block.subnets(block.prefix_len() + 1).into_iter().flatten();
    halves.flat_map(|half| subtract(half, &within)).collect()
}

fn overlaps(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_is_left_out() {
        let left = subtract(net("192.168.0.0/16"), &[net("192.168.1.1/32")]);
        assert_eq!(left.len(), 16);
        assert!(!left.iter().any(|range| range.contains(&net("192.168.1.1/32"))));
        assert!(left.iter().any(|range| range.contains(&net("192.168.1.0/32"))));
    }

    #[test]
    fn everything_may_be_left_out() {
        assert_eq!(subtract(net("10.0.0.0/8"), &[net("10.0.0.0/9"), net("10.128.0.0/9")]), []);
        assert_eq!(subtract(net("fd00::/8"), &[net("10.0.0.0/9")]), [net("fd00::/8")]);
    }

    proptest! {
        #[test]
        fn an_address_is_left_if_no_exception_has_it(
            block in (any::<u32>(), 0..=32u8), out in prop::collection::vec((any::<u16>(), 16..=32u8), 0..6),
            asked in any::<u16>(),
        ) {
            let range = |bits: u32, prefix| IpNet::new(Ipv4Addr::from(bits).into(), prefix).unwrap().trunc();
            let block = range(block.0, block.1);
            // Near each other, so that they meet.
            let IpAddr::V4(base) = block.network() else { unreachable!() };
            let near = |low: u16| u32::from(base) ^ u32::from(low);
            let out: Vec<IpNet> = out.into_iter().map(|(low, prefix)| range(near(low), prefix)).collect();
            let left = subtract(block, &out);
            let address = IpAddr::from(Ipv4Addr::from(near(asked)));
            let expected = block.contains(&address) && !out.iter().any(|range| range.contains(&address));
            prop_assert_eq!(left.iter().filter(|range| range.contains(&address)).count(), usize::from(expected));
        }
    }
}
