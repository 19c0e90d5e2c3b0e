// Before and after: one question, both answers, and the gate readings.

import { announce, byId, el, say, whileBusy } from "./dom.js";
import { gate } from "./gates.js";
import { loadModels } from "./models.js";
import { Pictures, turn } from "./pictures.js";
import { compared, sides, verdict } from "./sides.js";

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
    await pictures.read();
    show(question, await compared(byId("compare-model").value, [turn(question, pictures.chosen)]));
  } catch (failure) {
    say(error, failure.message);
  } finally {
    result.removeAttribute("aria-busy");
  }
}

function show(question, body) {
  result.replaceChildren(
    el("h2", {}, question),
    sides(body),
    el("p", { class: "quiet" }, verdict(body)),
    el("h2", {}, "What the gates read"),
    body.erasers.length
      ? el("div", { class: "gates" }, body.erasers.map(gate))
      : el("p", { class: "quiet" }, "No eraser is in force for this request."));
  result.hidden = false;
  say(byId("compare-set"), `Eraser set ${body.version}`);
  announce(`${verdict(body)} Before: ${body.before} After: ${body.after}`);
  result.scrollIntoView({ block: "nearest" });
}
