//! Services with session affinity, each of which has chains of its own.
//!
//! Whatever frontend a client uses, it stays with one endpoint: so the map `affinity` is keyed by client and
//! *ClusterIP* frontend, which a chain that serves an external address must know. A chain for each such service has it
//! as a constant. They are few in a cluster; all other services share the chains of `pick`.
//!
//! The affinity map is filled by the rules. An endpoint that is gone is no longer named by any rule, so its clients
//! choose anew.

use std::net::SocketAddr;

use endpoint_cache::{Endpoint, Family, ServicePort, TrafficPolicy};
use kernel::nft::expr::{DynsetOp, Expr, Load, Register, SetAccess};
use kernel::nft::{Bytes, Rule, Verdict, hash};

use super::bytes::{self, Key};
use super::elements;
use super::layout::SetName;
use super::pick::{Entry, Scope, shortcut};
use super::rules::{self, rule};
use crate::context::Context;

/// A chain that serves one service port.
pub(crate) struct StickyChain {
    pub(crate) name: String,
    pub(crate) rules: Vec<Rule>,
}

/// What a frontend of a sticky service leads to.
#[derive(Clone, Copy)]
pub(crate) enum Lead {
    /// The endpoints of a scope.
    Endpoints(Scope),
    /// The endpoints of scope Cluster, masqueraded.
    Masquerade,
    /// External policy Local.
    LocalPolicy,
}

/// The name of a service port's chain: in kube-proxy's manner, `namespace/name/protocol/port`. Names that Kubernetes
/// would not have accepted are made fit, and told apart by a hash.
pub(crate) fn chain_name(service: &ServicePort, lead: Lead) -> String {
    /// The kernel takes 255 bytes (`NFT_NAME_MAXLEN`), prefix and hash included.
    const LONGEST: usize = 200;
    let name = &service.name;
    let prefix = match lead {
        Lead::Endpoints(Scope::Cluster) => "sticky",
        Lead::Endpoints(Scope::Local) => "sticky-local",
        Lead::Masquerade => "sticky-masq",
        Lead::LocalPolicy => "sticky-local-policy",
    };
    let whole = format!("{}/{}/{}/{}", name.namespace, name.name, name.protocol, name.port);
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '.' | '_');
    if whole.len() <= LONGEST && whole.chars().all(fits) {
        return format!("{prefix}-{whole}");
    }
    let readable: String = whole.chars().filter(|c| fits(*c)).take(LONGEST).collect();
    format!("{prefix}-{readable}-{:016x}", hash(whole.as_bytes()))
}

/// The chains that a service port needs; none without affinity. Chains stand before those that lead to them.
pub(crate) fn chains(service: &ServicePort, context: &Context) -> Vec<StickyChain> {
    let Some(seconds) = service.affinity_seconds else { return Vec::new() };
    let chain = |lead, rules| StickyChain { name: chain_name(service, lead), rules };
    let stays = |scope| Stays {
        identity: bytes::identity_fields(service),
        scope,
        endpoints: elements::endpoints(service, scope),
        timeout_ms: u64::from(seconds) * 1000,
        family: context.family,
    };
    let leads = Scope::BOTH
        .into_iter()
        .filter(|scope| !elements::endpoints(service, *scope).is_empty())
        .map(|scope| chain(Lead::Endpoints(scope), stays(scope).rules()));
    let external = service.externally_reachable() && !service.cluster_endpoints.is_empty();
    let external = external.then(|| match service.external_policy {
        TrafficPolicy::Cluster => chain(Lead::Masquerade, masquerade(service, context)),
        TrafficPolicy::Local => chain(Lead::LocalPolicy, local_policy(service, context)),
    });
    leads.chain(external).collect()
}

fn masquerade(service: &ServicePort, context: &Context) -> Vec<Rule> {
    vec![rule("", [rules::set_mark(context.masquerade_mark)]), rule("", [goto(service, Scope::Cluster)])]
}

fn local_policy(service: &ServicePort, context: &Context) -> Vec<Rule> {
    let mut chain = shortcut(context, || goto(service, Scope::Cluster));
    if !service.local_endpoints.is_empty() {
        chain.push(rule("", [goto(service, Scope::Local)]));
    }
    chain
}

fn goto(service: &ServicePort, scope: Scope) -> Vec<Expr> {
    rules::verdict(Verdict::Goto(chain_name(service, Lead::Endpoints(scope))))
}

/// The rules by which clients stay with one of these endpoints.
struct Stays<'a> {
    /// The ClusterIP frontend, field by field.
    identity: [Bytes; 3],
    scope: Scope,
    endpoints: &'a [Endpoint],
    timeout_ms: u64,
    family: Family,
}

/// Where things stand: `client . identity` first, the key of the affinity map; then the endpoint.
const CLIENT: Register = Register::new(0);

