// Markdown of answers as elements. Text is set as text: raw HTML, links and pictures of an answer stay text.

import { el } from "./dom.js";
import { lexer } from "./vendor/marked.esm.js";

/** Show the Markdown `text` in `node`. */
export function render(node, text) {
  node.replaceChildren(...elements(text));
}

function elements(text) {
  try {
    return blocks(lexer(text));
  } catch {
    return [el("p", {}, text)]; // nested too deeply
  }
}

const blocks = (tokens) => tokens.map((token) => (BLOCKS[token.type] ?? plain)(token)).filter((node) => node !== null);
const inline = (tokens) => tokens.map((token) => (INLINE[token.type] ?? verbatim)(token));
const plain = (token) => el("p", {}, token.tokens ? inline(token.tokens) : token.raw.trimEnd());
const verbatim = (token) => token.raw;

const BLOCKS = {
  space: () => null,
  hr: () => el("hr"),
  // Not a heading of the page: its outline is for the page's own sections.
  heading: (token) => el("p", {}, el("strong", {}, inline(token.tokens))),
  code: (token) => el("pre", {}, el("code", {}, token.text)),
  blockquote: (token) => el("blockquote", {}, blocks(token.tokens)),
  list: (token) => el(token.ordered ? "ol" : "ul", { start: token.ordered && token.start !== 1 && token.start }, token.items.map(item)),
  checkbox: verbatim,
  text: (token) => el("span", {}, token.tokens ? inline(token.tokens) : token.text),
  table: (token) => el("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Table of the answer" }, el("table", {},
    el("thead", {}, el("tr", {}, token.header.map((cell) => el("th", { scope: "col" }, inline(cell.tokens))))),
    el("tbody", {}, token.rows.map((row) => el("tr", {}, row.map((cell) => el("td", {}, inline(cell.tokens)))))))),
};

const INLINE = {
  text: (token) => (token.tokens ? inline(token.tokens) : token.text),
  escape: (token) => token.text,
  strong: (token) => el("strong", {}, inline(token.tokens)),
  em: (token) => el("em", {}, inline(token.tokens)),
  del: (token) => el("del", {}, inline(token.tokens)),
  codespan: (token) => el("code", {}, token.text),
  br: () => el("br"),
};

const item = (token) => el("li", {}, blocks(token.tokens));
