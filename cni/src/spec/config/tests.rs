use proptest::prelude::*;
use serde_json::json;

use super::*;

fn config(mut value: Value) -> Result<Config, Error> {
    let object = value.as_object_mut().unwrap();
    object.entry("cniVersion").or_insert_with(|| "1.0.0".into());
    object.entry("name").or_insert_with(|| "pods".into());
    Config::decode(value.to_string().into_bytes())
}

fn own(value: Value) -> OwnIpam {
    match config(value).unwrap().ipam {
        Ipam::Own(own) => *own,
        Ipam::Plugin(name) => panic!("{name}"),
    }
}

#[test]
fn what_is_not_said_has_its_default() {
    let config = config(json!({"type": "pointsman-cni"})).unwrap();
    assert_eq!((config.bridge.as_str(), config.gate, config.mode), ("cni0", Gate::Closed, None));
    assert_eq!(config.gate_timeout, Duration::from_secs(5));
    assert_eq!(config.network_file, Path::new("/run/pointsman/network.json"));
    assert_eq!(config.state_dir, Path::new("/var/lib/cni/pointsman"));
    assert_eq!(own(json!({})).data_dir, Path::new("/var/lib/cni/networks"));
    assert!(own(json!({"ipam": {"type": "pointsman-ipam"}})).ranges.is_empty());
}

#[test]
fn all_is_taken() {
    let config = config(json!({
        "type": "pointsman-cni", "mode": "bridge", "bridge": "br0", "hairpinMode": true, "promiscMode": true,
        "mtu": 1400, "gate": "open", "gateTimeout": "500ms", "portMapper": "nftables", "unknown": {"a": [1]},
        "args": {"cni": {"ips": ["10.0.0.5"]}, "labels": {}},
        "runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 2}], "mac": "c2:00:00:00:00:01",
            "ips": ["10.0.0.6/24"]},
        "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.9.9.9/32"}]},
        "cni.dev/valid-attachments": [{"containerID": "b", "ifname": "eth0"}, {"containerID": "a", "ifname": "eth0"}],
        "ipam": {"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.4", "dataDir": "/data",
            "ranges": [[{"subnet": "fd00::/64"}]], "routes": [{"dst": "10.1.0.0/16"}]}
    }))
    .unwrap();
    assert_eq!((config.mode, config.gate), (Some(Mode::Bridge), Gate::Open));
    assert_eq!(config.gate_timeout, Duration::from_millis(500));
    assert_eq!(config.previous.unwrap().ips.len(), 1);
    assert_eq!(config.valid.unwrap()[0].container, "a");
    let Ipam::Own(own) = config.ipam else { panic!() };
    assert_eq!(own.requested, ["10.0.0.5", "10.0.0.6/24"]);
    assert_eq!(own.ranges.len(), 2);
    assert_eq!(own.ranges[0][0].range_start, Some("10.0.0.4".parse().unwrap()));
}

#[test]
fn another_plugins_section_is_not_looked_at() {
    let value = json!({"ipam": {"type": "dhcp", "subnet": 3, "routes": "all", "gateway": {}}});
    assert_eq!(config(value).unwrap().ipam, Ipam::Plugin("dhcp".into()));
}

#[test]
fn mistakes_are_told_with_their_field_and_kind() {
    for (value, code, field) in [
        (json!({"cniVersion": "0.2.0"}), Code::INCOMPATIBLE_VERSION, "0.2.0"),
        (json!({"cniVersion": 1}), Code::DECODING, "cniVersion"),
        (json!({"name": ""}), Code::CONFIG, "name"),
        (json!({"name": "../etc"}), Code::CONFIG, "name"),
        (json!({"name": 5}), Code::DECODING, "name"),
        (json!({"mode": "tunnel"}), Code::DECODING, "mode"),
        (json!({"mtu": 12}), Code::CONFIG, "mtu"),
        (json!({"mtu": -1}), Code::DECODING, "mtu"),
        (json!({"bridge": "a/b"}), Code::CONFIG, "bridge"),
        (json!({"gateTimeout": "soon"}), Code::CONFIG, "gateTimeout"),
        (json!({"stateDir": "here"}), Code::CONFIG, "stateDir"),
        (json!({"ipam": []}), Code::DECODING, "ipam"),
        (json!({"ipam": {"type": "../../bin/sh"}}), Code::CONFIG, "ipam.type"),
        (json!({"ipam": {"subnet": "10.0.0.0/33"}}), Code::DECODING, "ipam.subnet"),
        (
            json!({"ipam": {"ranges": [[{"subnet": "10.0.0.0/24", "gateway": "x"}]]}}),
            Code::DECODING,
            "ipam.ranges[0][0].gateway",
        ),
        (json!({"runtimeConfig": {"portMappings": [{"hostPort": 70000}]}}), Code::DECODING, "hostPort"),
        (json!({"prevResult": {"ips": [{}]}}), Code::DECODING, "prevResult.ips[0]"),
    ] {
        let error = config(value.clone()).unwrap_err();
        assert_eq!(error.code, code, "{value}: {error}");
        assert!(error.to_string().contains(field), "{value}: {error}");
    }
}

#[test]
fn timeouts_have_units() {
    for (text, expected) in
        [(json!("5s"), 5000), (json!("250ms"), 250), (json!("1m"), 60_000), (json!(3), 3000)]
    {
        assert_eq!(gate_timeout(&text).unwrap(), Duration::from_millis(expected));
    }
    for text in [json!("5"), json!("-5s"), json!(""), json!("11m"), json!(1.5), json!(u64::MAX), json!([])] {
        assert!(gate_timeout(&text).is_err(), "{text}");
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof!["[a-z0-9./:]{0,12}", Just("10.0.0.0/24".to_owned()), Just("fd00::/64".to_owned())]
            .prop_map(Value::from),
    ];
    let key = prop::sample::select(vec![
        "cniVersion",
        "name",
        "type",
        "ipam",
        "ranges",
        "subnet",
        "routes",
        "dst",
        "gw",
        "prevResult",
        "ips",
        "address",
        "interfaces",
        "dns",
        "args",
        "cni",
        "runtimeConfig",
        "portMappings",
        "hostPort",
        "bandwidth",
        "mtu",
        "mode",
        "gateTimeout",
        "cni.dev/valid-attachments",
        "containerID",
        "ifname",
        "mac",
        "ip4",
    ]);
    leaf.prop_recursive(4, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = Config::decode(bytes) {
            prop_assert!(matches!(error.code, Code::DECODING | Code::CONFIG | Code::INCOMPATIBLE_VERSION));
        }
    }

    #[test]
    fn no_json_is_too_much(mut value in json_value()) {
        if let Some(object) = value.as_object_mut() {
            object.insert("cniVersion".into(), "1.1.0".into());
            object.insert("name".into(), "pods".into());
        }
        if let Err(error) = Config::decode(value.to_string().into_bytes()) {
            let shown = error.to_json(Version::NEWEST);
            prop_assert!(shown["code"].is_u64() && shown["msg"].is_string() && !error.msg.is_empty());
        }
    }
}
