//! What the specification says that goes in and comes out: versions, configurations, results and errors.
