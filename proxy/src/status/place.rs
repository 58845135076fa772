//! Where the socket is.

use std::path::{Path, PathBuf};

use anyhow::bail;
use nix::unistd::geteuid;

/// Where a process of root answers.
const OF_ROOT: &str = "/run/pointsman/pointsman.sock";
const NAME: &str = "pointsman.sock";

/// Where to answer: where the flag says (nowhere if it is empty), or at a place of the user's.
pub(crate) fn to_answer(given: Option<&str>) -> Option<PathBuf> {
    match given {
        Some("") => None,
        Some(path) => Some(path.into()),
        None if geteuid().is_root() => Some(OF_ROOT.into()),
        None => of_user(|name| std::env::var_os(name).map(PathBuf::from)),
    }
}

/// Where to ask: where the flag says, else at the user's own place or root's.
pub(crate) fn to_ask(given: Option<&str>) -> anyhow::Result<PathBuf> {
    let Some(own) = to_answer(given) else {
        bail!("there is no place of yours to ask at: say where with --socket PATH");
    };
    let root = Path::new(OF_ROOT);
    let only_root = given.is_none() && !own.exists() && root.exists();
    Ok(if only_root { root.to_path_buf() } else { own })
}

/// Where the system keeps the user's sockets, or else where programs keep their state.
fn of_user(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let folder = |name| variable(name).filter(|path| path.is_absolute());
    let runtime = folder("XDG_RUNTIME_DIR");
    let state = || folder("XDG_STATE_HOME").map(|state| state.join("pointsman"));
    let home = || folder("HOME").map(|home| home.join(".local/state/pointsman"));
    runtime.or_else(state).or_else(home).map(|folder| folder.join(NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_a_place_of_their_own() {
        let of = |variables: &[(&str, &str)]| {
            let get = |name: &str| variables.iter().find(|(known, _)| *known == name);
            of_user(|name| get(name).map(|(_, value)| PathBuf::from(value)))
                .map(|path| path.display().to_string())
        };
        let home = ("HOME", "/home/u");
        assert_eq!(of(&[home, ("XDG_RUNTIME_DIR", "/run/user/7")]).unwrap(), "/run/user/7/pointsman.sock");
        assert_eq!(of(&[home]).unwrap(), "/home/u/.local/state/pointsman/pointsman.sock");
        assert_eq!(of(&[home, ("XDG_STATE_HOME", "/s")]).unwrap(), "/s/pointsman/pointsman.sock");
        assert_eq!(of(&[("XDG_RUNTIME_DIR", ""), ("HOME", ".")]), None);
    }

    #[test]
    fn an_empty_flag_means_nowhere() {
        assert_eq!(to_answer(Some("")), None);
        assert_eq!(to_answer(Some("/a")), Some("/a".into()));
        assert!(to_ask(Some("")).is_err_and(|error| error.to_string().contains("--socket")));
    }
}
