//! Dying at a given step, so that tests can see what an `ADD` that was killed leaves behind.
//!
//! Only builds with debug assertions do it. A release does not look at the variable.

/// Names the step to die at.
pub const VARIABLE: &str = "POINTSMAN_CNI_DIE_AT";

/// The steps of an `ADD`, in their order. The second address is that of a pod with both families.
pub const STEPS: &[&str] = &[
    "begun",
    "recorded",
    "ipam-locked",
    "ipam-noted",
    "ipam-written",
    "ipam-address-1",
    "ipam-address-2",
    "addressed",
    "wanted",
    "attach-pair",
    "attach-bridge",
    "attach-host",
    "attach-pod",
    "attach-routes",
    "attach-bandwidth",
    "attach-ports",
    "attached",
    "admitted",
];

/// A step has been taken.
#[cfg(debug_assertions)]
pub fn at(step: &str) {
    debug_assert!(STEPS.contains(&step), "a step that is not listed is not tested: {step}");
    if std::env::var_os(VARIABLE).is_some_and(|wanted| wanted == step) {
        // It does not return, so there is no failure to tell of.
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}

/// A step has been taken.
#[cfg(not(debug_assertions))]
pub fn at(_step: &str) {}
