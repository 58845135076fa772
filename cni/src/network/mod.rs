//! What joins the nodes: from Node objects to routes, neighbours and forwarding entries.
