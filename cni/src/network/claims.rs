//! Who has what when several claim it: the oldest.
//!
//! The outcome depends on who claims what, and not on who came first here. A claim that is refused keeps nobody else from
//! anything.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use endpoint_cache::Family;
use ipnet::IpNet;
use kernel::Mac;

/// Who claims something: first those whose age is known, the older first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Claimant {
    unknown_age: bool,
    created: String,
    pub(super) name: Arc<str>,
}

impl Claimant {
    pub(super) fn new(name: Arc<str>, created: Option<&str>) -> Self {
        Self { unknown_age: created.is_none(), created: created.unwrap_or_default().to_owned(), name }
    }
}

/// Ranges, of which no two that are granted overlap.
#[derive(Debug, Default)]
pub(super) struct RangeClaims {
    claims: BTreeMap<IpNet, BTreeSet<Claimant>>,
    /// Whose claim to which range stands in the way.
    refused: HashMap<(IpNet, Claimant), (IpNet, Arc<str>)>,
}

impl RangeClaims {
    /// Who has a range.
    pub(super) fn owner(&self, range: &IpNet) -> Option<&Arc<str>> {
        let claimants = self.claims.get(range)?;
        let granted = |claimant: &&Claimant| !self.refused.contains_key(&(*range, (*claimant).clone()));
        claimants.iter().find(granted).map(|claimant| &claimant.name)
    }

    /// The claim that stands in the way of another.
    pub(super) fn obstacle(&self, range: IpNet, claimant: &Claimant) -> Option<&(IpNet, Arc<str>)> {
        self.refused.get(&(range, claimant.clone()))
    }

    /// Claims a range, or gives the claim up; returns all those for whom that may have changed something.
    pub(super) fn set(&mut self, range: IpNet, claimant: &Claimant, claimed: bool) -> BTreeSet<Arc<str>> {
        let before = self.around(range);
        if claimed {
            self.claims.entry(range).or_default().insert(claimant.clone());
        } else {
            if let Some(claimants) = self.claims.get_mut(&range) {
                claimants.remove(claimant);
                if claimants.is_empty() {
                    self.claims.remove(&range);
                }
            }
            self.refused.remove(&(range, claimant.clone()));
        }
        let mut concerned = before;
        concerned.extend(self.around(range));
        let mut affected: BTreeSet<_> = concerned.iter().map(|(claimant, _)| claimant.name.clone()).collect();
        affected.insert(claimant.name.clone());
        // The older come first, so that each is up against what is granted already.
        let mut granted: Vec<(IpNet, Arc<str>)> = Vec::new();
        for (claimant, range) in concerned {
            if !self.claims.get(&range).is_some_and(|claimants| claimants.contains(&claimant)) {
                continue;
            }
            let obstacle = granted.iter().find(|(other, _)| overlap(other, &range)).cloned();
            let key = (range, claimant.clone());
            match obstacle {
                Some(obstacle) => {
                    self.refused.insert(key, obstacle);
                }
                None => {
                    self.refused.remove(&key);
                    granted.push((range, claimant.name));
                }
            }
        }
        affected
    }

