//! `ADD`: a pod gets an interface.

use std::net::IpAddr;

use endpoint_cache::object::ObjectName;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kernel::netns::Netns;
use serde_json::Value;

use super::record::{Chooser, Found, Record, Records};
use super::{Request, addresses, del, warn};
use crate::attach::{self, Assigned, DataPath, Made, PodRoute, Wanted};
use crate::fault;
use crate::gate;
use crate::ipam::{Birth, Boot, Fate};
use crate::network::Published;
use crate::spec::{
    Address, Attachment, Code, Config, Error, Gate, Interface, Mode, Outcome, Route, asked_mac,
};

/// Makes an attachment and tells what it is made of. If it fails, nothing is left.
pub(super) fn add(request: &Request) -> Result<Value, Error> {
    fault::at("begun");
    let attachment = request.attachment()?;
    let netns = request.netns()?;
    must_be_a_pods(netns)?;
    let published = request.published()?;
    let mac = mac(request)?;
    let boot = Boot::current();
    let record = Record {
        network: request.config.name.clone(),
        attachment: attachment.clone(),
        birth: Birth::now(&boot, Some(netns), request.environment.arguments.pod(), "pointsman-cni"),
        ipam: addresses::chooser(request),
        wanted: None,
    };
    let records = Records::of(&request.config.state_dir);
    if !records.create(&record)? {
        make_room(request, &records, attachment, &boot)?;
        if !records.create(&record)? {
            return Err(exists(attachment));
        }
    }
    fault::at("recorded");
    let mut making = Making { request, records, record, published, addressed: false, attached: false };
    match making.make(mac) {
        Ok(outcome) => {
            let previous = request.config.previous.clone().unwrap_or_default();
            Ok(previous.and(outcome).to_json(request.config.version))
        }
        Err(error) => Err(making.undo(error)),
    }
}

/// The path must be that of a network namespace, and not our own.
fn must_be_a_pods(path: &std::path::Path) -> Result<(), Error> {
    let refused = |why: String| Error::new(Code::ENVIRONMENT, "CNI_NETNS cannot be used").with(why);
    let netns = Netns::open(path).map_err(|error| refused(error.to_string()))?;
    let own = Netns::current().map_err(|error| refused(error.to_string()))?;
    match (netns.identity(), own.identity()) {
        (Ok(netns), Ok(own)) if netns == own => {
            Err(refused(format!("{} is the node's own network namespace", path.display())))
        }
        (Ok(_), Ok(_)) => Ok(()),
        (Err(error), _) | (_, Err(error)) => Err(refused(error.to_string())),
    }
}

/// The hardware address that is asked for.
fn mac(request: &Request) -> Result<Option<String>, Error> {
    let config = request.config.mac.as_ref().map(|(mac, who)| (mac.as_str(), *who));
    let args = request.environment.arguments.get("MAC").map(|mac| (mac, "MAC in CNI_ARGS"));
    config.or(args).map(|(mac, who)| asked_mac(mac, who)).transpose()
}

fn exists(attachment: &Attachment) -> Error {
    Error::new(Code::EXISTS, format!("{} has been added already", attachment.interface)).with(format!(
        "{attachment} must be removed by DEL before it can be added again; it was left as it is"
    ))
}

/// A record is there. One from before the kernel was started is about nothing any more.
fn make_room(
    request: &Request,
    records: &Records,
    attachment: &Attachment,
    boot: &Boot,
) -> Result<(), Error> {
    match records.read(attachment)? {
        Some(Found::Whole(record)) if record.birth.fate(boot) == Fate::OlderBoot => {
            if let Chooser::Plugin(_) = record.ipam {
                addresses::forget(request, attachment, Some(&record))?;
            }
            records.remove(attachment)
        }
        Some(_) => Err(exists(attachment)),
        None => Ok(()),
    }
}

/// An attachment that is being made, and how far that has come.
struct Making<'a> {
    request: &'a Request,
    records: Records,
    record: Record,
    published: Option<Published>,
    addressed: bool,
    attached: bool,
}

impl Making<'_> {
    fn make(&mut self, mac: Option<String>) -> Result<Outcome, Error> {
        let config = &self.request.config;
        let chosen = addresses::add(self.request, &self.record.birth, self.published.as_ref())?;
        self.addressed = true;
        fault::at("addressed");
        let wanted = wanted(self.request, self.published.as_ref(), &chosen, mac)?;
        self.record.wanted = Some(wanted.clone());
        self.records.replace(&self.record)?;
        fault::at("wanted");
        let made = attach::add(&wanted).map_err(|error| refused(&error))?;
        self.attached = true;
        fault::at("attached");
        admit(self.request, &wanted)?;
        fault::at("admitted");
        Ok(outcome(config, &wanted, made, chosen))
    }

    /// Removes what there is of it. If that cannot be, the record stays, and `DEL` will.
    fn undo(self, error: Error) -> Error {
        let undone = || -> Result<(), Error> {
            if let Some(wanted) = self.record.wanted.as_ref().filter(|_| self.attached) {
                del::detach(wanted)?;
            }
            if self.addressed {
                addresses::undo(self.request)?;
            }
            self.records.remove(&self.record.attachment)
        };
        match undone() {
            Ok(()) => error,
            Err(left) => error.and(&format!("and what was made is still there, because {left}")),
        }
    }
}

