//! Whether connections are spread as chance spreads them: Pearson's chi-square test. Pure.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::checked_gamma_ur;

/// Fewer connections for each endpoint than this, and the test says nothing.
const FEWEST: f64 = 5.0;
/// Chance alone spreads less evenly than this in one run of a hundred.
const UNEVEN: f64 = 0.01;
/// Chance alone spreads more evenly than this in one run of a thousand.
const TOO_EVEN: f64 = 0.999;

/// How connections are spread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spread {
    /// What to think of it.
    pub(super) verdict: Verdict,
    /// The sum of squared differences, each divided by what is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) chi_square: Option<f64>,
    /// One less than there are endpoints.
    pub(super) degrees_of_freedom: usize,
    /// How often chance alone is as uneven as this, or more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) p_value: Option<f64>,
    /// A sentence.
    pub(super) sentence: String,
}

/// What to think of a spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Verdict {
    /// As chance has it.
    Chance,
    /// Endpoints are preferred.
    Uneven,
    /// Endpoints are taken in turn.
    InTurn,
    /// Nothing can be said: too few connections.
    TooFew,
    /// There is nothing to spread over.
    OneEndpoint,
    /// Nothing was answered.
    Nothing,
    /// Clients are kept at their endpoints.
    Affinity,
    /// Endpoints came or went, so that there is no one share to expect.
    Changed,
    /// Requests stay with their connections.
    KeptAlive,
}

impl Spread {
    /// Of connections by endpoint, all of which are as likely.
    pub(super) fn of(counts: &[u64]) -> Self {
        let (total, ways) = (counts.iter().sum::<u64>() as f64, counts.len());
        let mut spread = Self {
            verdict: Verdict::Nothing,
            chi_square: None,
            degrees_of_freedom: ways.saturating_sub(1),
            p_value: None,
            sentence: String::new(),
        };
        if total > 0.0 && ways > 1 {
            let statistic = chi_square(counts, total / ways as f64);
            spread.chi_square = Some(statistic);
            spread.p_value = p_value(statistic, ways - 1);
        }
        spread.verdict = verdict(total, ways, spread.p_value);
        spread.sentence = sentence(spread.verdict, total, ways, spread.p_value);
        spread
    }

    /// The same figures, which mean something else.
    pub(super) fn meaning(self, verdict: Verdict, sentence: impl Into<String>) -> Self {
        Self { verdict, sentence: sentence.into(), ..self }
    }
}

fn verdict(total: f64, ways: usize, p: Option<f64>) -> Verdict {
    match (ways, p) {
        _ if total == 0.0 => Verdict::Nothing,
        (0 | 1, _) => Verdict::OneEndpoint,
        _ if total < FEWEST * ways as f64 => Verdict::TooFew,
        (_, Some(p)) if p < UNEVEN => Verdict::Uneven,
        (_, Some(p)) if p > TOO_EVEN => Verdict::InTurn,
        _ => Verdict::Chance,
    }
}

fn sentence(verdict: Verdict, total: f64, ways: usize, p: Option<f64>) -> String {
    let p = p.unwrap_or(1.0);
    match verdict {
        Verdict::Nothing => "no connection was answered".to_owned(),
        Verdict::OneEndpoint => "one endpoint answered all: there is nothing to spread over".to_owned(),
        Verdict::TooFew => format!(
            "too few connections to tell: {total} for {ways} endpoints, and it takes {} at least",
            FEWEST * ways as f64
        ),
        Verdict::Uneven => format!("uneven: chance alone does this {}", once_in(p)),
        Verdict::InTurn => {
            "more even than chance: endpoints are taken in turn, or by how busy they are".to_owned()
        }
        _ => format!("what chance gives: as uneven as this, or more, in {:.0} runs of 100", 100.0 * p),
    }
}

fn once_in(p: f64) -> String {
    match 1.0 / p {
        runs if runs < 1e6 => format!("once in {runs:.0} runs"),
        _ => "less than once in a million runs".to_owned(),
    }
}

fn chi_square(counts: &[u64], expected: f64) -> f64 {
    counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum()
}

/// How much of the chi-square distribution is beyond a value.
pub(super) fn p_value(statistic: f64, degrees: usize) -> Option<f64> {
    match statistic {
        // The function is not defined at nothing, where everything is beyond.
        zero if zero <= 0.0 => Some(1.0),
        statistic => checked_gamma_ur(degrees as f64 / 2.0, statistic / 2.0).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST/SEMATECH e-Handbook of Statistical Methods, 1.3.6.7.4: critical values.
    #[test]
    fn tail_probabilities_are_those_of_published_tables() {
        for (degrees, p, critical) in [
            (1, 0.10, 2.706),
            (1, 0.05, 3.841),
            (1, 0.01, 6.635),
            (2, 0.05, 5.991),
            (2, 0.001, 13.816),
            (10, 0.10, 15.987),
            (10, 0.05, 18.307),
            (30, 0.01, 50.892),
            (100, 0.05, 124.342),
            (100, 0.001, 149.449),
            // The lower tail.
            (10, 0.95, 3.940),
            (100, 0.99, 70.065),
        ] {
            let found = p_value(critical, degrees).unwrap();
            assert!((found - p).abs() < 0.001 * p.max(0.1), "{degrees} {critical}: {found}, not {p}");
        }
    }

    #[test]
    fn a_fair_die_and_a_loaded_one() {
        // 5, 8, 9, 8, 10, 20 of 60: 13.4 at 5 degrees of freedom, beyond 11.070 (5 %), short of 15.086 (1 %).
        let spread = Spread::of(&[5, 8, 9, 8, 10, 20]);
        assert!((spread.chi_square.unwrap() - 13.4).abs() < 1e-9);
        let p = spread.p_value.unwrap();
        assert!(p > 0.01 && p < 0.05, "{p}");
        assert_eq!(spread.verdict, Verdict::Chance);
        assert_eq!(Spread::of(&[50, 80, 90, 80, 100, 200]).verdict, Verdict::Uneven);
    }

    #[test]
    fn taking_turns_is_no_chance() {
        let spread = Spread::of(&[100, 100, 100]);
        assert_eq!((spread.verdict, spread.p_value), (Verdict::InTurn, Some(1.0)));
    }

    #[test]
    fn what_cannot_be_told_is_said() {
        assert_eq!(Spread::of(&[]).verdict, Verdict::Nothing);
        assert_eq!(Spread::of(&[0, 0]).verdict, Verdict::Nothing);
        assert_eq!(Spread::of(&[7]).verdict, Verdict::OneEndpoint);
        let few = Spread::of(&[3, 4, 1]);
        assert_eq!(few.verdict, Verdict::TooFew);
        assert!(
            few.sentence.contains("8 for 3 endpoints") && few.sentence.contains("15"),
            "{}",
            few.sentence
        );
    }

    #[test]
    fn an_endpoint_that_never_answers_is_uneven() {
        let spread = Spread::of(&[50, 50, 0]);
        assert_eq!((spread.verdict, spread.degrees_of_freedom), (Verdict::Uneven, 2));
        assert!(spread.sentence.contains("less than once in a million"), "{}", spread.sentence);
    }
}
