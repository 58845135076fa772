//! Telling the users of Services, by Kubernetes events, what they should know.
//!
//! On a thread of its own, one event after the other: what cannot be posted is lost, and nothing waits for it.

use std::collections::HashSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use endpoint_cache::object::ObjectName;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use modes::Notice;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{sleep, timeout};

use super::access::Access;
use super::failure::with_causes;

/// Who says it, in events.
const CONTROLLER: &str = "pointsman";
/// What we did, in events.
const ACTION: &str = "Sync";
/// Notices that may wait; further ones are only logged.
const PENDING: usize = 256;
/// What has been told is remembered of so many objects.
const REMEMBERED: usize = 4096;
/// Between events: a cluster full of reasons must not keep the API server busy.
const BETWEEN: Duration = Duration::from_millis(200);
/// How long an event may take.
const WITHIN: Duration = Duration::from_secs(10);
/// The longest text and the longest name of an instance that the API server takes.
const LONGEST_NOTE: usize = 1024;
const LONGEST_INSTANCE: usize = 128;

/// Where notices are put to become events.
#[derive(Debug)]
pub(crate) struct Outlet(Sender<Notice>);

impl Outlet {
    /// Starts the thread that posts them.
    ///
    /// # Errors
    /// When it or its reactor cannot be started.
    pub(crate) fn start(access: Access, node_name: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start a reactor")?;
        let (sender, notices) = channel(PENDING);
        let instance = cut(format!("{CONTROLLER}-{node_name}"), LONGEST_INSTANCE);
        let writer = Writer { access, instance, told: HashSet::new() };
        let work = move || runtime.block_on(writer.run(notices));
        thread::Builder::new().name("events".to_owned()).spawn(work).context("cannot start a thread")?;
        Ok(Self(sender))
    }

    /// Has an event posted at some time, or not. Never waits.
    pub(crate) fn post(&self, notice: &Notice) {
        if self.0.try_send(notice.clone()).is_err() {
            tracing::debug!("too many events wait to be posted: none for Service {}", notice.service);
        }
    }
}

struct Writer {
    access: Access,
    /// Which of the processes it is.
    instance: String,
    /// A Service, its uid, and a reason.
    told: HashSet<(ObjectName, String, &'static str)>,
}

impl Writer {
    async fn run(mut self, mut notices: Receiver<Notice>) {
        while let Some(notice) = notices.recv().await {
            let posted = timeout(WITHIN, self.post(&notice)).await;
            let posted = posted.unwrap_or_else(|_| Err(anyhow!("no answer for {WITHIN:?}")));
            if let Err(error) = posted {
                tracing::debug!("cannot post an event for Service {}: {error:#}", notice.service);
            }
            sleep(BETWEEN).await;
        }
    }

    /// Posts an event, unless the Service is gone or was told the same.
    async fn post(&mut self, notice: &Notice) -> anyhow::Result<()> {
        let client = self.access.client().await?;
        let Some(uid) = uid(&client, &notice.service).await? else { return Ok(()) };
        let key = (notice.service.clone(), uid, notice.reason);
        if self.told.contains(&key) {
            return Ok(());
        }
        let event = event(notice, &key.1, &self.instance, Timestamp::now());
        let events: Api<Event> = Api::namespaced(client, &notice.service.namespace);
        events.create(&PostParams::default(), &event).await.map_err(|error| told(&error))?;
        if self.told.len() >= REMEMBERED {
            self.told.clear();
        }
        self.told.insert(key);
        Ok(())
    }
}

/// By which `kubectl describe` finds the events of a Service. Listed, since the ClusterRole system:node-proxier does
/// not let one be read.
async fn uid(client: &Client, service: &ObjectName) -> anyhow::Result<Option<String>> {
    let services: Api<Service> = Api::namespaced(client.clone(), &service.namespace);
    let this = ListParams::default().fields(&format!("metadata.name={}", service.name)).limit(1);
    let found = services.list(&this).await.map_err(|error| told(&error))?;
    Ok(found.items.into_iter().next().map(|service| service.metadata.uid.unwrap_or_default()))
}

/// What went wrong; in the server's words, if it said no.
fn told(error: &kube::Error) -> anyhow::Error {
    match error {
        kube::Error::Api(status) => anyhow!("the API server answered {} {}", status.code, status.message),
        error => anyhow!(with_causes(error)),
    }
}

fn event(notice: &Notice, uid: &str, instance: &str, now: Timestamp) -> Event {
    let Notice { service, reason, message } = notice;
    // As client-go makes it: the object's name and the time.
    let name = format!("{}.{:x}", service.name, now.as_nanosecond());
    let namespace = Some(service.namespace.to_string());
    Event {
        metadata: ObjectMeta { name: Some(name), namespace: namespace.clone(), ..ObjectMeta::default() },
        event_time: Some(now.into()),
        type_: Some("Warning".to_owned()),
        reason: Some((*reason).to_owned()),
        action: Some(ACTION.to_owned()),
        note: Some(cut(message.clone(), LONGEST_NOTE)),
        regarding: Some(ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Service".to_owned()),
            namespace,
            name: Some(service.name.to_string()),
            uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
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
        let event = serde_json::to_value(event(&notice, "u-1", "pointsman-node", now)).unwrap();
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
}
