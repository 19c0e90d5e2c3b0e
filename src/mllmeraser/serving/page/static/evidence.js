// The verification scores and the history of an erasure.

import { chip, el, number, when } from "./dom.js";
import { COLUMNS, cells } from "./words.js";

/** The verification as a table, with the certificates; null before the verification. */
export function scores({ scores: measured, passed, name }, certificates) {
  if (!measured) return null;
  const checks = measured.checks ?? [];
  return el("section", { class: "part" },
    el("div", { class: "heading" }, el("h3", {}, "Verification ", chip(passed ? "good" : "bad", passed ? "passed" : "not passed")), el("p", { class: "row links" }, certificates)),
    checks.length ? table(name, checks) : plain(measured));
}

// Roles are written out, because phones show each check as a block (see page.css).
function table(name, checks) {
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Verification scores" }, el("table", { class: "scores stacked", role: "table" },
    el("caption", { class: "sr" }, `Verification of ${name}`),
    el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, COLUMNS.map((head, place) => el("th", { scope: "col", role: "columnheader", class: isNumber(place) && "number" }, head)))),
    el("tbody", { role: "rowgroup" }, checks.map(row))));
}

function row(check) {
  const [title, ...figures] = cells(check);
  return el("tr", { role: "row" },
    el("th", { scope: "row", role: "rowheader", title: check.reason }, title),
    figures.map((words, place) => el("td", { class: "number", role: "cell", "data-label": COLUMNS[place + 1] }, words)),
    el("td", { class: "result", role: "cell" }, chip(check.passed ? "good" : "bad", check.passed ? "passed" : "not passed")));
}

const isNumber = (place) => place > 0 && place < COLUMNS.length - 1;

const plain = (measured) => el("dl", { class: "facts" }, Object.entries(measured)
  .filter(([, value]) => typeof value !== "object")
  .map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, number(value)))));

/** Events, newest first. */
export function history(all) {
  if (!all.length) return null;
  return el("details", { class: "part", "data-part": "history" },
    el("summary", {}, `History (${all.length})`),
    el("ol", { class: "history", reversed: true }, [...all].reverse().map((event) =>
      el("li", {}, el("strong", {}, event.action), " ", el("span", { class: "quiet" }, when(event.at), ` by ${event.by}`), wordsOf(event.details)))));
}

/** Notes, oldest first, and a form for another one; `add` gets its text. */
export function notes(all, add) {
  const field = el("input", { type: "text", maxlength: "1000", required: true, "aria-label": "New note", placeholder: "A note, kept for good: no personal data" });
  const send = (event) => {
    event.preventDefault();
    if (field.value.trim()) add(field.value.trim());
  };
  return el("details", { class: "part", "data-part": "notes" },
    el("summary", {}, `Notes (${all.length})`),
    all.length > 0 && el("ol", { class: "history" }, all.map((note) =>
      el("li", {}, el("span", { class: "quiet" }, when(note.at), ` by ${note.by}`), el("span", { class: "block" }, note.text)))),
    el("form", { class: "row note", submit: send }, field, el("button", { type: "submit" }, "Add note")));
}

const wordsOf = (details) => {
  const words = detailWords(details);
  return words ? el("span", { class: "block" }, words) : null;
};

/** Details of an event in one line. */
export function detailWords(details) {
  return Object.entries(details ?? {})
    .filter(([, value]) => value != null && value !== "")
    .map(([name, value]) => `${name.replaceAll("_", " ")}: ${typeof value === "object" ? JSON.stringify(value) : value}`)
    .join(", ");
}
