//! What is read from the text of one file.

use super::*;

/// The objects of a text, and its problems as `line: reason`.
fn read(text: &str) -> (Vec<String>, Vec<String>) {
    let (objects, parsed) = parse(text, &|_| None);
    let problems = parsed.problems.iter().map(|fault| format!("{}: {}", fault.line, fault.reason)).collect();
    (brief(objects.into_iter().filter_map(|found| found.update)), problems)
}

fn objects(text: &str) -> Vec<String> {
    let (objects, problems) = read(text);
    assert_eq!(problems, [""; 0], "{text}");
    objects
}

fn problems(text: &str) -> Vec<String> {
    read(text).1
}

const LIST: &str = "\
apiVersion: v1
items:
- apiVersion: v1
  kind: Service
  metadata:
    name: a
  spec:
    clusterIP: 10.0.0.1
- apiVersion: discovery.k8s.io/v1
  addressType: IPv4
  endpoints:
  - addresses:
    - 10.1.0.1
  kind: EndpointSlice
  metadata:
    name: a-1
- apiVersion: v1
  kind: Pod
  metadata:
    name: p
kind: List
metadata:
  resourceVersion: \"\"
";

#[test]
fn documents_and_lists_in_yaml() {
    assert_eq!(
        objects(&format!("{}---\n{}", service("a", "10.0.0.1"), service("b", "10.0.0.2"))),
        ["a 10.0.0.1", "b 10.0.0.2"]
    );
    assert_eq!(objects(LIST), ["a 10.0.0.1", "a-1 1"]);
    assert_eq!(objects("apiVersion: v1\nkind: NodeList\nitems:\n- metadata: {name: n}\n"), ["node n"]);
    assert_eq!(objects("apiVersion: v1\nkind: List\nitems: []\n"), [""; 0]);
    assert_eq!(
        objects("apiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata:\n  name: kubernetes\n"),
        ["cidr kubernetes"]
    );
}

#[test]
fn documents_and_lists_in_json() {
    let one = r#"{"kind": "Service", "apiVersion": "v1", "metadata": {"name": "a"}, "spec": {"clusterIP": "10.0.0.1"}}"#;
    assert_eq!(objects(one), ["a 10.0.0.1"]);
    assert_eq!(objects(&format!("{one}\n---\n{}", service("b", "10.0.0.2"))), ["a 10.0.0.1", "b 10.0.0.2"]);
    let list = format!(
        "{{\"items\": [\n{one},\n{{\"kind\": \"Pod\", \"apiVersion\": \"v1\"}}],\n\"kind\": \"List\", \"apiVersion\": \"v1\"}}"
    );
    assert_eq!(objects(&list), ["a 10.0.0.1"]);
    let found: Vec<usize> = parse(&list, &|_| None).0.iter().map(|found| found.line).collect();
    assert_eq!(found, [2]);
}

#[test]
fn yaml_in_flow_style_and_with_anchors() {
    assert_eq!(objects("{kind: Node, apiVersion: v1, metadata: {name: n}}"), ["node n"]);
    let list = "\
apiVersion: v1
kind: ServiceList
items:
- metadata: {name: a}
  spec: &spec
    clusterIP: 10.0.0.1
- metadata: {name: b}
  spec: *spec
";
    assert_eq!(objects(list), ["a 10.0.0.1", "b 10.0.0.1"]);
    let found: Vec<usize> = parse(list, &|_| None).0.iter().map(|found| found.line).collect();
    assert_eq!(found, [4, 7]);
}

#[test]
fn a_broken_document_takes_no_other_along() {
    let text = format!("{}---\nkind: [Service\n---\n{}", service("a", "10.0.0.1"), service("b", "10.0.0.2"));
    let (objects, problems) = read(&text);
    assert_eq!(objects, ["a 10.0.0.1", "b 10.0.0.2"]);
    assert_eq!(problems.len(), 1);
    assert!(problems[0].starts_with("10: ") && !problems[0].contains(" at line "), "{problems:?}");
}

#[test]
fn a_broken_item_takes_no_other_along() {
    let broken = LIST.replace("clusterIP: 10.0.0.1", "clusterIP: [10.0.0.1]");
    let (objects, problems) = read(&broken);
    assert_eq!(objects, ["a-1 1"]);
    assert!(problems.len() == 1 && problems[0].starts_with("8: "), "{problems:?}");
}

#[test]
fn problems_name_the_line_of_the_file() {
    let long = format!("# one\n---\n{}", service("a", "10.0.0.1").replace("port: 80", "port: [80]"));
    assert!(problems(&long)[0].starts_with("10: "), "{:?}", problems(&long));
    let json = "\n\n{\"kind\": \"Service\", \"apiVersion\": \"v1\",\n\"metadata\": {\"name\": 1}}";
    assert!(problems(json)[0].starts_with("4: "), "{:?}", problems(json));
    let list = "{\"kind\": \"ServiceList\", \"apiVersion\": \"v1\", \"items\": [\n{},\n{\"spec\":\n7}]}";
    assert!(
        problems(list)[0].starts_with("2: ") && problems(list)[1].starts_with("4: "),
        "{:?}",
        problems(list)
    );
}

