//! Choosing an endpoint: a chain for each policy in use, and one for each endpoint.

use endpoint_cache::{Endpoint, ServicePort, TrafficPolicy};

use super::context::Context;
use super::layout::MARK_MASQ;
use super::names::{ChainName, EndpointText, Names};
use super::rule::{Is, Rule, full_mask, one_in};
use super::service::{OwnChain, policy_chain};

/// Adds the chains of a service port's endpoints, then those that choose among them.
pub(super) fn write(
    service: &ServicePort,
    context: &Context,
    name: &str,
    names: &Names,
    chains: &mut Vec<OwnChain>,
) {
    let writer = Writer { service, context, name };
    let choices = [TrafficPolicy::Cluster, TrafficPolicy::Local].map(|policy| {
        let endpoints = service.endpoints_in_use(policy).iter();
        let mut choice: Vec<_> = endpoints.map(|endpoint| Choice::new(endpoint, names)).collect();
        // By their text, as kube-proxy has them.
        choice.sort_unstable_by(|a, b| a.text.cmp(&b.text));
        (policy, choice)
    });
    let [(_, cluster), (_, local)] = &choices;
    let is_new = |choice: &&Choice| cluster.binary_search_by(|other| other.text.cmp(&choice.text)).is_err();
    let only_local = local.iter().filter(is_new);
    chains.extend(cluster.iter().chain(only_local).map(|choice| writer.endpoint(choice)));
    for (policy, choice) in choices.iter().filter(|(_, choice)| !choice.is_empty()) {
        let name = names.of(policy_chain(*policy));
        chains.push(OwnChain { name, rules: writer.choose(choice) });
    }
}

/// An endpoint that may be chosen.
struct Choice {
    endpoint: Endpoint,
    text: EndpointText,
    chain: ChainName,
}

impl Choice {
    fn new(endpoint: &Endpoint, names: &Names) -> Self {
        let text = EndpointText::new(endpoint);
        let chain = names.endpoint(&text);
        Self { endpoint: *endpoint, text, chain }
    }
}

struct Writer<'a> {
    service: &'a ServicePort,
    context: &'a Context,
    name: &'a str,
}

impl Writer<'_> {
    /// The chain that translates to an endpoint.
    fn endpoint(&self, choice: &Choice) -> OwnChain {
        let Choice { endpoint, text, chain } = choice;
        let about = || self.commented(format_args!("{}", self.name));
        // A pod that reaches itself must see another address than its own, or it would answer directly.
        let hairpin = about().from(Is::Yes, endpoint.address).jump(MARK_MASQ);
        let translate = match self.service.affinity_seconds {
            Some(_) => about().with(self.recent("--set", chain)),
            None => about(),
        };
        let translate = translate.of_protocol(self.service.name.protocol).dnat(text);
        OwnChain { name: *chain, rules: vec![hairpin, translate] }
    }

    /// Clients go where they went before, if they are to; the others by chance.
    fn choose(&self, choices: &[Choice]) -> Vec<String> {
        let about = |choice: &Choice| self.commented(format_args!("{} -> {}", self.name, choice.text));
        let stay = self.service.affinity_seconds.into_iter().flat_map(|seconds| {
            choices.iter().map(move |choice| {
                let check = format!("--rcheck --seconds {seconds} --reap");
                about(choice).with(self.recent(&check, &choice.chain)).jump(choice.chain)
            })
        });
        let spread = choices.iter().enumerate().map(|(index, choice)| {
            let rule = match one_in(choices.len() - index) {
                Some(chance) => about(choice).with(chance),
                None => about(choice),
            };
            rule.jump(choice.chain)
        });
        stay.chain(spread).collect()
    }

    /// A match on, or a note in, the list of clients that have the name of an endpoint's chain.
    fn recent(&self, what: &str, chain: &ChainName) -> String {
        let mask = full_mask(self.context.family());
        format!("-m recent {what} --name {chain} --mask {mask} --rsource")
    }

    fn commented(&self, text: std::fmt::Arguments<'_>) -> Rule {
        match self.context.endpoint_comments {
            true => Rule::new().comment(text),
            false => Rule::new(),
        }
    }
}
