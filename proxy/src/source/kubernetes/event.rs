//! Telling the users of Services, and whoever looks after the Node, what they should know: by Kubernetes events.
//!
//! On a thread of its own, one event after the other: what cannot be posted is lost, and nothing waits for it.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};
use endpoint_cache::object::ObjectName;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use modes::Notice;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};

use super::access::Access;
use super::failure::with_causes;
use crate::manual::VERSION;

/// Who says it, in events.
const CONTROLLER: &str = "pointsman";
/// What Kubernetes takes for the namespace of events about what has none.
const NO_NAMESPACE: &str = "default";
/// News that may wait; further ones are only logged.
const PENDING: usize = 256;
/// What has been told is remembered of so many objects.
const REMEMBERED: usize = 4096;
/// How long nothing more is asked of the API server for what could not be posted.
const AFTER_FAILURE: Duration = Duration::from_secs(600);
/// Between events: a cluster full of reasons must not keep the API server busy.
const BETWEEN: Duration = Duration::from_millis(200);
/// How long an event may take.
const WITHIN: Duration = Duration::from_secs(10);
/// The longest text and the longest name of an instance that the API server takes.
const LONGEST_NOTE: usize = 1024;
const LONGEST_INSTANCE: usize = 128;

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct News {
    /// Of what.
    pub(crate) about: About,
    /// Whether somebody should do something about it.
    pub(crate) severity: Severity,
    /// What it is: a word.
    pub(crate) reason: &'static str,
    /// What was being done: a word.
    pub(crate) action: &'static str,
    /// One sentence.
    pub(crate) message: String,
}

/// What an event is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum About {
    /// The own Node.
    Node,
    /// A Service.
    Service(ObjectName),
    /// A NetworkPolicy.
    NetworkPolicy(ObjectName),
}

/// How serious it is, in Kubernetes' words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Something happened.
    Normal,
    /// Something is not as it should be.
    Warning,
}

impl News {
    /// The process has started: kube-proxy's event of that.
    pub(crate) fn starting() -> Self {
        let message = format!("Pointsman {VERSION} is starting");
        let severity = Severity::Normal;
        Self { about: About::Node, severity, reason: "Starting", action: "StartKubeProxy", message }
    }

    /// The process cannot do what it should on this node.
    pub(crate) fn node_warning(reason: &'static str, message: String) -> Self {
        let severity = Severity::Warning;
        Self { about: About::Node, severity, reason, action: "StartKubeProxy", message }
    }

    /// Something of a Service is not as it was asked for.
    pub(crate) fn service_warning(
        service: ObjectName,
        reason: &'static str,
        action: &'static str,
        message: String,
    ) -> Self {
        Self { about: About::Service(service), severity: Severity::Warning, reason, action, message }
    }

    /// Something of a NetworkPolicy makes no sense.
    pub(crate) fn policy_warning(policy: ObjectName, message: String) -> Self {
        let (about, severity) = (About::NetworkPolicy(policy), Severity::Warning);
        Self { about, severity, reason: "AllowsNothing", action: "Sync", message }
    }
}

impl From<&Notice> for News {
    fn from(notice: &Notice) -> Self {
        Self::service_warning(notice.service.clone(), notice.reason, "Sync", notice.message.clone())
    }
}

impl fmt::Display for About {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node => f.write_str("the Node"),
            Self::Service(service) => write!(f, "Service {service}"),
            Self::NetworkPolicy(policy) => write!(f, "NetworkPolicy {policy}"),
        }
    }
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// What the thread is told.
#[derive(Debug)]
enum Message {
    /// To be posted.
    Post(News),
    /// What is gone: another of its name has not been told anything.
    Forget(About),
}

/// Where news are put to become events.
#[derive(Clone, Debug)]
pub(crate) struct Outlet(Sender<Message>);

impl Outlet {
    /// Starts the thread that posts them.
    ///
    /// # Errors
    /// When it or its reactor cannot be started.
    pub(crate) fn start(access: Access, node_name: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start a reactor")?;
        let (sender, messages) = channel(PENDING);
        let writer = Writer { access, node_name: node_name.to_owned(), told: Told::default() };
        let work = move || runtime.block_on(writer.run(messages));
        thread::Builder::new().name("events".to_owned()).spawn(work).context("cannot start a thread")?;
        Ok(Self(sender))
    }

