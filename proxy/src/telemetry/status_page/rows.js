
// ---- The list of Services: the process filters, sorts and pages it; a row's endpoints are asked for when it is open

const LIMIT = 50;
const STANDINGS = { broken: "bad", impaired: "warn", served: "good", notProxied: "" };
const WORDS = { broken: "Broken", impaired: "Impaired", served: "Served", notProxied: "Not proxied" };
const wanted = { filter: "", problems: false, by: "standing", reverse: false, offset: 0 };
const opened = new Set();
const rows = new Map();
let asked = 0;

async function refreshServices() {
  const turn = ++asked;
  const list = await ask(`services?${new URLSearchParams({ ...wanted, limit: LIMIT })}`);
  // Meanwhile somebody may have typed on.
  if (turn !== asked || !list.taken) return;
  showList(list);
  const shown = list.services.map(key).filter((name) => opened.has(name));
  await Promise.all(shown.map(showInside));
}

const key = (service) => `${service.namespace}/${service.name}`;

function showList(list) {
  wanted.offset = list.offset;
  const wantedRows = list.services.flatMap((service) => {
    const row = rows.get(key(service)) ?? newRow(service);
    fillRow(row, service);
    return opened.has(key(service)) ? [row.outside, row.inside] : [row.outside];
  });
  const shown = new Set(list.services.map(key));
  for (const name of rows.keys()) if (!shown.has(name)) rows.delete(name);
  arrange($("rows"), wantedRows);
  showRange(list);
  say($("asof"), `Services as of ${new Date(list.taken).toLocaleTimeString()}.`);
}

/** Has an element just these children. What stays in place is not touched, so that it keeps the focus. */
function arrange(parent, children) {
  const focused = document.activeElement;
  children.forEach((child, at) => {
    if (parent.children[at] !== child) parent.insertBefore(child, parent.children[at] ?? null);
  });
  while (parent.children.length > children.length) parent.lastElementChild.remove();
  if (focused !== document.activeElement && parent.contains(focused)) focused.focus({ preventScroll: true });
}

function showRange({ selected, offset, services }) {
  const filtered = wanted.filter || wanted.problems;
  $("services").hidden = $("range").hidden = selected === 0;
  $("empty").hidden = selected > 0;
  say($("empty"), !filtered ? "There are no Services."
    : wanted.filter ? "No Service matches." : "No problems: every Service is served.");
  say($("range"), `${number(offset + 1)}–${number(offset + services.length)} of ${many(selected, "Service")}`);
  $("previous").disabled = offset === 0;
  $("next").disabled = offset + services.length >= selected;
}

function newRow(service) {
  const name = make("button", "name", make("span", "", make("i", "", `${service.namespace}/`), make("b", "", service.name)));
  const row = {
    name, type: make("div", "type"), addresses: make("div", "mono"), ports: make("div", "ports"),
    endpoints: make("span"), used: make("i"), connections: make("td", "number"), pill: make("span"),
    reasons: make("ul", "reasons"), content: make("td"),
  };
  row.connections.dataset.unit = " connections";
  const endpoints = make("td", "number", row.endpoints, make("span", "meter", row.used));
  endpoints.dataset.unit = " endpoints";
  row.outside = make("tr", "", make("td", "", name, row.type), make("td", "", row.addresses, row.ports), endpoints,
    row.connections, make("td", "state", make("div", "", row.pill, row.reasons)));
  row.content.colSpan = 5;
  row.inside = make("tr", "inside", row.content);
  name.addEventListener("click", () => toggle(key(service)));
  rows.set(key(service), row);
  return row;
}

function fillRow(row, service) {
  row.outside.className = `service ${service.standing}`;
  row.name.setAttribute("aria-expanded", opened.has(key(service)));
  say(row.type, service.type);
  say(row.addresses, service.addresses.join(", ") || "–");
  say(row.ports, service.ports.map(portText).join(", "));
  say(row.endpoints, service.endpoints === 0 ? "0" : `${number(service.used)} of ${number(service.endpoints)}`);
  row.used.style.width = `${service.endpoints ? (100 * service.used) / service.endpoints : 0}%`;
  say(row.connections, number(service.connections));
  row.pill.className = `pill ${STANDINGS[service.standing]}`;
  say(row.pill, WORDS[service.standing]);
  if (row.reasons.dataset.told !== service.reasons.join("\n")) {
    row.reasons.dataset.told = service.reasons.join("\n");
    row.reasons.replaceChildren(...service.reasons.map((reason) => make("li", "", reason)));
  }
}

function portText({ name, port, protocol, nodePort }) {
  return `${name ? `${name} ` : ""}${port}/${protocol}${nodePort ? ` (node port ${nodePort})` : ""}`;
}

// ---- An open row

