//! How many objects came in.

/// Objects that the cache was given since it was made, deleted ones among them. Only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Services.
    pub services: Count,
    /// EndpointSlices.
    pub slices: Count,
}

/// Objects of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// All of them.
    pub given: u64,
    /// Those that were other than before, as far as it matters to a proxy.
    pub changed: u64,
}

/// Objects that the cache knows of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Services that it serves.
    pub services: usize,
    /// EndpointSlices.
    pub slices: usize,
    /// Their endpoints.
    pub endpoints: usize,
}
