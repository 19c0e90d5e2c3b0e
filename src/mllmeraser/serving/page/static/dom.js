// Small helpers around the document. Text is only ever set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** An element with attributes (functions become listeners, false and null are left out) and children. */
export function el(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** The same for pictures. */
export function svg(tag, attributes = {}, ...children) {
  return build(document.createElementNS(SVG, tag), attributes, children);
}

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

/** Show a line in `node`, or hide it where there is none. */
export function say(node, text = "") {
  node.textContent = text;
  node.hidden = !text;
}

let telling = 0;

/** Tell screen readers, once; the pause makes them hear the same words again. */
export function announce(text) {
  const live = byId("live");
  live.textContent = "";
  clearTimeout(telling);
  telling = setTimeout(() => { live.textContent = text; }, 30);
}

/** While `work` runs, `button` cannot be pressed; focus stays on it. */
export async function whileBusy(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await work();
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

const short = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A moment in the reader's own time, or a dash. */
export function when(iso) {
  return iso ? el("time", { datetime: iso, title: iso }, short.format(new Date(iso))) : "–";
}

/** What a `datetime-local` field holds, as UTC; null where it is empty. */
export function moment(input) {
  return input.value ? new Date(input.value).toISOString() : null;
}

/** A UTC time as a `datetime-local` field wants it. */
export function local(iso) {
  if (!iso) return "";
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

/** The lines of a text field that hold something. */
export const lines = (field) => field.value.split("\n").map((line) => line.trim()).filter(Boolean);

/** A state in colour and in words. */
export const chip = (state, words = state) => el("span", { class: `state ${state}` }, words);

/** The beginning of a digest; the whole of it on hover. */
export const digest = (value) => (value ? el("code", { title: value }, value.slice(0, 12)) : "–");

/** A share, with three decimals. */
export const share = (value) => (typeof value === "number" ? value.toFixed(3) : "–");

/** A number with at most three decimals. */
export const number = (value) => (typeof value === "number" ? String(Number(value.toFixed(3))).replace("-", "−") : String(value ?? "–"));
