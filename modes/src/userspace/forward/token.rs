//! What an event is about, in the 64 bits that the kernel keeps for us.

/// What kind of thing an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The thread is woken.
    Wake,
    /// The door of the target of this number.
    Door,
    /// The client's side of the connection in this place.
    Client,
    /// Its endpoint's side.
    Endpoint,
    /// The session in this place.
    Session,
}

/// A kind, a place, and which of those that were in that place over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) place: u32,
    /// 24 bits count.
    pub(super) generation: u32,
}

const GENERATIONS: u32 = 0x00FF_FFFF;

impl Token {
    pub(super) const WAKE: Self = Self { kind: Kind::Wake, place: 0, generation: 0 };

    pub(super) fn door(number: u32) -> Self {
        Self { kind: Kind::Door, place: number, generation: 0 }
    }

    pub(super) fn new(kind: Kind, place: usize, generation: u32) -> Self {
        // There are not as many descriptors as would take more bits.
        Self { kind, place: u32::try_from(place).unwrap_or(u32::MAX), generation: generation & GENERATIONS }
    }

    pub(super) fn place(self) -> usize {
        self.place as usize
    }

    pub(super) fn to_bits(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.place)
    }

    pub(super) fn from_bits(bits: u64) -> Self {
        let kind = match bits >> 56 {
            0 => Kind::Wake,
            1 => Kind::Door,
            2 => Kind::Client,
            3 => Kind::Endpoint,
            _ => Kind::Session,
        };
        let low = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        Self { kind, place: low(bits), generation: low(bits >> 32) & GENERATIONS }
    }
}

/// Whether two generations are the same, as far as a token tells.
pub(super) fn same_generation(one: u32, other: u32) -> bool {
    (one ^ other) & GENERATIONS == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        for kind in [Kind::Wake, Kind::Door, Kind::Client, Kind::Endpoint, Kind::Session] {
            for (place, generation) in [(0, 0), (1, GENERATIONS), (u32::MAX as usize, 5)] {
                let token = Token::new(kind, place, generation);
                assert_eq!(Token::from_bits(token.to_bits()), token);
            }
        }
        assert!(same_generation(3, GENERATIONS + 4) && !same_generation(3, 4));
    }
}
