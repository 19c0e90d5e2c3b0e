// The gate of one eraser as a bar chart: the scores of all that it reads, relative to the threshold.

import { el, number, svg } from "./dom.js";

const HEIGHT = 168;
const TOP = 12;
const BOTTOM = 24;

/**
 * Figure for `{name, amplitude, pooled, layers, reads = {}, threshold = 0}`.
 *
 * A layer holds one score, or one for each subject. `reads` says what a layer reads (name, question, face), where
 * layers read different things; a prompt without a picture has no score for the face.
 */
export function gate({ name, amplitude, pooled, layers, reads = {}, threshold = 0 }) {
  const parts = Object.keys(reads).length > 0;
  const scores = slots(layers, reads);
  const read = scores.some(({ score }) => score !== null);
  const acts = amplitude > 0;
  return el("figure", { class: `card gate${acts ? " acts" : ""}` },
    el("figcaption", {},
      el("strong", {}, name),
      el("span", { class: `state ${acts ? "active" : "requested"}` }, acts ? "acts" : "does not act"),
      el("span", { class: "quiet" }, `amplitude ${number(amplitude)}, ${pooled === null ? "no name or face to read" : `pooled score ${number(pooled)}`}`)),
    read ? el("div", { class: "plot" }, picture(name, scores, threshold, parts)) : el("p", { class: "quiet" }, "The gate read no layer."),
    read && el("p", { class: "legend" }, legend(threshold, parts)),
    read && table(name, scores, threshold, parts));
}

function slots(layers, reads) {
  const wanted = [...new Set([...Object.keys(reads), ...Object.keys(layers)])].map(Number).sort((one, other) => one - other);
  return wanted.map((layer) => {
    const score = layers[layer] ?? null;
    const words = reads[layer];
    return { label: words ?? String(layer), full: words ? `${words} (layer ${layer})` : `layer ${layer}`, score: Array.isArray(score) ? Math.max(...score) : score };
  });
}

function legend(threshold, parts) {
  const line = `the line is the threshold, ${number(threshold)}.`;
  if (!parts) return `Score by layer; ${line}`;
  return `From left to right: does the prompt name the person, does it ask about a person, does it show the person's face? One score each; ${line} `
    + "The eraser acts if the name or the face is above the line, and the question is too.";
}

function picture(name, scores, threshold, parts) {
  const values = scores.map(({ score }) => score).filter((score) => score !== null);
  const low = Math.min(threshold, ...values);
  const high = Math.max(threshold, ...values);
  const span = high - low || 1;
  const y = (value) => TOP + ((high - value) / span) * (HEIGHT - TOP - BOTTOM);
  return [axis([high, threshold, low], y, threshold), bars(name, scores, threshold, y, parts)];
}

function axis(values, y, threshold) {
  const far = (value) => value === threshold || Math.abs(y(value) - y(threshold)) > 14;
  const marks = [...new Set(values)].filter(far);
  return svg("svg", { class: "axis", height: HEIGHT, width: 48, "aria-hidden": "true" },
    marks.map((value) => svg("text", { x: 42, y: y(value) + 4, "text-anchor": "end" }, number(Number(value.toPrecision(2))))));
}

function bars(name, scores, threshold, y, parts) {
  const step = 100 / scores.length;
  const every = parts ? 1 : Math.ceil(scores.length / 9);
  const zero = y(threshold);
  const drawn = scores.flatMap(({ label, full, score }, place) => [
    score !== null && svg("rect", {
      class: score > threshold ? "above" : "below",
      x: `${(place + 0.16) * step}%`,
      width: `${0.68 * step}%`,
      y: Math.min(zero, y(score)),
      height: Math.max(1, Math.abs(y(score) - zero)),
    }, svg("title", {}, `${full}: ${number(score)}`)),
    place % every === 0 && svg("text", { class: "label", x: `${(place + 0.5) * step}%`, y: HEIGHT - 6, "text-anchor": "middle" }, score === null ? `no ${label}` : label),
  ]);
  const line = svg("line", { class: "threshold", x1: "0", x2: "100%", y1: zero, y2: zero });
  return svg("svg", { class: "bars", height: HEIGHT, width: "100%", role: "img", "aria-label": inWords(name, scores, threshold, parts) }, drawn, line);
}

const side = (score, threshold) => (score > threshold ? "above" : "below");

function inWords(name, scores, threshold, parts) {
  if (parts) {
    const words = scores.map(({ label, score }) => (score === null ? `no ${label}` : `${label} ${number(score)}, ${side(score, threshold)}`));
    return `Gate of ${name}, threshold ${number(threshold)}: ${words.join("; ")}.`;
  }
  const above = scores.filter(({ score }) => score > threshold).length;
  const top = scores.reduce((best, one) => (one.score > best.score ? one : best));
  return `Gate of ${name} by layer: ${above} of ${scores.length} layers above the threshold ${number(threshold)}; highest ${number(top.score)} at ${top.full}.`;
}

function table(name, scores, threshold, parts) {
  return el("details", {},
    el("summary", {}, "Scores as a table"),
    el("table", {},
      el("caption", {}, `Gate of ${name}; the threshold is ${number(threshold)}`),
      el("thead", {}, el("tr", {}, [parts ? "What is read" : "Layer", "Score", "Side"].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, scores.map(({ label, full, score }) => el("tr", {},
        el("th", { scope: "row" }, parts ? full : label),
        el("td", {}, number(score)),
        el("td", {}, score === null ? "not in the prompt" : side(score, threshold)))))));
}
