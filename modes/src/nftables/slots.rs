//! In which slot each endpoint stands. Endpoints keep their slot as long as they can, so that a change of one endpoint
//! writes one element, or two when the last slot closes the gap.

use endpoint_cache::Endpoint;

type Target = (std::net::IpAddr, u16);

fn target(endpoint: &Endpoint) -> Target {
    (endpoint.address, endpoint.port)
}

/// The slots for `wanted` (sorted, unique), given the slots before: gaps are filled by newcomers, then from the end.
pub(crate) fn reassign(before: &[Endpoint], wanted: &[Endpoint]) -> Vec<Endpoint> {
    let mut placed = vec![false; wanted.len()];
    let mut slots: Vec<Option<Endpoint>> = before
        .iter()
        .map(|endpoint| {
            let at = wanted.binary_search_by_key(&target(endpoint), target).ok()?;
            (!std::mem::replace(&mut placed[at], true)).then_some(wanted[at])
        })
        .collect();
    let mut newcomers =
        wanted.iter().zip(&placed).filter(|(_, placed)| !**placed).map(|(endpoint, _)| *endpoint);
    for slot in slots.iter_mut().filter(|slot| slot.is_none()) {
        *slot = newcomers.next();
    }
    slots.extend(newcomers.map(Some));
    close_gaps(slots)
}

fn close_gaps(mut slots: Vec<Option<Endpoint>>) -> Vec<Endpoint> {
    let mut at = 0;
    while at < slots.len() {
        if slots[at].is_some() {
            at += 1;
        } else {
            slots.swap_remove(at);
        }
    }
    slots.into_iter().flatten().collect()
}

/// The slots that differ: what stood there and what is to stand there.
pub(crate) fn differences<'a>(
    before: &'a [Endpoint],
    after: &'a [Endpoint],
) -> impl Iterator<Item = (usize, Option<&'a Endpoint>, Option<&'a Endpoint>)> {
    (0..before.len().max(after.len()))
        .map(|slot| (slot, before.get(slot), after.get(slot)))
        .filter(|(_, before, after)| before.map(target) != after.map(target))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn endpoints(numbers: &[u8]) -> Vec<Endpoint> {
        numbers.iter().map(|n| Endpoint { address: [10, 0, 0, *n].into(), port: 80, local: false }).collect()
    }

    #[test]
    fn a_replaced_endpoint_takes_the_slot_of_the_one_that_went() {
        assert_eq!(reassign(&endpoints(&[3, 1, 2]), &endpoints(&[2, 3, 9])), endpoints(&[3, 9, 2]));
    }

    #[test]
    fn the_last_slot_closes_a_gap() {
        let (before, after) =
            (endpoints(&[4, 1, 3, 2]), reassign(&endpoints(&[4, 1, 3, 2]), &endpoints(&[2, 3, 4])));
        assert_eq!(after, endpoints(&[4, 2, 3]));
        assert_eq!(differences(&before, &after).count(), 2);
    }

    proptest! {
        #[test]
        fn every_endpoint_has_one_slot_and_as_few_move_as_can(
            before in proptest::collection::hash_set(0u8..30, 0..20),
            wanted in proptest::collection::btree_set(0u8..30, 0..20),
        ) {
            let before = endpoints(&before.into_iter().collect::<Vec<_>>());
            let wanted = endpoints(&wanted.into_iter().collect::<Vec<_>>());
            let after = reassign(&before, &wanted);
            let mut sorted = after.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, wanted.clone());
            let kept = before.iter().filter(|endpoint| wanted.contains(endpoint)).count();
            let changed = differences(&before, &after).count();
            prop_assert!(changed <= before.len().max(wanted.len()) - kept + wanted.len().min(before.len() - kept));
        }
    }
}
