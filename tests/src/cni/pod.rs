//! A pod that a plugin gives an interface.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::list::Attachment;
use crate::bed::Family;
use crate::namespace::Namespace;
use crate::place::{Outcome, Place, Protocol};
use crate::responder::Responder;

/// The port that pods answer on.
pub const PORT: u16 = 8080;

/// A pod: its namespace, and how it is attached.
#[derive(Debug)]
pub struct Pod {
    /// Its network namespace.
    pub namespace: Namespace,
    /// How it is attached.
    pub attachment: Attachment,
    /// What ADD came to.
    pub result: Value,
    responders: Vec<Responder>,
}

impl Pod {
    /// A pod that is not attached yet, whose container is called by its name.
    ///
    /// # Errors
    /// When the namespace cannot be made.
    pub fn new(name: &str) -> Result<Self> {
        let namespace = Namespace::new(name)?;
        // As a runtime leaves them: addresses are subject to duplicate address detection.
        for scope in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{scope}/accept_dad"), "1")?;
        }
        let attachment = Attachment::new(name, netns(name));
        Ok(Self { namespace, attachment, result: Value::Null, responders: Vec::new() })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// Its addresses, as the result has them.
    ///
    /// # Errors
    /// When one makes no sense.
    pub fn addresses(&self) -> Result<Vec<IpAddr>> {
        addresses(&self.result)
    }

    /// Its address of a family.
    ///
    /// # Errors
    /// When it has none.
    pub fn ip(&self, family: Family) -> Result<IpAddr> {
        let is_of = |ip: &IpAddr| ip.is_ipv4() == (family == Family::V4);
        let found = self.addresses()?.into_iter().find(is_of);
        found.with_context(|| format!("{} has no address of {}: {}", self.name(), family.name(), self.result))
    }

    /// Answers at all its addresses from now on.
    ///
    /// # Errors
    /// When an address cannot be used at once.
    pub fn answer(&mut self) -> Result<()> {
        self.answer_on(PORT)
    }

    /// Answers at all its addresses on another port.
    ///
    /// # Errors
    /// When an address cannot be used at once.
    pub fn answer_on(&mut self, port: u16) -> Result<()> {
        for ip in self.addresses()? {
            let responder = Responder::new(&self.namespace, (ip, port).into(), self.namespace.name())?;
            self.responders.push(responder);
        }
        Ok(())
    }

    /// A place to connect from.
    #[must_use]
    pub fn place(&self) -> Place<'_> {
        Place::of(&self.namespace)
    }

    /// Reaches another pod in both protocols and every family that it has, seen as itself.
    ///
    /// # Errors
    /// When it does not.
    pub fn must_reach(&self, other: &Self) -> Result<()> {
        for ip in other.addresses()? {
            let own = self.ip(if ip.is_ipv4() { Family::V4 } else { Family::V6 })?;
            for protocol in Protocol::BOTH {
                let outcome = self.place().connect(protocol, SocketAddr::new(ip, PORT))?;
                let wanted = Outcome::Answered { by: other.name().to_owned(), seen_as: own };
                ensure!(outcome == wanted, "{} to {ip} over {protocol:?}: {outcome}", self.name());
            }
        }
        Ok(())
    }
}

/// The addresses of a result, of whatever version.
///
/// # Errors
/// When one makes no sense.
pub(super) fn addresses(result: &Value) -> Result<Vec<IpAddr>> {
    let listed = result["ips"].as_array().with_context(|| format!("a result without ips: {result}"))?;
    let address = |ip: &Value| -> Result<IpAddr> {
        let text = ip["address"].as_str().with_context(|| format!("an address that is none: {ip}"))?;
        Ok(text.split('/').next().unwrap_or_default().parse()?)
    };
    listed.iter().map(address).collect()
}

/// Where a named network namespace is.
fn netns(name: &str) -> PathBuf {
    PathBuf::from("/run/netns").join(name)
}