    /// All claims that bear on this range by overlapping, be it by way of others: those within the widest around it.
    fn around(&self, range: IpNet) -> BTreeSet<(Claimant, IpNet)> {
        let wider = |length| IpNet::new(range.addr(), length).ok().map(|wider| wider.trunc());
        let widest = (0..range.prefix_len())
            .filter_map(wider)
            .find(|wider| self.claims.contains_key(wider))
            .unwrap_or(range);
        let last = IpNet::from(widest.broadcast());
        let within = self.claims.range(widest..=last).filter(|(found, _)| overlap(found, &widest));
        within.flat_map(|(found, all)| all.iter().map(|claimant| (claimant.clone(), *found))).collect()
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// Hardware addresses: each has one place where frames for it are sent to.
#[derive(Debug, Default)]
pub(super) struct MacClaims(BTreeMap<(Family, Mac), BTreeSet<Claimant>>);

impl MacClaims {
    /// Who has a hardware address.
    pub(super) fn owner(&self, family: Family, mac: Mac) -> Option<&Arc<str>> {
        self.0.get(&(family, mac))?.first().map(|claimant| &claimant.name)
    }

    /// Claims a hardware address, or gives the claim up; returns all those for whom that may have changed something.
    pub(super) fn set(
        &mut self,
        (family, mac): (Family, Mac),
        claimant: &Claimant,
        claimed: bool,
    ) -> Vec<Arc<str>> {
        let claimants = self.0.entry((family, mac)).or_default();
        let owner = |claimants: &BTreeSet<Claimant>| claimants.first().cloned();
        let before = owner(claimants);
        if claimed {
            claimants.insert(claimant.clone());
        } else {
            claimants.remove(claimant);
        }
        let mut affected = vec![claimant.name.clone()];
        if owner(claimants) != before {
            // All others are told whose it is.
            affected.extend(claimants.iter().map(|claimant| claimant.name.clone()));
        }
        if claimants.is_empty() {
            self.0.remove(&(family, mac));
        }
        affected
    }
}

/// How many Nodes have each address.
#[derive(Debug, Default)]
pub(super) struct AddressCounts(BTreeMap<IpAddr, usize>);

impl AddressCounts {
    /// One more has it; whether it is the first.
    pub(super) fn add(&mut self, address: IpAddr) -> bool {
        let count = self.0.entry(address).or_default();
        *count += 1;
        *count == 1
    }

    /// One less has it; whether it was the last.
    pub(super) fn remove(&mut self, address: IpAddr) -> bool {
        let Some(count) = self.0.get_mut(&address) else { return false };
        *count -= 1;
        let last = *count == 0;
        if last {
            self.0.remove(&address);
        }
        last
    }

    pub(super) fn all(&self) -> BTreeSet<IpAddr> {
        self.0.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claimant(name: &str, created: Option<&str>) -> Claimant {
        Claimant::new(name.into(), created)
    }

    fn range(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    #[test]
    fn the_older_has_what_two_claim() {
        let mut claims = RangeClaims::default();
        let (a, b) = (claimant("a", Some("2026-01-02")), claimant("b", Some("2026-01-01")));
        claims.set(range("10.1.0.0/16"), &a, true);
        let affected = claims.set(range("10.1.2.0/24"), &b, true);
        assert_eq!(affected.len(), 2);
        assert_eq!(claims.owner(&range("10.1.0.0/16")), None);
        assert_eq!(claims.obstacle(range("10.1.0.0/16"), &a), Some(&(range("10.1.2.0/24"), "b".into())));
        claims.set(range("10.1.2.0/24"), &b, false);
        assert_eq!(claims.owner(&range("10.1.0.0/16")).map(|name| &**name), Some("a"));
    }

    #[test]
    fn a_claim_that_is_refused_is_in_nobodys_way() {
        let mut claims = RangeClaims::default();
        claims.set(range("10.1.3.0/24"), &claimant("young", Some("3")), true);
        claims.set(range("10.1.0.0/16"), &claimant("middle", Some("2")), true);
        claims.set(range("10.1.2.0/24"), &claimant("old", Some("1")), true);
        assert_eq!(claims.owner(&range("10.1.3.0/24")).map(|name| &**name), Some("young"));
        assert_eq!(claims.owner(&range("10.1.0.0/16")), None);
        claims.set(range("10.1.2.0/24"), &claimant("old", Some("1")), false);
        assert_eq!(claims.owner(&range("10.1.0.0/16")).map(|name| &**name), Some("middle"));
        assert_eq!(claims.owner(&range("10.1.3.0/24")), None);
    }

    fn arbitrary_claim() -> impl Strategy<Value = (IpNet, Claimant, bool)> {
        let range = (0..4_u8, 0..4_u8, prop::sample::select(vec![8_u8, 14, 16, 22, 24]))
            .prop_map(|(a, b, length)| IpNet::new([10, a, b, 0].into(), length).unwrap().trunc());
        let claimant = (0..5_u8, prop::option::of(0..3_u8)).prop_map(|(name, age)| {
            Claimant::new(name.to_string().into(), age.map(|age| age.to_string()).as_deref())
        });
        (range, claimant, prop::bool::weighted(0.7))
    }

    proptest! {
        #[test]
        fn order_does_not_matter(steps in prop::collection::vec(arbitrary_claim(), 0..24)) {
            let mut gradual = RangeClaims::default();
            for (range, claimant, claimed) in &steps {
                gradual.set(*range, claimant, *claimed);
            }
            let mut anew = RangeClaims::default();
            for (range, claimants) in gradual.claims.iter().rev() {
                for claimant in claimants {
                    anew.set(*range, claimant, true);
                }
            }
            prop_assert_eq!(&gradual.claims, &anew.claims);
            prop_assert_eq!(&gradual.refused, &anew.refused);
            let granted: Vec<_> =
                gradual.claims.keys().filter(|range| gradual.owner(range).is_some()).collect();
            for (at, one) in granted.iter().enumerate() {
                for other in &granted[at + 1..] {
                    prop_assert!(!overlap(one, other), "{one} and {other} are both granted");
                }
            }
        }
    }
}
