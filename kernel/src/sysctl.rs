//! Kernel parameters under `/proc/sys`, and those of modules under `/sys/module`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::Error;
use crate::link::is_link_name;
use crate::route::Family;

/// Reads a parameter by its dotted name, without the trailing newline.
///
/// # Errors
/// When it does not exist or cannot be read.
pub fn get(name: &str) -> Result<String, Error> {
    read(&path(name), &format!("sysctl {name}"))
}

/// Sets a parameter if it has another value: one that is right already needs no privilege. Says whether it wrote.
///
/// # Errors
/// When it does not exist, or differs and may not be written.
pub fn set(name: &str, value: &str) -> Result<bool, Error> {
    if get(name)? == value {
        return Ok(false);
    }
    write(&path(name), &format!("sysctl {name}"), value).map(|()| true)
}

/// Reads a parameter of a device, such as `accept_ra`, in the network namespace that the thread is in. A device's name
/// may have a dot, which no dotted name can tell.
///
/// # Errors
/// As [`get`]; when there can be no such device.
pub fn get_of_link(family: Family, link: &str, name: &str) -> Result<String, Error> {
    let (path, what) = path_of_link(family, link, name)?;
    read(&path, &what)
}

/// As [`set`], for a parameter of a device.
///
/// # Errors
/// As [`set`]; when there can be no such device.
pub fn set_of_link(family: Family, link: &str, name: &str, value: &str) -> Result<bool, Error> {
    if get_of_link(family, link, name)? == value {
        return Ok(false);
    }
    let (path, what) = path_of_link(family, link, name)?;
    write(&path, &what, value).map(|()| true)
}

/// Reads a parameter of a module, without the trailing newline.
///
/// # Errors
/// When it does not exist, the module is not loaded, or it cannot be read.
pub fn get_of_module(module: &str, name: &str) -> Result<String, Error> {
    read(&path_of_module(module, name), &format!("parameter {name} of module {module}"))
}

/// As [`set`], for a parameter of a module.
///
/// # Errors
/// As [`set`].
pub fn set_of_module(module: &str, name: &str, value: &str) -> Result<bool, Error> {
    if get_of_module(module, name)? == value {
        return Ok(false);
    }
    let what = format!("parameter {name} of module {module}");
    write(&path_of_module(module, name), &what, value).map(|()| true)
}

fn read(path: &Path, what: &str) -> Result<String, Error> {
    fs::read_to_string(path)
        .map(|value| value.trim_end().to_owned())
        .map_err(|source| Error::io(format!("read {what}"), source))
}

fn write(path: &Path, what: &str, value: &str) -> Result<(), Error> {
    fs::write(path, value).map_err(|source| {
        let operation = format!("set {what}={value}");
        match source.kind() {
            io::ErrorKind::PermissionDenied => Error::Permission { operation },
            io::ErrorKind::ReadOnlyFilesystem => Error::ReadOnly { operation },
            _ => Error::io(operation, source),
        }
    })
}

fn path(name: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(name.replace('.', "/"))
}

fn path_of_link(family: Family, link: &str, name: &str) -> Result<(PathBuf, String), Error> {
    let family = match family {
        Family::V4 => "ipv4",
        Family::V6 => "ipv6",
    };
    let what = format!("sysctl net/{family}/conf/{link}/{name}");
    if !is_link_name(link) {
        return Err(Error::io(format!("find {what}"), io::Error::from(io::ErrorKind::InvalidInput)));
    }
    Ok((PathBuf::from(format!("/proc/sys/net/{family}/conf")).join(link).join(name), what))
}

fn path_of_module(module: &str, name: &str) -> PathBuf {
    PathBuf::from("/sys/module").join(module).join("parameters").join(name)
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
    fn names_the_module_whose_parameter_does_not_exist() {
        let message = get_of_module("no_such_module", "size").unwrap_err().to_string();
        assert!(message.contains("size of module no_such_module"), "{message}");
    }

    #[test]
    fn names_the_parameter_that_does_not_exist() {
        let message = get("kernel.no_such_thing").unwrap_err().to_string();
        assert!(message.contains("kernel.no_such_thing"), "{message}");
    }
}
