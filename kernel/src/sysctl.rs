//! Kernel parameters under `/proc/sys`.

use std::path::PathBuf;
use std::{fs, io};

use crate::Error;

/// Reads a parameter by its dotted name, without the trailing newline.
///
/// # Errors
/// When it does not exist or cannot be read.
pub fn get(name: &str) -> Result<String, Error> {
    fs::read_to_string(path(name))
        .map(|value| value.trim_end().to_owned())
        .map_err(|source| Error::io(format!("read sysctl {name}"), source))
}

/// Sets a parameter if it has another value: one that is right already needs no privilege. Says whether it wrote.
///
/// # Errors
/// When it does not exist, or differs and may not be written.
pub fn set(name: &str, value: &str) -> Result<bool, Error> {
    if get(name)? == value {
        return Ok(false);
    }
    fs::write(path(name), value).map(|()| true).map_err(|source| match source.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            Error::Permission { operation: format!("set sysctl {name}={value}") }
        }
        _ => Error::io(format!("set sysctl {name}={value}"), source),
    })
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_parameter() {
        assert_eq!(get("kernel.ostype").unwrap(), "Linux");
    }

    #[test]
    fn a_value_that_is_right_already_is_not_written() {
        assert!(!set("kernel.ostype", "Linux").unwrap());
    }

    #[test]
    fn names_the_parameter_that_does_not_exist() {
        let message = get("kernel.no_such_thing").unwrap_err().to_string();
        assert!(message.contains("kernel.no_such_thing"), "{message}");
    }
}