fn refused(error: &attach::Error) -> Error {
    let code = match error {
        attach::Error::InterfaceTaken(_) => Code::EXISTS,
        attach::Error::Bad(_) => Code::CONFIG,
        _ => Code::INTERFACE,
    };
    Error::new(code, "the interface cannot be made").with(error.to_string())
}

/// What the attachment is to be made of.
fn wanted(
    request: &Request,
    published: Option<&Published>,
    chosen: &Outcome,
    mac: Option<String>,
) -> Result<Wanted, Error> {
    let config = &request.config;
    let attachment = request.attachment()?;
    let is_bridge = match config.mode {
        Some(mode) => mode == Mode::Bridge,
        None => published.is_some_and(|published| published.data_path == "bridge"),
    };
    let path = match is_bridge {
        false => DataPath::Routed,
        true => DataPath::Bridge {
            name: config.bridge.clone(),
            hairpin: config.hairpin,
            promiscuous: config.promiscuous,
        },
    };
    let assigned = |ip: &Address| Assigned { address: ip.address, gateway: ip.gateway };
    // The default route by way of the pod's gateway is there anyhow.
    let routes = chosen.routes.iter().filter(|route| !is_default(route) || route.gw.is_some());
    Ok(Wanted {
        container: attachment.container.clone(),
        interface: attachment.interface.clone(),
        netns: request.netns()?.to_owned(),
        host_interface: attach::host_interface_name(&attachment.container, &attachment.interface),
        path,
        mtu: config.mtu.or(published.map(|published| published.mtu)),
        mac,
        addresses: chosen.ips.iter().map(assigned).collect(),
        routes: routes.map(|route| PodRoute { dst: route.dst, gw: route.gw }).collect(),
        ports: config.ports.clone(),
        port_mapper: config.port_mapper,
        bandwidth: config.bandwidth,
    })
}

fn is_default(route: &Route) -> bool {
    route.dst.prefix_len() == 0
}

/// Waits until the pod's policies are in force.
fn admit(request: &Request, wanted: &Wanted) -> Result<(), Error> {
    let config = &request.config;
    let arguments = &request.environment.arguments;
    let (Some(namespace), Some(name)) = (arguments.get("K8S_POD_NAMESPACE"), arguments.get("K8S_POD_NAME"))
    else {
        // Of what is no pod, no policy speaks.
        return Ok(());
    };
    if config.gate == Gate::Off {
        return Ok(());
    }
    let question = gate::Question {
        pod: ObjectName::new(namespace, name),
        uid: arguments.get("K8S_POD_UID").filter(|uid| !uid.is_empty()).map(str::to_owned),
        addresses: wanted.addresses.iter().map(|assigned| assigned.address.addr()).collect(),
        container: wanted.container.clone(),
    };
    let Err(error) = gate::wait(&config.gate_socket, &question, config.gate_timeout) else { return Ok(()) };
    if config.gate == Gate::Open {
        warn(&format!("the policies of {namespace}/{name} are not known to be in force: {error}"));
        return Ok(());
    }
    Err(Error::new(Code::TRY_AGAIN_LATER, format!("the policies of {namespace}/{name} are not in force"))
        .with(error.to_string()))
}

/// What was made, for the runtime.
fn outcome(config: &Config, wanted: &Wanted, made: Made, chosen: Outcome) -> Outcome {
    let sandbox = wanted.netns.display().to_string();
    let interface = |device: attach::Interface, sandbox: String| Interface {
        name: device.name,
        mac: device.mac,
        mtu: Some(device.mtu),
        sandbox,
        ..Interface::default()
    };
    let mut interfaces: Vec<_> =
        made.bridge.into_iter().chain([made.host]).map(|device| interface(device, String::new())).collect();
    interfaces.push(interface(made.pod, sandbox));
    let at = interfaces.len() - 1;
    let is_routed = wanted.path == DataPath::Routed;
    let ips = wanted.addresses.iter().map(|assigned| Address {
        // In routed mode, the pod has its address alone, and no gateway of the range.
        address: if is_routed { alone(assigned.address.addr()) } else { assigned.address },
        gateway: assigned.gateway.filter(|_| !is_routed),
        interface: Some(at),
    });
    let mut routes = chosen.routes;
    for default in [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())] {
        let is_v4 = |net: &IpNet| net.addr().is_ipv4();
        let family = is_v4(&default);
        let has_family = wanted.addresses.iter().any(|assigned| is_v4(&assigned.address) == family);
        if has_family && !routes.iter().any(|route| is_default(route) && is_v4(&route.dst) == family) {
            routes.push(Route::new(default, None));
        }
    }
    let dns = if chosen.dns.is_empty() { config.dns.clone() } else { chosen.dns };
    Outcome { interfaces, ips: ips.collect(), routes, dns }
}

