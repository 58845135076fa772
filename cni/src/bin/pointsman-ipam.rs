//! The CNI plugin `pointsman-ipam`.

fn main() {}
