// Audit: events, the check of the chain, and the eraser set of each server.

import { call, rows } from "./api.js";
import { announce, byId, chip, digest, el, say, when, whileBusy } from "./dom.js";
import { detailWords } from "./evidence.js";

const PAGE = 500;
const SHOWN = 50;
const BRIEF = 60;

let events = [];
let names = new Map();
let shown = SHOWN;

byId("audit-refresh").addEventListener("click", (event) => whileBusy(event.currentTarget, enter));
byId("audit-check").addEventListener("click", (event) => whileBusy(event.currentTarget, check));
byId("audit-more").addEventListener("click", () => {
  shown += SHOWN;
  show();
});

/** Show the events, newest first, and the servers. */
export async function enter() {
  say(byId("audit-error"));
  try {
    const [, servers, erasures] = await Promise.all([load(), rows("v1/servers"), rows("v1/erasures")]);
    names = new Map(erasures.map((entry) => [entry.id, entry.name]));
    byId("server-rows").replaceChildren(...servers.map(server));
  } catch (failure) {
    say(byId("audit-error"), failure.message);
  }
  show();
}

export function clear() {
  events = [];
  names = new Map();
  shown = SHOWN;
  say(byId("audit-result"));
  byId("server-rows").replaceChildren();
  show();
}

// Only new events are fetched: earlier ones never change.
async function load() {
  for (;;) {
    const after = events.at(-1)?.seq ?? 0;
    const page = (await rows(`v1/audit?after=${after}&limit=${PAGE}`)).filter((event) => event.seq > after);
    events.push(...page);
    if (page.length < PAGE) return;
  }
}

async function check() {
  const result = byId("audit-result");
  say(byId("audit-error"));
  try {
    const report = await call("v1/audit/verify");
    result.className = `notice ${report.ok ? "good" : "bad"}`;
    say(result, report.ok ? `The chain holds: ${report.records} records, checked one by one.` : `The chain is broken${report.bad ? ` at record ${report.bad}` : ""}: ${report.reason}`);
  } catch (failure) {
    say(byId("audit-error"), failure.message);
  }
}

function show() {
  const newest = events.slice(-shown).reverse();
  byId("event-rows").replaceChildren(...newest.map(row));
  byId("audit-more").hidden = shown >= events.length;
  if (shown > SHOWN) announce(`${newest.length} events`);
}

function row(event) {
  return el("tr", {},
    el("td", { class: "number" }, String(event.seq)),
    el("td", { class: "quiet" }, when(event.at)),
    el("td", {}, event.action),
    el("td", {}, subject(event.entry)),
    el("td", { class: "wide" }, event.by),
    el("td", { class: "wide quiet" }, details(event)));
}

// Long details hold hashes, which would make the table many screens wide.
function details(event) {
  const words = detailWords(event.details);
  const hash = event.hash && digest(event.hash);
  if (String(words).length <= BRIEF) return [words, " ", hash];
  return el("details", {}, el("summary", {}, `${String(words).slice(0, BRIEF)}…`), el("p", { class: "whole" }, words), hash);
}

function subject(id) {
  if (!id) return "–";
  return names.has(id) ? el("a", { href: `#erasures/${id}` }, names.get(id)) : el("code", { title: id }, id.slice(0, 12));
}

function server({ server: name, version, ready, seen_at: seen }) {
  return el("tr", {},
    el("th", { scope: "row" }, name, el("span", { class: "slim quiet" }, "seen ", when(seen))),
    el("td", {}, String(version)),
    el("td", {}, chip(ready ? "good" : "bad", ready ? "ready" : "not ready")),
    el("td", { class: "wide quiet" }, when(seen)));
}
