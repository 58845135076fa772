//! The plugins as programs: what they answer to bad input, and that the reference's IPAM and ours share a folder.
//!
//! What takes network namespaces is in the suite `cni`.

#[cfg(test)]
mod delegated;
mod input;
mod interop;
mod ipam;
#[cfg(test)]
mod plugin;
