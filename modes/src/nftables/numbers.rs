//! The numbers by which frontends are led to chains.
//!
//! When an element with a verdict that goes to a chain is added, the kernel checks the whole table for loops, and looks
//! at every element of every verdict map for it: half a millisecond with ten thousand services. So the maps that have
//! an element for each frontend hold a number, which is data like any other, and only the small map `picks` turns
//! numbers into verdicts. It changes together with the chains, which are few and seldom new.

use std::collections::HashMap;

use kernel::nft::{Bytes, Data, Element, Verdict};

use super::bytes::Key;
use super::elements::Target;
use super::found::Found;
use super::layout::SetName;
use super::ops::InstalledElements;

/// The bit that tells numbers of services' own chains from those of shared ones, which [`Pick`](super::pick::Pick)
/// derives from what the chain does.
const OWN: u32 = 1 << 31;

/// The numbers of services' own chains. They are given out one after the other, and stay with the chain as long as it
/// is in the kernel: the next process reads them from there.
#[derive(Default)]
pub(crate) struct Numbers {
    given: HashMap<String, u32>,
    last: u32,
}

impl Numbers {
    /// The numbers that the kernel was read to hold. One that a frontend has is not given out even if its chain is
    /// lost, or the frontend would lead to another service for a moment.
    pub(crate) fn read(installed: &InstalledElements) -> Self {
        let elements = |set| installed.get(&set).into_iter().flat_map(Found::iter);
        let picks = elements(SetName::Picks).filter_map(read_lead);
        let given: HashMap<_, _> = picks.filter(|(_, number)| number & OWN != 0).collect();
        let frontends = elements(SetName::ServiceIps).chain(elements(SetName::ServiceNodePorts));
        let used = given.values().copied().chain(frontends.filter_map(read_number));
        let last = used.max().unwrap_or_default();
        Self { given, last }
    }

    /// The number of a chain, now and henceforth.
    pub(crate) fn of(&mut self, target: &Target) -> u32 {
        match target {
            Target::Shared(pick) => pick.number(),
            Target::Own(chain) => self.own(chain),
        }
    }

    fn own(&mut self, chain: &str) -> u32 {
        if let Some(number) = self.given.get(chain) {
            return *number;
        }
        self.last = self.last.wrapping_add(1) | OWN;
        self.given.insert(chain.to_owned(), self.last);
        self.last
    }

    /// The chain is no more.
    pub(crate) fn forget(&mut self, chain: &str) {
        self.given.remove(chain);
    }
}

/// A number as the data of an element.
pub(crate) fn data(number: u32) -> Data {
    Data::Value(bytes(number))
}

/// The element by which a chain has its number.
pub(crate) fn lead(number: u32, chain: &str) -> Element {
    let data = Data::Verdict(Verdict::Goto(chain.to_owned()));
    Element { key: bytes(number), data, ..Element::default() }
}

fn read_lead(element: &Element) -> Option<(String, u32)> {
    let Data::Verdict(Verdict::Goto(chain)) = &element.data else { return None };
    Some((chain.clone(), read(&element.key)?))
}

fn read_number(element: &Element) -> Option<u32> {
    let Data::Value(number) = &element.data else { return None };
    read(number)
}

fn read(number: &[u8]) -> Option<u32> {
    number.try_into().ok().map(u32::from_ne_bytes)
}

fn bytes(number: u32) -> Bytes {
    Key::default().number(number).bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(chain: &str) -> Target {
        Target::Own(chain.to_owned())
    }

    #[test]
    fn chains_keep_their_numbers_and_no_number_in_use_is_given_to_another() {
        let mut numbers = Numbers::default();
        let [a, b, c] = ["a", "b", "c"].map(|chain| numbers.of(&own(chain)));
        let frontend = Element { data: data(c), ..Element::default() };
        let installed = InstalledElements::from([
            (SetName::Picks, Found::new(vec![lead(a, "a"), lead(b, "b"), lead(7, "pick-7")])),
            (SetName::ServiceIps, Found::new(vec![frontend])),
        ]);
        let mut next = Numbers::read(&installed);
        assert_eq!([next.of(&own("a")), next.of(&own("b"))], [a, b]);
        let fresh = next.of(&own("d"));
        assert!(![a, b, c].contains(&fresh) && fresh & OWN != 0);
        next.forget("a");
        assert!(![a, b, c, fresh].contains(&next.of(&own("a"))));
    }
}
