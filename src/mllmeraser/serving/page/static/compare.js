// Before and after: one question, both answers, and the gate readings.

import { call } from "./api.js";
import { announce, byId, el, say, whileBusy } from "./dom.js";
import { gate } from "./gates.js";
import { loadModels } from "./ask.js";
import { Pictures, turn } from "./pictures.js";

const form = byId("compare-form");
const text = byId("compare-text");
const error = byId("compare-error");
const result = byId("compare-result");
const pictures = new Pictures("compare", { drop: form, say: (line) => say(error, line) });

form.addEventListener("submit", (event) => {
  event.preventDefault();
  whileBusy(byId("compare-send"), compare);
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});

export const enter = () => loadModels().catch((failure) => say(error, failure.message));

export function clear() {
  pictures.clear();
  text.value = "";
  say(error);
  say(byId("compare-set"));
  result.hidden = true;
  result.replaceChildren();
}

async function compare() {
  const question = text.value.trim();
  if (!question) return say(error, "Write a question first.");
  say(error);
  result.setAttribute("aria-busy", "true");
  announce("Comparing");
  try {
    const messages = [turn(question, await pictures.dataUrl())];
    show(question, await call("v1/compare", { method: "POST", body: { model: byId("compare-model").value, messages } }));
  } catch (failure) {
    say(error, failure.message);
  } finally {
    result.removeAttribute("aria-busy");
  }
}

function show(question, body) {
  const same = body.before === body.after;
  const verdict = same ? "The answers are the same." : "The answers differ.";
  result.replaceChildren(
    el("h2", {}, question),
    el("div", { class: "sides" }, side("Before", "without erasers", body.before), side("After", "with the erasers in force", body.after, !same)),
    el("p", { class: "quiet" }, verdict),
    el("h2", {}, "Gates by layer"),
    body.erasers.length
      ? el("div", { class: "gates" }, body.erasers.map(gate))
      : el("p", { class: "quiet" }, "No eraser is in force for this request."));
  result.hidden = false;
  say(byId("compare-set"), `Eraser set ${body.version}`);
  announce(`${verdict} Before: ${body.before} After: ${body.after}`);
  result.scrollIntoView({ block: "nearest" });
}

function side(title, what, words, changed = false) {
  return el("article", { class: `card side${changed ? " changed" : ""}` }, el("h3", {}, title, " ", el("small", {}, what)), el("p", { class: "words" }, words));
}
