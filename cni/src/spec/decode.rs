//! From bytes to values, with a bound on the one and a place in each complaint about the other.

use std::io::Read;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Code, Error};

/// A configuration that is longer is refused. The longest that a runtime sends lists a node's attachments.
pub const MOST_BYTES: u64 = 1024 * 1024;

/// Reads a configuration to its end.
///
/// # Errors
/// When it cannot be read, or is too long.
pub fn read(from: impl Read) -> Result<Vec<u8>, Error> {
    let mut text = Vec::new();
    from.take(MOST_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| Error::new(Code::IO, "cannot read standard input").with(error.to_string()))?;
    if text.len() as u64 > MOST_BYTES {
        let why = format!("it is longer than {MOST_BYTES} bytes");
        return Err(Error::new(Code::DECODING, "the network configuration is too long").with(why));
    }
    Ok(text)
}

/// The object that is the configuration.
pub(super) fn object(text: &[u8]) -> Result<Map<String, Value>, Error> {
    let refused = |why: String| Error::new(Code::DECODING, "the network configuration is not JSON").with(why);
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(refused("standard input is empty".into()));
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(refused("it is no object".into())),
        Err(error) => Err(refused(error.to_string())),
    }
}

/// Gives a value its type. A complaint has the path within it, after `what`.
pub(super) fn decode<T: DeserializeOwned>(value: &Value, what: &str) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = match (what, error.path().to_string().as_str()) {
            ("", path) => path.to_owned(),
            (what, ".") => what.to_owned(),
            (what, path) => format!("{what}.{path}"),
        };
        Error::new(Code::DECODING, "the network configuration cannot be understood")
            .with(format!("{path}: {}", error.inner()))
    })
}

/// `null` is as good as nothing: programs written in Go say it for empty lists.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_is_read() {
        let most = usize::try_from(MOST_BYTES).unwrap();
        assert_eq!(read(&vec![b' '; most][..]).unwrap().len(), most);
        assert_eq!(read(std::io::repeat(b' ')).unwrap_err().code, Code::DECODING);
    }

    #[test]
    fn what_cannot_be_read_is_an_io_failure() {
        let folder = std::fs::File::open("/").unwrap();
        assert_eq!(read(folder).unwrap_err().code, Code::IO);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let deep = "[".repeat(100_000);
        for text in ["", "  \n", "{", "[]", "null", "3", "{\"a\":1} {}", "{a:1}", &deep] {
            assert_eq!(object(text.as_bytes()).unwrap_err().code, Code::DECODING, "{text:.20}");
        }
        assert!(object(b"\xff\xfe").is_err());
        assert_eq!(object(b" {\"a\": 1}\n").unwrap().len(), 1);
    }
}
