// Helpers for the document. Text is always set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id. */
export const byId = (id) => document.getElementById(id);

/** Create an element with attributes (functions become listeners, false and null are skipped) and children. */
export function el(tag, attributes = {}, ...children) {
  return build(document.createElement(tag), attributes, children);
}

/** Create an SVG element. */
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

/** Show a line in `node`, or hide the node if the line is empty. */
export function say(node, text = "") {
  node.textContent = text;
  node.hidden = !text;
}

let telling = 0;

/** Announce a text to screen readers; the pause makes them repeat an equal text. */
export function announce(text) {
  const live = byId("live");
  live.textContent = "";
  clearTimeout(telling);
  telling = setTimeout(() => { live.textContent = text; }, 30);
}

/** Disable `button` while `work` runs, without losing focus. */
export async function whileBusy(button, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true");
  try {
    await work();
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

const short = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "numeric", minute: "2-digit", timeZoneName: "short",
});

/** The reader's time zone, such as Europe/Berlin. */
export const zone = short.resolvedOptions().timeZone;

/** A time in the reader's time zone, which is named, or a dash. */
export function when(iso) {
  return iso ? el("time", { datetime: iso, title: iso }, short.format(new Date(iso))) : "–";
}

/** The value of a `datetime-local` field as UTC; null if it is empty. */
export function moment(input) {
  return input.value ? new Date(input.value).toISOString() : null;
}

/** A UTC time in the format of a `datetime-local` field. */
export function local(iso) {
  if (!iso) return "";
  const at = new Date(iso);
  return new Date(at.getTime() - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

/** Copy a text; false if the browser does not allow it. Browsers do over HTTPS and from localhost. */
export async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}

/** The non-empty lines of a text field. */
export const lines = (field) => field.value.split("\n").map((line) => line.trim()).filter(Boolean);

/** A state as a colored label. */
export const chip = (state, words = state) => el("span", { class: `state ${state}` }, words);

/** The first characters of a digest, with all of it on hover. */
export const digest = (value) => (value ? el("code", { title: value }, value.slice(0, 12)) : "–");

/** A number with at most three decimals. */
export const number = (value) => (typeof value === "number" ? String(Number(value.toFixed(3))).replace("-", "−") : String(value ?? "–"));