function toggle(name) {
  if (!opened.delete(name)) opened.add(name);
  const row = rows.get(name);
  if (!row) return;
  row.name.setAttribute("aria-expanded", opened.has(name));
  if (!opened.has(name)) return row.inside.remove();
  row.outside.after(row.inside);
  showInside(name).catch(unanswered);
}

async function showInside(name) {
  const at = name.indexOf("/");
  const which = new URLSearchParams({ namespace: name.slice(0, at), name: name.slice(at + 1) });
  const detail = await ask(`service?${which}`);
  const ports = detail.ports.flatMap((port) => [portHead(port, detail), portTable(port)]);
  rows.get(name)?.content.replaceChildren(...(ports.length ? ports : [make("p", "unused", "It has no ports here.")]));
}

function portHead(port, detail) {
  const facts = [many(port.connections, "connection")];
  if (detail.internalTrafficPolicy === "Local") facts.push("internal traffic stays on this node");
  if (detail.externalTrafficPolicy === "Local") facts.push("external traffic stays on this node");
  if (detail.affinitySeconds) facts.push(`clients stay with their endpoint for ${length(detail.affinitySeconds)}`);
  if (port.elsewhere) facts.push(`${number(port.elsewhere)} still with endpoints that are gone`);
  return make("div", "port", make("h3", "", portText(port)), make("span", "", facts.join(" · ")));
}

function portTable(port) {
  if (port.endpoints.length === 0) return make("p", "unused", "No EndpointSlice names an endpoint for this port.");
  const head = make("tr", "", ...["Endpoint", "Node", "Share", "Connections", "State"].map((text, at) => {
    const cell = make("th", at === 3 ? "number" : "", text);
    cell.scope = "col";
    return cell;
  }));
  const body = make("tbody", "", ...port.endpoints.map((endpoint) => endpointRow(endpoint, port)));
  if (port.more) {
    const rest = make("td", "unused", `and ${many(port.more, "further endpoint")}`);
    rest.colSpan = 5;
    body.append(make("tr", "", rest));
  }
  return make("table", "", make("thead", "", head), body);
}

function endpointRow(endpoint, port) {
  const node = make("td", "", endpoint.node ?? "–");
  if (endpoint.local) node.append(make("span", "here", "this node"));
  const state = endpoint.used ? (endpoint.terminating ? "Used, ending" : "Used") : "Not used";
  const why = endpoint.whyNot ? `${state}: ${endpoint.whyNot}` : state;
  return make("tr", endpoint.used ? "" : "unused", make("td", "mono", endpoint.address), node,
    make("td", "", share(endpoint, port)), make("td", "number", number(endpoint.connections)), make("td", "", why));
}

/** How much of the connections it has, with a tick where it would be if all were equal. */
function share(endpoint, port) {
  const bar = make("div", "share");
  const part = port.connections ? endpoint.connections / port.connections : 0;
  const filled = make("i");
  filled.style.width = `${100 * part}%`;
  bar.append(filled);
  if (endpoint.used && port.used > 1) {
    const tick = make("u");
    tick.style.left = `${100 / port.used}%`;
    bar.append(tick);
  }
  bar.title = `${(100 * part).toFixed(1)} %${port.used ? `; an equal share is ${(100 / port.used).toFixed(1)} %` : ""}`;
  return bar;
}

// ---- What can be done

let typing;

$("filter").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => choose({ filter: $("filter").value.trim() }), 120);
});
$("problems").addEventListener("change", () => choose({ problems: $("problems").checked }));
$("previous").addEventListener("click", () => choose({ offset: Math.max(0, wanted.offset - LIMIT) }));
$("next").addEventListener("click", () => choose({ offset: wanted.offset + LIMIT }));

for (const button of document.querySelectorAll("[data-by]")) {
  const { by } = button.dataset;
  button.addEventListener("click", () => choose({ by, reverse: wanted.by === by && !wanted.reverse }));
}

function choose(change) {
  Object.assign(wanted, { offset: 0 }, change);
  showOrder();
  refreshServices().catch(unanswered);
}

function showOrder() {
  for (const button of document.querySelectorAll("[data-by]")) {
    const { by } = button.dataset, head = button.closest("th");
    if (by !== wanted.by) {
      head.removeAttribute("aria-sort");
      continue;
    }
    const largestFirst = (by === "endpoints" || by === "connections") !== wanted.reverse;
    head.setAttribute("aria-sort", largestFirst ? "descending" : "ascending");
  }
}

document.addEventListener("keydown", (event) => {
  const inField = event.target.matches("input:not([type=checkbox])");
  if (event.key === "/" && !inField && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    $("filter").select();
    $("filter").focus();
  } else if (event.key === "Escape" && event.target === $("filter")) {
    $("filter").value = "";
    choose({ filter: "" });
  }
});

showOrder();
refresh();
