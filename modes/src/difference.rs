//! What differs between the kernel and what should be there, in the words of the tools that list it.

use std::fmt;

use endpoint_cache::ServicePort;
use serde::{Deserialize, Serialize};

/// Differences that are told of one comparison; of more, only how many there are.
const MOST: usize = 10_000;

/// What came of a comparison.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What differs, as far as it is told.
    differences: Vec<Difference>,
    /// How many more differences there are.
    omitted: usize,
    /// What is there without use and goes when there is time: no difference.
    pub unused: Vec<String>,
    /// What was not compared, and why; a sentence each.
    pub notes: Vec<String>,
}

/// Something that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// How.
    pub sign: Sign,
    /// What it is, in the words of the mode's tool.
    pub what: String,
    /// The service port that it is about, as `namespace/name:port`, where that can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// How something differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sign {
    /// It should be in the kernel and is not.
    #[serde(rename = "+")]
    Missing,
    /// It is in the kernel and should not be.
    #[serde(rename = "-")]
    Unwanted,
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "+",
            Self::Unwanted => "-",
        })
    }
}

impl Comparison {
    /// What differs, at most ten thousand of it. None means that the kernel holds what it should.
    #[must_use]
    pub fn differences(&self) -> &[Difference] {
        &self.differences
    }

    /// How many differences there are besides.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Adds something that is not there.
    pub(crate) fn missing(&mut self, service: Option<&str>, what: impl FnOnce() -> String) {
        self.push(Sign::Missing, service, what);
    }

    /// Adds something that should not be there.
    pub(crate) fn unwanted(&mut self, service: Option<&str>, what: impl FnOnce() -> String) {
        self.push(Sign::Unwanted, service, what);
    }

    fn push(&mut self, sign: Sign, service: Option<&str>, what: impl FnOnce() -> String) {
        if self.differences.len() < MOST {
            let service = service.map(ToOwned::to_owned);
            self.differences.push(Difference { sign, what: what(), service });
        } else {
            self.omitted += 1;
        }
    }
}

/// A service port's name as it is told.
pub(crate) fn name(service: &ServicePort) -> String {
    service.name.to_string()
}

/// The items of each of two lists that the other has not, as often as it has them more often.
pub(crate) fn apart<A, B>(wanted: &[A], found: &[B]) -> (Vec<usize>, Vec<usize>)
where
    A: PartialEq<B>,
{
    let mut taken = vec![false; found.len()];
    let mut missing = Vec::new();
    for (at, item) in wanted.iter().enumerate() {
        match found.iter().zip(&taken).position(|(found, taken)| !taken && item == found) {
            Some(same) => taken[same] = true,
            None => missing.push(at),
        }
    }
    let unwanted = taken.iter().enumerate().filter(|(_, taken)| !**taken).map(|(at, _)| at);
    (missing, unwanted.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_that_one_list_has_more_often_are_told_apart() {
        assert_eq!(apart(&[1, 2, 2, 3], &[2, 4, 1]), (vec![2, 3], vec![1]));
        assert_eq!(apart(&[1, 2], &[2, 1]), (vec![], vec![]));
    }

    #[test]
    fn what_is_told_is_bounded_and_the_rest_counted() {
        let mut comparison = Comparison::default();
        (0..MOST + 3).for_each(|n| comparison.missing(None, || n.to_string()));
        assert_eq!((comparison.differences().len(), comparison.omitted()), (MOST, 3));
    }
}
