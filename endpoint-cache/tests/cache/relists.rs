//! A list that replaces all objects of a kind.

use endpoint_cache::Update::{ListBegins, ListEnds};
use endpoint_cache::object::Kind;
use endpoint_cache::{Cache, Update};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

use crate::generate::{object_of, update};
use crate::objects::*;

fn web_and_shop() -> [Update; 4] {
    [
        plain("web", "10.0.0.1"),
        plain("shop", "10.0.0.2"),
        slice("web-1", "web", json!([ready("10.1.0.1", "them")])),
        slice("shop-1", "shop", json!([ready("10.1.0.2", "them")])),
    ]
}

#[test]
fn what_is_not_in_the_list_is_gone_and_the_rest_is_untouched() {
    let mut proxy = Proxy::with(web_and_shop());
    let delta =
        proxy.tell_all([ListBegins(Kind::Service), plain("web", "10.0.0.1"), ListEnds(Kind::Service)]);
    let [change] = &delta.changes[..] else { panic!("one change: {:?}", delta.changes) };
    assert!(change.before.as_ref().is_some_and(|gone| gone.name.to_string() == "ns/shop"));
    assert!(change.after.is_none());
}

#[test]
fn nothing_goes_before_the_list_is_complete() {
    let mut proxy = Proxy::with(web_and_shop());
    assert!(proxy.tell(ListBegins(Kind::EndpointSlice)).is_empty());
    assert!(proxy.tell(ListBegins(Kind::EndpointSlice)).is_empty(), "the first was broken off");
    let kept = slice("shop-1", "shop", json!([ready("10.1.0.2", "them")]));
    assert!(proxy.tell(kept).is_empty());
    assert_eq!(proxy.tell(ListEnds(Kind::EndpointSlice)).changes.len(), 1);
    assert!(proxy.v4("ns/web").cluster_endpoints.is_empty());
}

#[test]
fn an_end_without_a_beginning_takes_nothing_away() {
    let mut proxy = Proxy::with(web_and_shop());
    for kind in [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr] {
        assert!(proxy.tell(ListEnds(kind)).is_empty());
    }
}

#[test]
fn an_object_that_was_refused_is_forgotten_too() {
    let broken = || plain("web", "10.0.0.300");
    let mut proxy = Proxy::new();
    let first = proxy.tell(broken());
    assert!(!first.problems.is_empty(), "an address that is none is reported");
    assert!(proxy.tell(broken()).problems.is_empty(), "once");
    proxy.tell_all([ListBegins(Kind::Service), ListEnds(Kind::Service)]);
    assert_eq!(proxy.tell(broken()).problems, first.problems, "it came back");
}

proptest! {
    #[test]
    fn a_list_leads_where_a_fresh_start_would(
        history in vec(update(), 0..40),
        list in vec(update(), 0..20),
    ) {
        let list: Vec<Update> = list.into_iter().filter(|u| !matches!(u, Update::Deleted(_))).collect();
        let kinds = [Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::ServiceCidr];
        let mut relisted = Cache::new(NODE);
        history.into_iter().for_each(|update| relisted.apply(update));
        for kind in kinds {
            relisted.apply(ListBegins(kind));
            list.iter().filter(|u| object_of(u).kind == kind).for_each(|u| relisted.apply(u.clone()));
            relisted.apply(ListEnds(kind));
        }
        relisted.take_delta();
        let mut fresh = Cache::new(NODE);
        for kind in kinds {
            list.iter().filter(|u| object_of(u).kind == kind).for_each(|u| fresh.apply(u.clone()));
        }
        fresh.take_delta();
        let (relisted, fresh) = (relisted.desired(), fresh.desired());
        prop_assert_eq!(relisted.service_ports, fresh.service_ports);
        prop_assert_eq!(relisted.node, fresh.node);
        prop_assert_eq!(relisted.service_cidrs, fresh.service_cidrs);
    }
}
