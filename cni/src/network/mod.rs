//! What joins the nodes: from Node objects to routes, neighbours and forwarding entries.

mod published;

pub use published::{PUBLISHED_FILE, Published, PublishedError};