#[test]
fn what_is_no_object_is_a_problem_and_what_is_another_kind_is_not() {
    assert_eq!(problems("a: 1\n"), ["1: no Kubernetes object: apiVersion or kind is missing"]);
    assert_eq!(problems("apiVersion: v1\nkind: Service\n"), ["1: Service without metadata.name"]);
    assert_eq!(
        problems("apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n"),
        ["4: a list within a list"]
    );
    let (_, parsed) = parse("# note\n---\napiVersion: serving.knative.dev/v1\nkind: Service\n", &|_| None);
    assert_eq!(parsed.ignored, [(2, "serving.knative.dev/v1 Service".to_owned())]);
    assert_eq!(problems("hello"), problems("hello"));
    assert_eq!(problems("hello").len(), 1);
}

#[test]
fn a_text_that_blows_up_is_refused() {
    let mut bomb = "apiVersion: v1\nkind: Service\nx0: &x0 [a,a,a,a,a,a,a,a,a,a]\n".to_owned();
    for level in 1..12 {
        let alias = format!("*x{}", level - 1);
        bomb += &format!("x{level}: &x{level} [{}]\n", [&*alias; 10].join(","));
    }
    assert_eq!(problems(&bomb).len(), 1);
    let deep = format!("apiVersion: v1\nkind: Service\nx: {}", "[".repeat(100_000));
    assert_eq!(problems(&deep).len(), 1);
    let deep = format!("{{\"x\": {}", "[".repeat(100_000));
    assert_eq!(problems(&deep).len(), 1);
}

#[test]
fn known_text_is_not_decoded_again() {
    let (first, _) = parse(LIST, &|_| None);
    let known = |hash| first.iter().find(|found| found.hash == hash).map(|found| found.object.clone());
    let changed = LIST.replace("10.1.0.1", "10.1.0.2");
    let (again, _) = parse(&format!("# moved down\n{changed}"), &known);
    let decoded: Vec<bool> = again.iter().map(|found| found.update.is_some()).collect();
    assert_eq!(decoded, [false, true]);
}

proptest! {
    /// Whatever is in a file: no panic, and no line that is not there.
    #[test]
    fn any_text_is_read(text in "(?s).{0,300}") {
        // Parsers may count more line ends than the one that everybody else does.
        let lines = text.matches(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']).count() + 1;
        for fault in parse(&text, &|_| None).1.problems {
            prop_assert!((1..=lines).contains(&fault.line), "{fault:?}");
        }
    }

    /// Pieces of manifests, in any order and broken anywhere.
    #[test]
    fn any_mixture_is_read(
        parts in prop::collection::vec(prop::sample::select(vec![
            "apiVersion: v1\n", "kind: Service\n", "kind: List\n", "items:\n", "- apiVersion: v1\n", "  kind: Service\n",
            "  metadata:\n", "    name: a\n", "---\n", "metadata: {name: b}\n", "{", "}", "[", "]", "\"", ": ", "&a ", "*a ",
            "|\n", "\t", "#", "\"items\": [", "\"kind\": \"List\", \"apiVersion\": \"v1\"", ", ", "é", "%", "? ", "!!", "<<: ",
        ]), 0..40),
    ) {
        let text = parts.concat();
        drop(parse(&text, &|_| None));
    }

    /// A good document among broken ones is read.
    #[test]
    fn a_good_document_is_read_among_any_others(before in "[^-.]{0,100}", after in "[^-.]{0,100}") {
        let text = format!("{before}\n---\n{}---\n{after}\n", service("good", "10.0.0.1"));
        prop_assert!(read(&text).0.contains(&"good 10.0.0.1".to_owned()));
    }
}

#[test]
fn policies_read_their_own_kinds_and_no_others() {
    let policy =
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: shop, name: deny}\n";
    let namespaces = "apiVersion: v1\nkind: NamespaceList\nitems:\n- metadata: {name: shop}\n";
    let node = "apiVersion: v1\nkind: Node\nmetadata: {name: n}\n";
    let service = service("a", "10.0.0.1");
    let text = [LIST, policy, namespaces, node, &service].join("---\n");
    let mut names = Vec::new();
    let parsed = parse::parse::<policy::Update>(&text, &|_| None, &mut |found| {
        let update = found.update.expect("nothing is known yet");
        assert!(!matches!(update, policy::Update::Deleted(_)), "{update:?}");
        names.push(found.object.to_string());
    });
    assert_eq!(parsed.problems, []);
    assert_eq!(names, ["Pod default/p", "NetworkPolicy shop/deny", "Namespace shop", "Node n"]);
    assert_eq!(parsed.ignored.len(), 3, "{:?}", parsed.ignored);
}
