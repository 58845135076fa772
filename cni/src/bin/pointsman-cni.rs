//! The CNI plugin `pointsman-cni`.

fn main() {}
