//! First bytes of packets that rules log.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some(found) = kernel::nflog::headers(bytes) {
        assert_eq!(found.source.is_ipv4(), found.destination.is_ipv4());
        assert_eq!(found.source_port.is_some(), found.destination_port.is_some());
    }
});
