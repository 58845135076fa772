//! Answers of IPVS.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| kernel::ipvs::fuzz::decode(bytes));