fn alone(address: IpAddr) -> IpNet {
    IpNet::from(address)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::spec::{Command, Environment};

    fn request(more: &Value) -> Request {
        let mut config = json!({"cniVersion": "1.1.0", "name": "pods"});
        let object = config.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        let environment = Environment::of(|name| {
            let value = match name {
                "CNI_COMMAND" => Command::Add.as_str(),
                "CNI_CONTAINERID" => "a",
                "CNI_IFNAME" => "eth0",
                "CNI_NETNS" => "/run/netns/a",
                "CNI_ARGS" => "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web",
                _ => return None,
            };
            Some(value.into())
        });
        let config = Config::decode(config.to_string().into_bytes()).unwrap();
        Request { environment: environment.unwrap(), config }
    }

    fn published(data_path: &str) -> Published {
        Published {
            pod_cidrs: vec!["10.0.0.0/24".parse().unwrap()],
            cluster_cidrs: Vec::new(),
            mtu: 1450,
            data_path: data_path.into(),
            backend: "vxlan".into(),
        }
    }

    fn chosen() -> Outcome {
        let chosen = json!({
            "ips": [{"address": "10.0.0.5/24", "gateway": "10.0.0.1"}, {"address": "fd00::5/64"}],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.0/16", "gw": "10.0.0.9"}]
        });
        Outcome::from_json(&chosen, "").unwrap()
    }

    fn made() -> Made {
        let device =
            |name: &str| attach::Interface { name: name.into(), mac: "02:00:00:00:00:01".into(), mtu: 1450 };
        Made { bridge: None, host: device("pm0"), pod: device("eth0") }
    }

    #[test]
    fn what_is_not_said_is_taken_from_the_daemon() {
        let of = |more: Value, published: Option<&Published>| {
            wanted(&request(&more), published, &chosen(), None).unwrap()
        };
        let bridge = published("bridge");
        let made = of(json!({}), None);
        assert_eq!((made.path, made.mtu), (DataPath::Routed, None));
        let made = of(json!({}), Some(&bridge));
        assert!(matches!(made.path, DataPath::Bridge { name, .. } if name == "cni0"));
        assert_eq!(made.mtu, Some(1450));
        let made = of(json!({"mode": "routed", "mtu": 1300}), Some(&bridge));
        assert_eq!((made.path, made.mtu), (DataPath::Routed, Some(1300)));
        assert_eq!(
            made.routes,
            [PodRoute { dst: "10.9.0.0/16".parse().unwrap(), gw: Some("10.0.0.9".parse().unwrap()) }]
        );
    }

    #[test]
    fn a_result_tells_what_the_pod_has() {
        let request = request(&json!({"dns": {"nameservers": ["10.0.0.10"]}}));
        let routed = wanted(&request, None, &chosen(), None).unwrap();
        let told = outcome(&request.config, &routed, made(), chosen());
        let ips: Vec<_> =
            told.ips.iter().map(|ip| (ip.address.to_string(), ip.gateway, ip.interface)).collect();
        assert_eq!(ips, [("10.0.0.5/32".into(), None, Some(1)), ("fd00::5/128".into(), None, Some(1))]);
        let routes: Vec<_> = told.routes.iter().map(|route| route.dst.to_string()).collect();
        assert_eq!(routes, ["0.0.0.0/0", "10.9.0.0/16", "::/0"], "one default route a family");
        assert_eq!(told.dns.nameservers, ["10.0.0.10"]);
        assert_eq!(told.interfaces[1].sandbox, "/run/netns/a");

        let bridge = Wanted {
            path: DataPath::Bridge { name: "cni0".into(), hairpin: false, promiscuous: false },
            ..routed
        };
        let told = outcome(&request.config, &bridge, made(), chosen());
        assert_eq!(told.ips[0].address.to_string(), "10.0.0.5/24");
        assert_eq!(told.ips[0].gateway.unwrap().to_string(), "10.0.0.1");
    }

    #[test]
    fn a_pod_waits_at_the_gate_as_it_is_told() {
        let admit_with = |gate: &str| {
            let request =
                request(&json!({"gate": gate, "gateSocket": "/nonexistent/cni.sock", "gateTimeout": "1ms"}));
            let wanted = wanted(&request, None, &chosen(), None).unwrap();
            admit(&request, &wanted)
        };
        let error = admit_with("closed").unwrap_err();
        assert_eq!(error.code, Code::TRY_AGAIN_LATER);
        assert!(
            error.to_string().contains("shop/web") && error.details.contains("/nonexistent/cni.sock"),
            "{error}"
        );
        admit_with("open").unwrap();
        admit_with("off").unwrap();
    }
}
