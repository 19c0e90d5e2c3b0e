// The gate of one eraser as a bar chart: its score at every layer it reads, relative to the threshold.

import { el, number, svg } from "./dom.js";

const HEIGHT = 168;
const TOP = 12;
const BOTTOM = 24;

/** Figure for `{name, amplitude, pooled, layers, threshold = 0}`; a layer holds one score, or one for each subject. */
export function gate({ name, amplitude, pooled, layers, threshold = 0 }) {
  const scores = Object.entries(layers)
    .map(([layer, score]) => ({ layer: Number(layer), score: Array.isArray(score) ? Math.max(...score) : score }))
    .sort((one, other) => one.layer - other.layer);
  const acts = amplitude > 0;
  return el("figure", { class: `card gate${acts ? " acts" : ""}` },
    el("figcaption", {},
      el("strong", {}, name),
      el("span", { class: `state ${acts ? "active" : "requested"}` }, acts ? "acts" : "does not act"),
      el("span", { class: "quiet" }, `amplitude ${number(amplitude)}, ${pooled === null ? "no name or face to read" : `pooled score ${number(pooled)}`}`)),
    scores.length ? el("div", { class: "plot" }, picture(name, scores, threshold)) : el("p", { class: "quiet" }, "The gate read no layer."),
    scores.length > 0 && el("p", { class: "legend" }, `Score by layer; the line is the threshold, ${number(threshold)}.`),
    scores.length > 0 && table(name, scores, threshold));
}

function picture(name, scores, threshold) {
  const values = scores.map(({ score }) => score);
  const low = Math.min(threshold, ...values);
  const high = Math.max(threshold, ...values);
  const span = high - low || 1;
  const y = (value) => TOP + ((high - value) / span) * (HEIGHT - TOP - BOTTOM);
  return [axis([high, threshold, low], y, threshold), bars(name, scores, threshold, y)];
}

function axis(values, y, threshold) {
  const far = (value) => value === threshold || Math.abs(y(value) - y(threshold)) > 14;
  const marks = [...new Set(values)].filter(far);
  return svg("svg", { class: "axis", height: HEIGHT, width: 48, "aria-hidden": "true" },
    marks.map((value) => svg("text", { x: 42, y: y(value) + 4, "text-anchor": "end" }, number(Number(value.toPrecision(2))))));
}

function bars(name, scores, threshold, y) {
  const step = 100 / scores.length;
  const every = Math.ceil(scores.length / 9);
  const zero = y(threshold);
  const parts = scores.flatMap(({ layer, score }, place) => [
    svg("rect", {
      class: score > threshold ? "above" : "below",
      x: `${(place + 0.16) * step}%`,
      width: `${0.68 * step}%`,
      y: Math.min(zero, y(score)),
      height: Math.max(1, Math.abs(y(score) - zero)),
    }, svg("title", {}, `layer ${layer}: ${number(score)}`)),
    place % every === 0 && svg("text", { x: `${(place + 0.5) * step}%`, y: HEIGHT - 6, "text-anchor": "middle" }, String(layer)),
  ]);
  const line = svg("line", { class: "threshold", x1: "0", x2: "100%", y1: zero, y2: zero });
  return svg("svg", { class: "bars", height: HEIGHT, width: "100%", role: "img", "aria-label": inWords(name, scores, threshold) }, parts, line);
}

function inWords(name, scores, threshold) {
  const above = scores.filter(({ score }) => score > threshold).length;
  const top = scores.reduce((best, one) => (one.score > best.score ? one : best));
  return `Gate of ${name} by layer: ${above} of ${scores.length} layers above the threshold ${number(threshold)}; highest ${number(top.score)} at layer ${top.layer}.`;
}

function table(name, scores, threshold) {
  return el("details", {},
    el("summary", {}, "Scores as a table"),
    el("table", {},
      el("caption", {}, `Gate of ${name}; the threshold is ${number(threshold)}`),
      el("thead", {}, el("tr", {}, ["Layer", "Score", "Side"].map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, scores.map(({ layer, score }) => el("tr", {},
        el("th", { scope: "row" }, String(layer)),
        el("td", {}, number(score)),
        el("td", {}, score > threshold ? "above" : "below"))))));
}
