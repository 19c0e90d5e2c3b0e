// The ledger: all erasures with their states, and one of them in full.

import { rows } from "./api.js";
import { byId, el, say, when, whileBusy } from "./dom.js";
import { EntryPanel, passedOf, stateOf } from "./entry.js";
import { kindsOf } from "./words.js";

const filter = byId("erasures-filter");
const search = byId("erasures-search");
const box = byId("entry");
const panel = new EntryPanel(box, { changed: () => list(), close: () => { location.hash = "#erasures"; } });

let all = [];
let last = null;

filter.addEventListener("change", show);
search.addEventListener("input", show);
byId("erasures-refresh").addEventListener("click", (event) => whileBusy(event.currentTarget, async () => {
  await list();
  if (panel.id) await panel.refresh();
}));

/** Show the ledger, and the erasure with this id in full. */
export async function enter(id) {
  byId("view-erasures").classList.toggle("open", Boolean(id));
  if (id) await Promise.all([list(), panel.open(id, { focus: true })]);
  else {
    panel.leave();
    await list();
    if (last) byId("ledger-rows").querySelector(`a[href="#erasures/${last}"]`)?.focus();
  }
  last = id;
  return Boolean(id);
}

export function leave() {
  last = null;
  panel.leave();
}

export function clear() {
  all = [];
  byId("ledger-rows").replaceChildren();
}

async function list() {
  try {
    all = await rows("v1/erasures");
    say(byId("erasures-error"));
  } catch (failure) {
    say(byId("erasures-error"), failure.message);
  }
  show();
}

function show() {
  const words = search.value.trim().toLowerCase();
  const found = (entry) => !words || `${entry.name} ${entry.id}`.toLowerCase().includes(words);
  const shown = all.filter((entry) => (!filter.value || entry.state === filter.value) && found(entry));
  const active = all.filter((entry) => entry.state === "active").length;
  byId("erasures-count").textContent = `${all.length} ${all.length === 1 ? "erasure" : "erasures"}, ${active} active`;
  const held = document.activeElement?.closest("#ledger-rows a")?.hash;
  byId("ledger-rows").replaceChildren(...(shown.length ? shown.map(row) : [nothing()]));
  if (held) byId("ledger-rows").querySelector(`a[href="${held}"]`)?.focus();
}

const nothing = () => el("tr", {}, el("td", { colspan: "6", class: "quiet" }, all.length ? "None found." : "Nothing has been forgotten yet."));

function row(entry) {
  const current = entry.id === panel.id;
  return el("tr", { class: current && "current", "data-id": entry.id },
    el("th", { scope: "row" }, el("a", { href: `#erasures/${entry.id}`, "aria-current": current && "true" }, entry.name)),
    el("td", { class: "wide" }, kindsOf(entry)),
    el("td", {}, stateOf(entry)),
    el("td", { class: "wide" }, entry.default ? entry.tenant ?? "all tenants" : `on request${entry.tenant ? `, ${entry.tenant}` : ""}`),
    el("td", { class: "wide" }, passedOf(entry)),
    el("td", { class: "wide quiet" }, when(entry.requested_at)));
}
