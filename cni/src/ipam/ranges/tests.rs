use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn said(text: &str) -> IpamRange {
    let mut words = text.split(' ');
    let subnet = words.next().unwrap().parse().unwrap();
    let mut range = IpamRange { subnet, range_start: None, range_end: None, gateway: None };
    for word in words {
        let (key, value) = word.split_once('=').unwrap();
        let value = Some(value.parse().unwrap());
        match key {
            "start" => range.range_start = value,
            "end" => range.range_end = value,
            _ => range.gateway = value,
        }
    }
    range
}

fn many(texts: &[&[&str]]) -> Result<Vec<RangeSet>, Error> {
    let all: Vec<Vec<_>> = texts.iter().map(|set| set.iter().map(|text| said(text)).collect()).collect();
    sets(&all, None)
}

fn one(texts: &[&str]) -> RangeSet {
    many(&[texts]).unwrap().remove(0)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn published(ranges: &[&str]) -> Published {
    Published {
        pod_cidrs: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        cluster_cidrs: Vec::new(),
        mtu: 1450,
        data_path: "routed".into(),
        backend: "vxlan".into(),
    }
}

#[test]
fn what_is_not_said_is_filled_in_as_the_reference_does() {
    let four = one(&["10.1.0.0/24"]);
    assert_eq!(four.to_string(), "10.1.0.0/24 from 10.1.0.1 to 10.1.0.254");
    assert_eq!(four.ranges()[0].gateway, address("10.1.0.1"));
    assert_eq!(four.size(), 253);
    let six = one(&["fd00::/120"]);
    assert_eq!(six.to_string(), "fd00::/120 from fd00::1 to fd00::ff");
    assert_eq!(one(&["10.1.0.0/24 start=10.1.0.10 end=10.1.0.19 gateway=10.1.0.254"]).size(), 10);
    assert_eq!(one(&["fd00::/8"]).size(), (1 << 120) - 2);
}

#[test]
fn ranges_that_make_no_sense_are_refused() {
    for (set, why) in [
        (&["10.1.0.5/24"][..], "10.1.0.0/24 is meant"),
        (&["10.1.0.0/31"], "too small"),
        (&["10.1.0.0/32"], "too small"),
        (&["fd00::/127"], "too small"),
        (&["10.1.0.0/24 start=10.2.0.1"], "rangeStart 10.2.0.1 is not in"),
        (&["10.1.0.0/24 end=10.1.1.1"], "rangeEnd 10.1.1.1 is not in"),
        (&["10.1.0.0/24 start=fd00::1"], "rangeStart fd00::1 is not in"),
        (&["10.1.0.0/24 start=10.1.0.9 end=10.1.0.8"], "after rangeEnd"),
        (&["10.1.0.0/24 gateway=fd00::1"], "different families"),
        (&["10.1.0.0/24 start=10.1.0.1 end=10.1.0.1"], "is the gateway"),
        (&["10.1.0.0/24", "fd00::/64"], "different families"),
        (&["10.1.0.0/24", "10.1.0.128/25"], "overlap"),
        (&[], "empty"),
    ] {
        let error = many(&[set]).unwrap_err();
        assert_eq!(error.code, Code::CONFIG);
        assert!(error.details.contains(why), "{set:?}: {error}");
    }
    let error =
        many(&[&["10.1.0.0/24"], &["fd00::/64"], &["10.0.0.0/8 start=10.1.0.254 end=10.2.0.0"]]).unwrap_err();
    assert!(error.details.contains("range sets 0 and 2 overlap"), "{error}");
    assert!(many(&[&["10.1.0.0/24 end=10.1.0.9", "10.1.0.0/24 start=10.1.0.10"]]).is_ok());
}

#[test]
fn without_ranges_the_nodes_own_are_meant() {
    let own = published(&["10.244.1.0/24", "fd00:1::/64", "10.244.9.0/24"]);
    let sets = sets(&[], Some(&own)).unwrap();
    assert_eq!(sets.len(), 2);
    assert_eq!(sets[0].ranges().len(), 2);
    assert_eq!(sets[1].to_string(), "fd00:1::/64 from fd00:1::1 to fd00:1::ffff:ffff:ffff:ffff");
    assert!(super::sets(&[], None).unwrap().is_empty());
}

#[test]
fn a_range_outside_the_nodes_is_refused() {
    let own = published(&["10.244.1.0/24"]);
    assert!(sets(&[vec![said("10.244.1.128/25")]], Some(&own)).is_ok());
    let error = sets(&[vec![said("10.244.2.0/24")]], Some(&own)).unwrap_err();
    assert!(
        error.details.contains("10.244.2.0/24 is not within this node's podCIDRs, 10.244.1.0/24"),
        "{error}"
    );
    assert!(sets(&[vec![said("10.244.0.0/16")]], Some(&own)).is_err());
}

#[test]
fn addresses_go_around() {
    let set = one(&["10.1.0.0/29", "10.2.0.0/30 gateway=10.2.0.2"]);
    let all = ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6", "10.2.0.1"].map(address);
    let mut last = None;
    for expected in all.iter().chain(&all) {
        let (found, range) = set.next(last, |_| true).unwrap();
        assert_eq!(found, *expected);
        assert!(range.contains(found));
        last = Some(found);
    }
    let only =
        |free: &str, last: &str| set.next(Some(address(last)), |at| at == address(free)).map(|(at, _)| at);
    for free in all {
        for last in all {
            assert_eq!(only(&free.to_string(), &last.to_string()), Some(free));
        }
    }
    assert_eq!(set.next(Some(address("10.1.0.4")), |_| false), None);
    assert_eq!(
        set.next(Some(address("9.9.9.9")), |_| true).unwrap().0,
        all[0],
        "a place that is gone is no place"
    );
}

#[test]
fn the_ends_of_the_numbers_are_no_trouble() {
    let last_four = one(&["255.255.255.252/30 end=255.255.255.255"]);
    assert_eq!(
        last_four.next(Some(address("255.255.255.255")), |_| true).unwrap().0,
        address("255.255.255.254")
    );
    let last_six = one(&["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126"]);
    let end = address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    assert_eq!(
        last_six.next(Some(end), |_| true).unwrap().0,
        address("ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe")
    );
    let whole = one(&["::/0"]);
    assert_eq!(whole.next(None, |_| true).unwrap().0, address("::2"));
    assert_eq!(whole.size(), u128::MAX - 1);
}

proptest! {
    /// Round robin, against the simplest way to say it: a list of all addresses, turned.
    #[test]
    fn the_next_one_is_the_first_free_one_of_the_turned_list(
        prefix in 26u8..31,
        gateway in 0u32..64,
        last in prop::option::of(0u32..80),
        taken in prop::collection::btree_set(0u32..64, 0..64),
    ) {
        let base = u32::from(Ipv4Addr::new(10, 0, 0, 0));
        let at = |offset: u32| IpAddr::from(Ipv4Addr::from(base + offset));
        let set = one(&[&format!("10.0.0.0/{prefix} gateway={}", at(gateway)), "10.9.0.0/30 gateway=10.9.0.1"]);
        let taken: BTreeSet<_> = taken.into_iter().map(at).collect();
        let last = last.map(at);

        let mut list: Vec<IpAddr> = (1..(1u32 << (32 - prefix)) - 1).map(at).collect();
        list.extend([address("10.9.0.1"), address("10.9.0.2")]);
        let turn = last.and_then(|last| list.iter().position(|at| *at == last)).map_or(0, |at| at + 1);
        list.rotate_left(turn);
        let gateways = [at(gateway), address("10.9.0.1")];
        let expected = list.into_iter().find(|at| !taken.contains(at) && !gateways.contains(at));
        prop_assert_eq!(set.next(last, |at| !taken.contains(&at)).map(|(at, _)| at), expected);
    }
}
