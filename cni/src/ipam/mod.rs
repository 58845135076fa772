//! Which address a pod gets, kept on disk as the reference plugin `host-local` keeps it.
