//! Where a new pod waits until the daemon has its policies in the kernel: a question over a unix socket.
