//! `CNI_ARGS`: what a runtime says of a container beside the configuration.

use super::{Code, Error};

/// More than this is no runtime's.
const MOST_BYTES: usize = 64 * 1024;

/// Pairs of a key and a value. Whoever does not know a key passes over it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arguments(Vec<(String, String)>);

impl Arguments {
    /// What `KEY=VALUE;KEY=VALUE` says.
    ///
    /// # Errors
    /// When something in it is no pair.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.len() > MOST_BYTES {
            return Err(Error::new(Code::ENVIRONMENT, format!("CNI_ARGS is longer than {MOST_BYTES} bytes")));
        }
        let pairs = text.split(';').filter(|pair| !pair.trim().is_empty());
        let pair = |pair: &str| match pair.split_once('=') {
            Some((key, value)) if !key.trim().is_empty() => {
                Ok((key.trim().to_owned(), value.trim().to_owned()))
            }
            _ => Err(Error::new(Code::ENVIRONMENT, "CNI_ARGS makes no sense")
                .with(format!("{pair:?} is not of the form KEY=VALUE"))),
        };
        pairs.map(pair).collect::<Result<_, _>>().map(Self)
    }

    /// The value of a key, if it is there and not empty. The last one counts.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// The pod that the container belongs to, as `NAMESPACE/NAME`, when Kubernetes' runtimes say so.
    #[must_use]
    pub fn pod(&self) -> Option<String> {
        Some(format!("{}/{}", self.get("K8S_POD_NAMESPACE")?, self.get("K8S_POD_NAME")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_taken_apart() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;;EMPTY=;IP=10.0.0.5;A=b=c";
        let arguments = Arguments::parse(text).unwrap();
        assert_eq!(arguments.pod().unwrap(), "shop/web-0");
        assert_eq!(arguments.get("IP"), Some("10.0.0.5"));
        assert_eq!(arguments.get("A"), Some("b=c"));
        assert_eq!(arguments.get("EMPTY"), None);
        assert_eq!(arguments.get("NONE"), None);
        assert_eq!(Arguments::parse("").unwrap().pod(), None);
    }

    #[test]
    fn what_is_no_pair_is_refused() {
        for text in ["nonsense", "A=1;nonsense", "=1"] {
            let error = Arguments::parse(text).unwrap_err();
            assert_eq!(error.code, Code::ENVIRONMENT);
            assert!(error.msg.contains("CNI_ARGS"));
        }
    }
}
