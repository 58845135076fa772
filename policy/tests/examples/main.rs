//! Policies by example: what the documentation shows, what is easily got wrong, and what makes no sense.

mod bad_input;
mod checklist;
mod cluster;
mod documented;