    /// Has an event posted at some time, or not. Never waits.
    pub(crate) fn post(&self, news: impl Into<News>) {
        let news = news.into();
        let about = news.about.clone();
        if self.0.try_send(Message::Post(news)).is_err() {
            tracing::debug!("too many events wait to be posted: none for {about}");
        }
    }

    /// Has another object of this kind and name be told what this one was told. Never waits.
    pub(crate) fn forget(&self, gone: About) {
        // If too much waits, the other one is not told: it is in the log.
        let _ = self.0.try_send(Message::Forget(gone));
    }
}

struct Writer {
    access: Access,
    node_name: String,
    told: Told,
}

impl Writer {
    async fn run(mut self, mut pending: Receiver<Message>) {
        while let Some(message) = pending.recv().await {
            let news = match message {
                Message::Post(news) => news,
                Message::Forget(about) => {
                    self.told.forget(&about);
                    continue;
                }
            };
            if self.told.has(&news, Instant::now()) {
                continue;
            }
            let posted = timeout(WITHIN, self.post(&news)).await;
            let posted = posted.unwrap_or_else(|_| Err(anyhow!("no answer for {WITHIN:?}")));
            if let Err(error) = &posted {
                tracing::debug!("cannot post an event for {}: {error:#}", news.about);
            }
            self.told.remember(&news, posted.is_ok(), Instant::now());
            sleep(BETWEEN).await;
        }
    }

    async fn post(&self, news: &News) -> anyhow::Result<()> {
        let client = self.access.client().await?;
        let uid = match &news.about {
            // As kube-proxy has it, and `kubectl describe node` looks for.
            About::Node => self.node_name.clone(),
            About::Service(name) => uid::<Service>(&client, name).await?.context("it is gone")?,
            About::NetworkPolicy(name) => uid::<NetworkPolicy>(&client, name).await?.context("it is gone")?,
        };
        let event = event(news, &uid, &self.node_name, Timestamp::now());
        let namespace = event.metadata.namespace.as_deref().unwrap_or(NO_NAMESPACE);
        let events: Api<Event> = Api::namespaced(client, namespace);
        events.create(&PostParams::default(), &event).await.map_err(|error| told(&error))?;
        Ok(())
    }
}

/// What was told: of what and why, and until when it is not told again, if it ever is. Kept here, so that who says the same
/// again costs the API server nothing.
#[derive(Debug, Default)]
struct Told(HashMap<(About, &'static str), Option<Instant>>);

impl Told {
    /// Whether these news are not to be told now.
    fn has(&self, news: &News, now: Instant) -> bool {
        let until = self.0.get(&(news.about.clone(), news.reason));
        until.is_some_and(|until| until.is_none_or(|until| now < until))
    }

    fn forget(&mut self, gone: &About) {
        self.0.retain(|(about, _), _| about != gone);
    }

    fn remember(&mut self, news: &News, posted: bool, now: Instant) {
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        let until = (!posted).then_some(now + AFTER_FAILURE);
        self.0.insert((news.about.clone(), news.reason), until);
    }
}

/// By which `kubectl describe` finds the events of an object. Listed, since the ClusterRole system:node-proxier does
/// not let one be read.
async fn uid<K>(client: &Client, name: &ObjectName) -> anyhow::Result<Option<String>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let all: Api<K> = Api::namespaced(client.clone(), &name.namespace);
    let this = ListParams::default().fields(&format!("metadata.name={}", name.name)).limit(1);
    let found = all.list(&this).await.map_err(|error| told(&error))?;
    Ok(found.items.into_iter().next().map(|object| object.meta().uid.clone().unwrap_or_default()))
}

/// What went wrong; in the server's words, if it said no.
pub(super) fn told(error: &kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow!("the API server answered {} {}", status.code, status.message),
        error => anyhow!(with_causes(error)),
    }
}

