//! Where the API server is, and who we are to it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use kube::client::ClientBuilder;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use super::counted::CountedBy;
use super::failure::with_causes;
use crate::telemetry::Requests;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// How to reach the API server, in kube-proxy's terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Through the pod's service account.
    InCluster,
    /// As a kubeconfig file says, but at another address if one is given.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The other address.
        master: Option<String>,
    },
    /// At an address, as nobody in particular.
    Master(String),
}

impl Access {
    /// From the flags `--kubeconfig` and `--master`; without either, through the pod's service account.
    pub(crate) fn of(kubeconfig: Option<PathBuf>, master: Option<String>) -> Self {
        match (kubeconfig, master) {
            (Some(path), master) => Self::Kubeconfig { path, master },
            (None, Some(master)) => Self::Master(master),
            (None, None) => Self::InCluster,
        }
    }

    /// A client, from files read anew: certificates and tokens are replaced in flight.
    ///
    /// # Errors
    /// When they cannot be read or make no sense.
    pub(super) async fn client(&self) -> anyhow::Result<Client> {
        let config = self.bounded_config().await?;
        Client::try_from(config).map_err(|error| self.unusable(&error))
    }

    /// The same, with its requests counted.
    ///
    /// # Errors
    /// As [`Access::client`].
    pub(super) async fn client_counted_by(&self, requests: &Requests) -> anyhow::Result<Client> {
        let config = self.bounded_config().await?;
        let host = config.cluster_url.authority().map(ToString::to_string).unwrap_or_default();
        let builder = ClientBuilder::try_from(config).map_err(|error| self.unusable(&error))?;
        Ok(builder.with_layer(&CountedBy { requests: requests.clone(), host }).build())
    }

    fn unusable(&self, error: &kube::Error) -> anyhow::Error {
        anyhow!("cannot use {self}: {}", with_causes(error))
    }

    async fn bounded_config(&self) -> anyhow::Result<Config> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        config.write_timeout = Some(SEND_WITHIN);
        // Answers have bounds of their own, and what failed is tried again with an eye on why.
        config.read_timeout = None;
        config.default_retry = false;
        Ok(config)
    }

    async fn config(&self) -> anyhow::Result<Config> {
        match self {
            Self::InCluster => Config::incluster().map_err(|error| {
                anyhow!(
                    "neither --manifests nor --kubeconfig nor --master is given, and this is no pod with a service \
                     account: {}",
                    with_causes(&error)
                )
            }),
            Self::Master(master) => Ok(Config::new(address(master)?)),
            Self::Kubeconfig { path, master } => {
                let unusable = |error| {
                    anyhow!("cannot use --kubeconfig {}: {}", path.display(), with_causes(&error))
                };
                let file = Kubeconfig::read_from(path).map_err(unusable)?;
                let options = KubeConfigOptions::default();
                let mut config = Config::from_custom_kubeconfig(file, &options).await.map_err(unusable)?;
                if let Some(master) = master {
                    config.cluster_url = address(master)?;
                }
                Ok(config)
            }
        }
    }
}

fn address(master: &str) -> anyhow::Result<hyper::Uri> {
    let url = if master.contains("://") { master.to_owned() } else { format!("http://{master}") };
    let parsed: Result<hyper::Uri, _> = url.parse();
    let usable = parsed.ok().filter(|url| url.host().is_some());
    usable.ok_or_else(|| anyhow!("--master {master:?} is no address such as https://10.0.0.1:6443"))
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InCluster => f.write_str("the pod's service account"),
            Self::Kubeconfig { path, master: None } => write!(f, "kubeconfig {}", path.display()),
            Self::Kubeconfig { path, master: Some(master) } => {
                write!(f, "kubeconfig {} at {master}", path.display())
            }
            Self::Master(master) => f.write_str(master),
        }
    }
}
