//! Policies by example: what the documentation shows, what is easily got wrong, and what makes no sense.

#![allow(
    clippy::unwrap_used,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on fails, and objects read best written in place"
)]

mod bad_input;
mod checklist;
mod cluster;
mod documented;
