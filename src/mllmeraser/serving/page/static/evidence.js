// The verification scores and the history of an erasure.

import { chip, el, number, share, when } from "./dom.js";

/** The verification as a table, with the certificates; null before the verification. */
export function scores({ scores: measured, passed, name }, certificates) {
  if (!measured) return null;
  const checks = measured.checks ?? [];
  return el("section", { class: "part" },
    el("div", { class: "heading" }, el("h3", {}, "Verification ", chip(passed ? "good" : "bad", passed ? "passed" : "not passed")), el("p", { class: "row links" }, certificates)),
    checks.length ? table(name, checks) : plain(measured));
}

function table(name, checks) {
  return el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Verification scores" }, el("table", { class: "scores" },
    el("caption", { class: "sr" }, `Verification of ${name}`),
    el("thead", {}, el("tr", {}, el("th", { scope: "col" }, "Check"), ["Value", "Interval", "Limit", "n"].map((head) => el("th", { scope: "col", class: "number" }, head)), el("th", { scope: "col" }, "Result"))),
    el("tbody", {}, checks.map((check) => el("tr", {},
      el("th", { scope: "row", title: check.reason }, check.name.replaceAll("_", " ")),
      el("td", { class: "number" }, share(check.value)),
      el("td", { class: "number" }, check.value == null ? "–" : `${share(check.low)}–${share(check.high)}`),
      el("td", { class: "number" }, `${check.at_most ? "≤" : "≥"} ${number(check.threshold)}`),
      el("td", { class: "number" }, number(check.n)),
      el("td", {}, chip(check.passed ? "good" : "bad", check.passed ? "passed" : "not passed")))))));
}

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
