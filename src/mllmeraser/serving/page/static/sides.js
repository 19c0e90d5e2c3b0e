// An answer without erasers beside the answer with them. Only administrators get both from the service.

import { call } from "./api.js";
import { el } from "./dom.js";
import { render } from "./markdown.js";

const LONGEST = 4096; // the service lowers it to the limit of ordinary answers

/** Both answers to the last of `messages`, and the gate readings. */
export const compared = (model, messages) =>
  call("v1/compare", { method: "POST", body: { model, messages, max_tokens: LONGEST } });

/** Whether the erasers changed the answer, in a sentence. */
export const verdict = ({ before, after }) => (before === after ? "The answers are the same." : "The answers differ.");

/** Both answers, side by side. */
export function sides({ before, after }) {
  return el("div", { class: "sides" }, side("Before", "without erasers", before), side("After", "with the erasers in force", after, before !== after));
}

function side(title, what, text, changed = false) {
  const words = el("div", { class: "words" });
  render(words, text);
  return el("div", { class: `card side${changed ? " changed" : ""}`, role: "group", "aria-label": title }, el("p", { class: "side-title" }, el("strong", {}, title), " ", el("small", {}, what)), words);
}