impl Stays<'_> {
    /// First a rule for each endpoint that takes its clients back, then one that takes its share of new clients; at
    /// last one that remembers nothing, for when the map is full.
    fn rules(&self) -> Vec<Rule> {
        let stay = self.endpoints.iter().map(|endpoint| self.stay(endpoint));
        let left = (1..=self.endpoints.len()).rev();
        let choose = self.endpoints.iter().zip(left).map(|(endpoint, left)| self.choose(endpoint, left));
        stay.chain(choose).chain([self.forgetful()]).collect()
    }

    fn stay(&self, endpoint: &Endpoint) -> Rule {
        let remembered = vec![rules::lookup(SetName::Affinity, CLIENT, self.endpoint_register())];
        rule(
            &format!("stay with {}", socket_address(endpoint)),
            [
                self.client(),
                remembered,
                self.is_remembered(endpoint),
                self.load(endpoint),
                vec![self.remember(), self.dnat()],
            ],
        )
    }

    /// Goes on if the endpoint in the register is this one. The kernel compares at most 16 bytes, and `nft list`
    /// complains about a second comparison: so the port of an IPv6 endpoint is looked at only where it must be.
    fn is_remembered(&self, endpoint: &Endpoint) -> Vec<Expr> {
        let register = self.endpoint_register();
        let whole = Key::default().endpoint(endpoint).bytes();
        if self.family == Family::V4 {
            return vec![rules::equals(register, whole)];
        }
        let (address, port) = whole.split_at(rules::address_width(self.family));
        let address_is_shared = self
            .endpoints
            .iter()
            .any(|other| other.address == endpoint.address && other.port != endpoint.port);
        let port =
            address_is_shared.then(|| rules::equals(register.after(address.len()), Bytes::from_slice(port)));
        [rules::equals(register, Bytes::from_slice(address))].into_iter().chain(port).collect()
    }

    /// Takes one in `left` clients.
    fn choose(&self, endpoint: &Endpoint, left: usize) -> Rule {
        let modulus = u32::try_from(left).unwrap_or(u32::MAX);
        let scratch = self.endpoint_register();
        let drawn = vec![
            Expr::Load(Load::Random { modulus, into: scratch }),
            rules::equals(scratch, Bytes::from_slice(&[0; 4])),
        ];
        rule(
            &format!("choose {}", socket_address(endpoint)),
            [
                if left > 1 { drawn } else { Vec::new() },
                self.client(),
                self.load(endpoint),
                // Data of an element that exists is never replaced, so it must go first.
                vec![self.dynset(DynsetOp::Delete, None), self.remember(), self.dnat()],
            ],
        )
    }

    fn forgetful(&self) -> Rule {
        let [address, protocol, port] = self.identity_registers();
        let slot = port.after(4);
        let modulus = u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
        let mut parts = self.load_identity([address, protocol, port]);
        parts.push(Expr::Load(Load::Random { modulus, into: slot }));
        parts.push(rules::lookup(self.scope.endpoints(Entry::Address), address, slot));
        parts.push(rules::dnat(self.family, slot));
        rule("too many clients to remember", [parts])
    }

    /// Puts `client . identity` in its place.
    fn client(&self) -> Vec<Expr> {
        let mut parts = vec![rules::source_address(self.family, CLIENT)];
        parts.extend(self.load_identity(self.identity_registers()));
        parts
    }

    fn load_identity(&self, registers: [Register; 3]) -> Vec<Expr> {
        let fields = self.identity.iter().cloned().zip(registers);
        fields.map(|(value, into)| Expr::Load(Load::Immediate { value, into })).collect()
    }

    fn load(&self, endpoint: &Endpoint) -> Vec<Expr> {
        let address = self.endpoint_register();
        let port = address.after(rules::address_width(self.family));
        vec![
            Expr::Load(Load::Immediate {
                value: Key::default().address(endpoint.address).bytes(),
                into: address,
            }),
            Expr::Load(Load::Immediate {
                value: Bytes::from_slice(&endpoint.port.to_be_bytes()),
                into: port,
            }),
        ]
    }

    fn remember(&self) -> Expr {
        self.dynset(DynsetOp::Update, Some(self.timeout_ms))
    }

    fn dynset(&self, op: DynsetOp, timeout_ms: Option<u64>) -> Expr {
        let set = SetName::Affinity.as_str().to_owned();
        let data = Some(self.endpoint_register());
        Expr::Set(SetAccess::Dynset { set, op, key: CLIENT, data, timeout_ms })
    }

    fn dnat(&self) -> Expr {
        rules::dnat(self.family, self.endpoint_register())
    }

    fn identity_registers(&self) -> [Register; 3] {
        let width = rules::address_width(self.family);
        let address = CLIENT.after(width);
        let protocol = address.after(width);
        [address, protocol, protocol.after(4)]
    }

    fn endpoint_register(&self) -> Register {
        CLIENT.after(rules::address_width(self.family)).after(rules::frontend_width(self.family))
    }
}

fn socket_address(endpoint: &Endpoint) -> SocketAddr {
    SocketAddr::new(endpoint.address, endpoint.port)
}
