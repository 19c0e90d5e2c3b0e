// One question and its answer in the transcript, with what can be done with the answer.

import { announce, copied, el } from "./dom.js";
import { render } from "./markdown.js";
import { sides, verdict } from "./sides.js";

/** A turn; setting `text` or `note` shows it. */
export class Turn {
  #text = "";

  /** `asked`: {question, model, pictures, kept: how many pictures earlier turns bring, sent: all pictures, messages}. `before` is false or a handler. */
  constructor(asked, { again, before }) {
    Object.assign(this, asked);
    this.words = el("div", { class: "words" });
    this.line = el("p", { class: "note" });
    this.sides = el("div", { class: "both", hidden: true });
    this.tools = el("div", { class: "row answer-tools", role: "group", "aria-label": "This answer", hidden: true },
      button("Copy", (event) => this.#copy(event.currentTarget)),
      button("Regenerate", () => again(this), { class: "link again", title: "Draws another answer" }),
      before && button("Before and after", (event) => before(this, event.currentTarget), { title: "The answer without erasers, and with those in force" }));
    this.box = el("article", { class: "turn", "aria-label": this.question },
      el("div", { class: "asked" },
        this.pictures.map((picture) => el("img", { src: picture.data, alt: `Picture: ${picture.file.name}` })),
        el("p", {}, this.question),
        this.kept > 0 && el("p", { class: "note" }, `${this.kept === 1 ? "1 picture" : `${this.kept} pictures`} still attached`)),
      el("div", { class: "answer" }, this.words, this.line, this.tools, this.sides));
  }

  /** The answer, in Markdown. */
  get text() {
    return this.#text;
  }

  set text(value) {
    this.#text = value;
    render(this.words, value);
  }

  /** One line about the answer. */
  get note() {
    return this.line.textContent;
  }

  set note(value) {
    this.line.textContent = value;
  }

  begin() {
    this.words.setAttribute("aria-busy", "true");
    this.tools.hidden = this.sides.hidden = true;
  }

  end() {
    this.words.removeAttribute("aria-busy");
    this.tools.hidden = false;
  }

  /** Show both answers below this one; returns a sentence about them. */
  compare(body) {
    const acting = body.erasers.filter(({ amplitude }) => amplitude > 0).map(({ name }) => name);
    const who = acting.length ? `Acting: ${acting.join(", ")}.` : "No eraser acts.";
    this.sides.replaceChildren(sides(body), el("p", { class: "note" }, `Eraser set ${body.version} · ${verdict(body)} ${who}`));
    this.sides.hidden = false;
    this.sides.scrollIntoView({ block: "nearest" });
    return `${verdict(body)} Before: ${body.before} After: ${body.after}`;
  }

  async #copy(button) {
    const done = await copied(this.text);
    if (!done) getSelection().selectAllChildren(this.words);
    button.textContent = done ? "Copied" : "Selected: press Ctrl+C";
    announce(button.textContent);
    setTimeout(() => { button.textContent = "Copy"; }, 3000);
  }
}

const button = (words, click, more = {}) => el("button", { type: "button", class: "link", click, ...more }, words);
