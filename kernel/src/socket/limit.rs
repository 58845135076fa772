//! How many descriptors the process may have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::Error;

/// Raises the soft limit of open files to the hard one, which takes no privilege, and returns it.
///
/// # Errors
/// When the system does not tell, or refuses.
pub fn raise_descriptor_limit() -> Result<u64, Error> {
    let raise = || {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        if soft < hard {
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
        }
        Ok(hard)
    };
    raise().map_err(|errno: nix::errno::Errno| Error::io("raise the limit of open files", errno))
}
