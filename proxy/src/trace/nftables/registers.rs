//! The registers that a rule works on.

use kernel::nft::expr::{Match, Register};

/// Sixteen words of four bytes.
const BYTES: usize = 64;

/// What the registers hold; all zero where a rule begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Registers([u8; BYTES]);

impl Default for Registers {
    fn default() -> Self {
        Self([0; BYTES])
    }
}

impl Registers {
    /// Writes bytes, and zeros to the end of the last word, as the kernel does; says whether there is room.
    #[must_use]
    pub(super) fn write(&mut self, at: Register, bytes: &[u8]) -> bool {
        let begin = at.byte();
        let Some(room) = self.0.get_mut(begin..begin + bytes.len().next_multiple_of(4)) else { return false };
        room.fill(0);
        room[..bytes.len()].copy_from_slice(bytes);
        true
    }

    /// So many bytes, if there are so many.
    pub(super) fn read(&self, at: Register, len: usize) -> Option<&[u8]> {
        self.0.get(at.byte()..at.byte().checked_add(len)?)
    }

    /// A word, which is a number in host order.
    pub(super) fn number(&self, at: Register) -> Option<u32> {
        Some(u32::from_ne_bytes(self.read(at, 4)?.try_into().ok()?))
    }

    /// Computes, or compares; says whether the rule goes on. What is limited is taken to be within its limit.
    #[must_use]
    pub(super) fn meet(&mut self, matching: &Match) -> bool {
        match matching {
            Match::Bitwise { register, mask, xor } => {
                let Some(value) = self.read(*register, mask.len()) else { return false };
                let bits = value.iter().zip(mask).zip(xor);
                let changed: Vec<u8> = bits.map(|((value, mask), xor)| value & mask ^ xor).collect();
                self.write(*register, &changed)
            }
            Match::Cmp { register, comparison, with } => {
                let Some(value) = self.read(*register, with.len()) else { return false };
                comparison.holds(value, with)
            }
            Match::Limit { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::nft::Bytes;
    use kernel::nft::expr::Comparison;

    use super::*;

    #[test]
    fn a_range_of_ports_holds_its_first_and_its_last() {
        let within = |port: u16| {
            let (mut registers, at) = (Registers::default(), Register::new(0));
            assert!(registers.write(at, &port.to_be_bytes()));
            let mut compare = |comparison, with: u16| {
                let with = Bytes::from_slice(&with.to_be_bytes());
                registers.meet(&Match::Cmp { register: at, comparison, with })
            };
            let inside = compare(Comparison::Gte, 80) && compare(Comparison::Lte, 1000);
            assert_eq!(inside, compare(Comparison::Gt, 79) && compare(Comparison::Lt, 1001));
            inside
        };
        let found: Vec<u16> =
            [79, 80, 256, 1000, 1001, 20_480].into_iter().filter(|port| within(*port)).collect();
        assert_eq!(found, [80, 256, 1000], "and not as if they were numbers in host order");
    }

    #[test]
    fn a_short_value_leaves_zeros_to_the_end_of_its_word() {
        let (mut registers, at) = (Registers::default(), Register::new(1));
        assert!(registers.write(at, &[0xff; 12]) && registers.write(at, &[0, 80]));
        assert_eq!(
            registers.read(Register::new(0), 12),
            Some(&[0, 0, 0, 0, 0, 80, 0, 0, 0xff, 0xff, 0xff, 0xff][..])
        );
    }

    #[test]
    fn what_is_beyond_the_last_register_is_refused() {
        let (mut registers, last) = (Registers::default(), Register::new(15));
        assert!(!registers.write(last, &[1; 5]) && registers.read(last, 5).is_none());
        assert!(registers.write(last, &[1; 4]) && registers.number(last) == Some(0x0101_0101));
        assert_eq!(registers.read(last, usize::MAX), None);
    }
}
