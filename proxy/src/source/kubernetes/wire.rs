//! What the API server sends: lists, and the events of a watch. Pure.

use endpoint_cache::object::{Kind, ObjectName, ObjectRef};
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::failure::Failure;

/// Annotation of the bookmark that ends the initial part of a streaming list.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// A page of a list. Objects stay as text, so that one which cannot be read is no loss of the others.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    pub(super) metadata: PageMetadata,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

/// Where a page stands.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PageMetadata {
    /// The version that the whole list shows.
    pub(super) resource_version: String,
    /// What to ask the next page by; empty on the last.
    #[serde(rename = "continue")]
    pub(super) next: String,
}

impl<'a> Page<'a> {
    pub(super) fn read(text: &'a [u8]) -> Result<Self, Failure> {
        let page: Self = serde_json::from_slice(text).map_err(Failure::Garbage)?;
        // The last page must say from where to go on.
        if page.metadata.resource_version.is_empty() && page.metadata.next.is_empty() {
            return Err(Failure::Truncated);
        }
        Ok(page)
    }
}

/// An event of a watch.
#[derive(Debug)]
pub(super) enum Happened<'a> {
    /// An object was added or changed.
    Is(&'a RawValue),
    /// An object is gone, or is not selected any longer.
    Gone(Named),
    /// Nothing, up to this version. True at the end of the initial part of a streaming list.
    Bookmark(Named, bool),
}

/// What every object has: enough to know which it is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    metadata: NamedMetadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NamedMetadata {
    namespace: String,
    name: String,
    resource_version: String,
    annotations: Option<serde_json::Map<String, serde_json::Value>>,
}

impl Named {
    pub(super) fn read(object: &RawValue) -> Result<Self, Failure> {
        serde_json::from_str(object.get()).map_err(Failure::Garbage)
    }

    /// The version that the object stands for.
    pub(super) fn version(&self) -> &str {
        &self.metadata.resource_version
    }

    /// Which object of a kind it is.
    pub(super) fn of(&self, kind: Kind) -> ObjectRef {
        ObjectRef { kind, name: ObjectName::new(&self.metadata.namespace, &self.metadata.name) }
    }
}

impl<'a> Happened<'a> {
    /// Reads a line of a watch.
    pub(super) fn read(line: &'a [u8]) -> Result<Self, Failure> {
        #[derive(Deserialize)]
        struct Line<'a> {
            r#type: &'a str,
            #[serde(borrow)]
            object: &'a RawValue,
        }
        let line: Line<'a> = serde_json::from_slice(line).map_err(Failure::Garbage)?;
        match line.r#type {
            "ADDED" | "MODIFIED" => Ok(Self::Is(line.object)),
            "DELETED" => Named::read(line.object).map(Self::Gone),
            "BOOKMARK" => {
                let object = Named::read(line.object)?;
                let annotations = object.metadata.annotations.as_ref();
                let ends = annotations.is_some_and(|annotations| annotations.contains_key(INITIAL_END));
                Ok(Self::Bookmark(object, ends))
            }
            "ERROR" => {
                let status: Status = serde_json::from_str(line.object.get()).map_err(Failure::Garbage)?;
                Err(Failure::Refused { status: Box::new(status), retry_after: None })
            }
            other => Err(Failure::Garbage(serde::de::Error::custom(format!("unknown event {other:?}")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn happened(line: &str) -> Result<Happened<'_>, Failure> {
        Happened::read(line.as_bytes())
    }

    #[test]
    fn a_page_keeps_its_objects_apart() {
        let text = br#"{"kind":"ServiceList","metadata":{"resourceVersion":"7","continue":"c","remainingItemCount":3},
            "items":[{"metadata":{"name":"a"}},{"spec":17}]}"#;
        let page = Page::read(text).unwrap();
        assert_eq!((&*page.metadata.resource_version, &*page.metadata.next), ("7", "c"));
        assert_eq!(page.items.unwrap()[1].get(), r#"{"spec":17}"#);
    }

    #[test]
    fn an_empty_list_is_a_list() {
        for items in ["", r#","items":null"#, r#","items":[]"#] {
            let text = format!(r#"{{"metadata":{{"resourceVersion":"7"}}{items}}}"#);
            assert_eq!(Page::read(text.as_bytes()).unwrap().items.unwrap_or_default().len(), 0);
        }
    }

    #[test]
    fn a_page_that_leads_nowhere_is_refused() {
        for text in ["{}", r#"{"metadata":{},"items":[]}"#, "<html>", ""] {
            assert!(Page::read(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn events_are_told_apart() {
        let object = r#"{"metadata":{"namespace":"n","name":"a","resourceVersion":"9"}}"#;
        for kind in ["ADDED", "MODIFIED"] {
            let line = format!(r#"{{"type":"{kind}","object":{object}}}"#);
            assert!(matches!(happened(&line), Ok(Happened::Is(is)) if is.get() == object));
        }
        let Ok(Happened::Gone(gone)) = happened(&format!(r#"{{"type":"DELETED","object":{object}}}"#)) else {
            panic!("not gone");
        };
        assert_eq!((gone.version(), gone.of(Kind::Service).to_string()), ("9", "Service n/a".to_owned()));
    }

    #[test]
    fn the_end_of_the_initial_part_is_a_bookmark_with_a_mark() {
        let bookmark = |annotations: &str| {
            let metadata = format!(r#"{{"resourceVersion":"9"{annotations}}}"#);
            let line = format!(r#"{{"type":"BOOKMARK","object":{{"metadata":{metadata}}}}}"#);
            match happened(&line) {
                Ok(Happened::Bookmark(object, ends)) => (object.version().to_owned(), ends),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(bookmark(""), ("9".to_owned(), false));
        assert_eq!(bookmark(r#","annotations":null"#), ("9".to_owned(), false));
        let mark = r#","annotations":{"k8s.io/initial-events-end":"true"}"#;
        assert_eq!(bookmark(mark), ("9".to_owned(), true));
    }

    #[test]
    fn an_error_says_whether_a_list_is_needed() {
        let failure = |status: &str| {
            happened(&format!(r#"{{"type":"ERROR","object":{status}}}"#)).expect_err("an error is a failure")
        };
        let expired = failure(r#"{"kind":"Status","code":410,"reason":"Expired","message":"too old"}"#);
        assert!(expired.lost_its_place());
        assert_eq!(expired.reason(), "expired");
        let ahead = r#"{"code":504,"message":"Timeout: Too large resource version: 7, current: 3"}"#;
        assert!(failure(ahead).lost_its_place());
        let caused = r#"{"code":504,"details":{"causes":[{"reason":"ResourceVersionTooLarge"}]}}"#;
        assert!(failure(caused).lost_its_place());
        assert!(!failure(r#"{"code":500,"message":"etcd is away"}"#).lost_its_place());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            drop(Page::read(&text));
            drop(Happened::read(&text));
        }
    }
}
