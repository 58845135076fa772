//! Who has which address, and whether anybody uses it.