fn event(news: &News, uid: &str, node_name: &str, now: Timestamp) -> Event {
    let (version, kind, name) = match &news.about {
        About::Node => ("v1", "Node", None),
        About::Service(name) => ("v1", "Service", Some(name)),
        About::NetworkPolicy(name) => ("networking.k8s.io/v1", "NetworkPolicy", Some(name)),
    };
    let namespace = name.map(|name| name.namespace.to_string());
    let name = name.map_or(node_name, |name| &name.name);
    let metadata = ObjectMeta {
        // As client-go makes it: the object's name and the time.
        name: Some(format!("{name}.{:x}", now.as_nanosecond())),
        namespace: Some(namespace.as_deref().unwrap_or(NO_NAMESPACE).to_owned()),
        ..ObjectMeta::default()
    };
    Event {
        metadata,
        event_time: Some(now.into()),
        type_: Some(news.severity.as_str().to_owned()),
        reason: Some(news.reason.to_owned()),
        action: Some(news.action.to_owned()),
        note: Some(cut(news.message.clone(), LONGEST_NOTE)),
        regarding: Some(ObjectReference {
            api_version: Some(version.to_owned()),
            kind: Some(kind.to_owned()),
            namespace,
            name: Some(name.to_owned()),
            uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(cut(format!("{CONTROLLER}-{node_name}"), LONGEST_INSTANCE)),
        ..Event::default()
    }
}

/// At most so many bytes of a text.
fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_what_the_api_server_takes() {
        let notice = Notice {
            service: ObjectName::new("shop", "signalling"),
            reason: "SCTPNotForwarded",
            message: "é".repeat(1000),
        };
        let now: Timestamp = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        let event = serde_json::to_value(event(&News::from(&notice), "u-1", "node", now)).unwrap();
        assert_eq!(event["apiVersion"], "events.k8s.io/v1");
        assert_eq!(event["eventTime"], "2026-01-02T03:04:05.678901Z");
        assert_eq!((&event["type"], &event["reason"]), (&"Warning".into(), &"SCTPNotForwarded".into()));
        assert_eq!(event["metadata"]["namespace"], "shop");
        let regarding = serde_json::json!({"apiVersion": "v1", "kind": "Service", "namespace": "shop",
            "name": "signalling", "uid": "u-1"});
        assert_eq!(event["regarding"], regarding);
        assert_eq!(event["note"].as_str().map(str::len), Some(1024));
        for field in ["action", "reportingController", "reportingInstance"] {
            assert!(event[field].as_str().is_some_and(|text| (1..=128).contains(&text.len())), "{field}");
        }
    }

    #[test]
    fn an_event_about_a_policy_names_its_group() {
        let policy = ObjectName::new("shop", "db");
        let news = News::policy_warning(policy, "spec.ingress[0]: no".to_owned());
        let event = serde_json::to_value(event(&news, "u-2", "node", Timestamp::now())).unwrap();
        let regarding = serde_json::json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "namespace": "shop", "name": "db", "uid": "u-2"});
        assert_eq!(event["regarding"], regarding);
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!(event["reason"], "AllowsNothing");
    }

    #[test]
    fn what_was_told_is_not_told_again_and_what_could_not_be_only_later() {
        let (mut told, now) = (Told::default(), Instant::now());
        let news = |name, reason| {
            News::service_warning(ObjectName::new("shop", name), reason, "Sync", String::new())
        };
        let (posted, lost) = (news("web", "PartlyUnusable"), news("web", "RefusedByKernel"));
        told.remember(&posted, true, now);
        told.remember(&lost, false, now);
        assert!(told.has(&posted, now + 100 * AFTER_FAILURE));
        assert!(told.has(&lost, now + AFTER_FAILURE / 2));
        assert!(!told.has(&lost, now + AFTER_FAILURE));
        assert!(!told.has(&news("dns", "PartlyUnusable"), now));
    }

    #[test]
    fn an_event_about_the_node_is_in_the_namespace_of_those_that_have_none() {
        let now: Timestamp = "2026-01-02T03:04:05.678901Z".parse().unwrap();
        let event = serde_json::to_value(event(&News::starting(), "node", "node", now)).unwrap();
        assert_eq!(event["metadata"]["namespace"], "default");
        assert_eq!((&event["type"], &event["reason"]), (&"Normal".into(), &"Starting".into()));
        let regarding =
            serde_json::json!({"apiVersion": "v1", "kind": "Node", "name": "node", "uid": "node"});
        assert_eq!(event["regarding"], regarding);
        assert_eq!(event["reportingInstance"], "pointsman-node");
    }
}
