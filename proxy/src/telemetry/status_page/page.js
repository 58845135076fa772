"use strict";
// What the process tells is asked for every few seconds while somebody looks, and put into the page as text: nothing of
// it is ever taken for markup.

const EVERY = 3000, SOON = 250, PATIENCE = 8000, FIRST_SYNCS = 8;
const $ = (id) => document.getElementById(id);

/** An element with a class and children, which may be text. */
function make(tag, kind, ...children) {
  const element = document.createElement(tag);
  if (kind) element.className = kind;
  element.append(...children);
  return element;
}

/** Changes a text only if it is another, so that a selection in it stays. */
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const many = (count, one, more = `${one}s`) => `${number(count)} ${count === 1 ? one : more}`;
const number = (value) => value.toLocaleString("en");

function length(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} days`;
}

function took(milliseconds) {
  if (milliseconds >= 1000) return `${(milliseconds / 1000).toFixed(2)} s`;
  return `${milliseconds.toFixed(milliseconds < 10 ? 2 : 0)} ms`;
}

async function ask(path) {
  const answer = await fetch(`/status-page/${path}`, { signal: AbortSignal.timeout(PATIENCE) });
  if (!answer.ok) throw new Error(`${answer.status}: ${await answer.text()}`);
  return answer.json();
}

// ---- When to ask

let timer, asking = false, again = false;

async function refresh() {
  clearTimeout(timer);
  if (document.hidden) return;
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  let wait = EVERY;
  try {
    const overview = await ask("overview");
    showOverview(overview);
    await refreshServices();
    if (!overview.totals) wait = SOON;
    document.body.classList.remove("stale");
  } catch (error) {
    unanswered(error);
  }
  asking = false;
  if (again) wait = 0;
  again = false;
  timer = setTimeout(refresh, wait);
}

document.addEventListener("visibilitychange", refresh);

// ---- The top

/** The process's clock, which may differ from ours, when it was last heard; and what is counted from it. */
let clock = null;
const now = () => clock.told + (performance.now() - clock.heard);

function showOverview({ status, health, syncs, totals, gaps }) {
  clock = { told: Date.parse(status.currentTime), heard: performance.now(), status, syncs };
  document.title = `${status.node} – Pointsman`;
  say($("node"), status.node || "unnamed node");
  say($("version"), `Pointsman ${status.version}, process ${status.process}`);
  say($("mode"), status.mode);
  showHealth(health);
  showAlerts(status, health, gaps);
  if (totals) showTotals(status, totals);
  showSyncs(syncs);
  showDrift(status.drift);
  showAges();
}

function showHealth(health) {
  const [kind, text] = !health.healthy ? ["bad", "Changes are waiting"]
    : health.nodeEligible === false ? ["warn", "Node is to go"]
    : health.lastError ? ["warn", "Retrying"]
    : ["good", "Healthy"];
  $("health").className = `pill ${kind}`;
  say($("health"), text);
}

function showAlerts(status, health, gaps) {
  const alerts = [];
  if (status.lastError) alerts.push(["bad", `The last sync failed: ${status.lastError}`]);
  if (status.leftOut > 0) {
    alerts.push(["bad", `The kernel refuses ${many(status.leftOut, "service port")}: see the log.`]);
  }
  for (const [kind, watch] of Object.entries(health.watches ?? {})) {
    if (watch.error) alerts.push(["warn", `${kind}s are not being followed: ${watch.error}`]);
  }
  for (const gap of gaps) alerts.push(["warn", gap]);
  const told = alerts.map(([, text]) => text).join("\n");
  // A screen reader reads alerts aloud whenever they are replaced.
  if ($("alerts").dataset.told === told) return;
  $("alerts").dataset.told = told;
  $("alerts").replaceChildren(...alerts.map(([kind, text]) => make("p", kind, text)));
}

function showTotals(status, totals) {
  const worst = totals.broken ? "bad" : "warn";
  const problems = totals.broken + totals.impaired;
  const facts = problems ? many(problems, "problem") : many(status.servicePorts, "port");
  const note = make("small", problems ? worst : "", facts);
  $("count-services").replaceChildren(number(totals.services), " ", note);
  $("count-endpoints").replaceChildren(number(totals.used), " ", make("small", "", `of ${number(totals.endpoints)}`));
  say($("connections-label"), status.mode === "userspace" ? "Connections carried" : "Connections tracked");
  say($("count-connections"), number(totals.connections));
  $("problem-count").hidden = problems === 0;
  say($("problem-count"), number(problems));
}

function showAges() {
  if (!clock) return;
  const { status, syncs } = clock;
  const since = (time) => (now() - Date.parse(time)) / 1000;
  say($("synced"), status.lastSynced ? `${length(since(status.lastSynced))} ago` : "never");
  if (syncs.length && !syncs[0].error) $("synced").append(" ", make("small", "", took(syncs[0].milliseconds)));
  say($("up"), length(since(status.started)));
  for (const cell of document.querySelectorAll("[data-time]")) say(cell, `${length(since(cell.dataset.time))} ago`);
}

setInterval(() => document.hidden || showAges(), 1000);

function unanswered(error) {
  $("health").className = "pill bad";
  say($("health"), "No answer");
  document.body.classList.add("stale");
  say($("asof"), `The process did not answer (${error.message.trim()}); asking again.`);
}

// ---- The bottom

let allSyncs = false;

function showSyncs(syncs) {
  $("no-syncs").hidden = syncs.length > 0;
  $("syncs").replaceChildren(...syncs.slice(0, allSyncs ? syncs.length : FIRST_SYNCS).map(syncRow));
  $("more-syncs").hidden = syncs.length <= FIRST_SYNCS;
  say($("more-syncs"), allSyncs ? "Show fewer" : `Show all ${syncs.length}`);
  showStrip([...syncs].reverse());
}

$("more-syncs").addEventListener("click", () => {
  allSyncs = !allSyncs;
  showSyncs(clock.syncs);
  showAges();
});

function timeCell(time) {
  const cell = make("td");
  cell.dataset.time = time;
  cell.title = new Date(time).toLocaleString();
  return cell;
}

function syncRow(sync) {
  const idle = !sync.error && !sync.changes && !sync.operations && !sync.flowsRemoved;
  let what = sync.full ? "Compared with the kernel" : "Changes programmed";
  if (idle) what = sync.times > 1 ? `Nothing to do, ${number(sync.times)} times` : "Nothing to do";
  if (sync.flowsRemoved) what += `, ${many(sync.flowsRemoved, "stale connection")} forgotten`;
  const row = make("tr", idle ? "unused" : "", timeCell(sync.at),
    make("td", sync.error ? "failed" : "", sync.error ? `Failed: ${sync.error}` : what));
  for (const value of [took(sync.milliseconds), number(sync.changes), number(sync.operations)]) {
    row.append(make("td", "number", value));
  }
  return row;
}

/** A bar for each sync, as high as its duration on a logarithmic scale. */
function showStrip(syncs) {
  const strip = $("strip"), most = 50, high = (ms) => Math.log10(1 + ms * 100);
  const highest = Math.max(1, ...syncs.map((sync) => high(sync.milliseconds)));
  strip.setAttribute("viewBox", `0 0 ${most} 10`);
  strip.replaceChildren(...syncs.map((sync, at) => {
    const bar = document.createElementNS("http://www.w3.org/2000/svg", "rect");
    const height = Math.max(0.6, (high(sync.milliseconds) / highest) * 10);
    const place = { x: most - syncs.length + at, y: 10 - height, width: 0.7, height };
    for (const [name, value] of Object.entries(place)) bar.setAttribute(name, value);
    bar.setAttribute("class", sync.error ? "bad" : sync.changes || sync.operations ? "" : "idle");
    return bar;
  }));
}

/** Repairs of what others changed, if there were any; the latest first. */
function showDrift(drift) {
  const repairs = [...(drift?.last ?? [])].reverse();
  $("drift").hidden = repairs.length === 0;
  say($("drift-count"), drift?.count ? `${many(drift.count, "repair")} since the start` : "");
  $("drift-rows").replaceChildren(...repairs.map(({ time, cause, operations }) => (
    make("tr", "", timeCell(time), make("td", "", cause), make("td", "number", number(operations)))
  )));
}
