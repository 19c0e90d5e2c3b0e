// One erasure in full: progress, actions, verification scores, and history.

import { call } from "./api.js";
import { buttons, certificates, outcome } from "./actions.js";
import { announce, chip, digest, el, number, say, when } from "./dom.js";
import { history, notes, scores } from "./evidence.js";
import { kindsOf } from "./words.js";

const STEPS = ["requested", "fitted", "verified", "active"];
const SOON = 700;
const LATE = 5000;

/** Shows one erasure in `box`, and polls it while the service works on it. */
export class EntryPanel {
  /** `changed` is called after every change made here; `close` adds a close button. */
  constructor(box, { changed = () => {}, close = null } = {}) {
    Object.assign(this, { box, changed, close, id: null, timer: 0, wait: SOON, shown: "", stage: "" });
  }

  /** Show this erasure; resolves once it is loaded. */
  async open(id, { focus = false } = {}) {
    if (id !== this.id) this.box.replaceChildren();
    Object.assign(this, { id, wait: SOON, shown: "", stage: "", notice: "" });
    await this.refresh();
    if (focus) this.focus();
  }

  /** Stop polling and empty the panel. */
  leave() {
    clearTimeout(this.timer);
    this.id = null;
    this.box.hidden = true;
    this.box.replaceChildren();
  }

  focus() {
    this.box.querySelector("h2")?.focus();
  }

  async refresh() {
    clearTimeout(this.timer);
    const id = this.id;
    try {
      const entry = await call(`v1/erasures/${id}`);
      if (id !== this.id) return;
      this.#show(entry);
      this.#follow(entry);
    } catch (failure) {
      if (id === this.id) this.#trouble(failure);
    }
  }

  #follow(entry) {
    // Without progress here, another server may be working on it, as long as its request is kept.
    const atWork = entry.progress || (entry.inputs_kept && !entry.failure);
    if (!atWork) return;
    this.timer = setTimeout(() => this.refresh(), this.wait);
    this.wait = Math.min(LATE, this.wait * 1.3);
  }

  #trouble(failure) {
    this.box.hidden = false;
    let line = this.box.querySelector(".trouble");
    if (!line) this.box.append(line = el("p", { class: "notice bad trouble", role: "alert" }));
    say(line, failure.message);
    if (failure.status === 0) this.timer = setTimeout(() => this.refresh(), LATE);
  }

  #show(entry) {
    const { progress, ...rest } = entry;
    const now = JSON.stringify([rest, Boolean(progress)]);
    if (now !== this.shown) {
      const moved = this.shown && this.state !== entry.state;
      Object.assign(this, { shown: now, state: entry.state, wait: SOON });
      this.#draw(entry);
      if (moved) {
        announce(`${entry.name} is ${entry.state.replace("_", " ")}`);
        this.changed(entry);
      }
    }
    if (progress) this.#advance(progress);
  }

  #advance({ stage, done, total }) {
    if (done !== this.done) Object.assign(this, { done, wait: SOON });
    const bar = this.box.querySelector("progress");
    if (total) Object.assign(bar, { max: total, value: done });
    else bar.removeAttribute("value");
    this.box.querySelector(".stage").textContent = total ? `${stage}: ${done} of ${total}` : stage;
    if (stage !== this.stage) {
      announce(stage);
      this.stage = stage;
    }
  }

  #draw(entry) {
    const held = this.box.contains(document.activeElement);
    const open = [...this.box.querySelectorAll("details[open]")].map((part) => part.dataset.part);
    const trouble = el("p", { class: "notice bad trouble", role: "alert", hidden: true });
    const fail = (message) => say(trouble, message);
    this.box.replaceChildren(...[
      head(entry, this.close),
      steps(entry),
      entry.progress && el("div", { class: "progress" }, el("progress", { "aria-label": `Progress of ${entry.name}` }), el("p", { class: "stage quiet" })),
      this.notice && el("p", { class: "notice good" }, this.notice),
      entry.failure && !entry.progress && el("p", { class: "notice bad" }, `${entry.artifact_digest ? "Verifying" : "Fitting"} failed: ${entry.failure}`),
      trouble,
      el("div", { class: "row actions", role: "group", "aria-label": `Actions for ${entry.name}` }, buttons(entry, (answer) => this.#done(answer), () => this.refresh())),
      conflicts(entry.conflicts ?? []),
      facts(entry),
      scores(entry, certificates(entry, fail)),
      history(entry.history ?? []),
      notes(entry.notes ?? [], (text) => this.#note(text, fail)),
    ].filter(Boolean));
    this.box.hidden = false;
    open.forEach((part) => this.box.querySelector(`details[data-part="${part}"]`)?.setAttribute("open", ""));
    if (held) this.focus();
  }

  async #note(text, fail) {
    try {
      await call(`v1/erasures/${this.id}/notes`, { method: "POST", body: { text } });
    } catch (failure) {
      fail(failure.message);
      return;
    }
    await this.refresh();
    announce("The note is added.");
  }

  async #done(answer) {
    this.notice = outcome(answer);
    Object.assign(this, { shown: "", wait: SOON });
    await this.refresh();
    this.focus();
    announce(this.notice);
    this.changed(answer);
  }
}

const missed = ({ state }) => state === "checks_failed";

/** The state as a label; a failed fit or verification keeps the state and adds "failed", an activation from a later start "scheduled". */
export const stateOf = (entry) => {
  const { state, pending, failure, progress } = entry;
  if (pending) return chip(missed(entry) ? "bad" : state, `${state.replace("_", " ")}, scheduled`);
  if (missed(entry)) return chip("bad", "checks failed");
  return failure && !progress && ["requested", "fitted"].includes(state) ? chip("bad", `${state}, failed`) : chip(state);
};

function head(entry, close) {
  return el("div", { class: "heading" },
    el("h2", { tabindex: "-1" }, entry.name, " ", stateOf(entry)),
    close && el("button", { type: "button", class: "cross", "aria-label": "Close the details", click: close }, "×"));
}

function steps(entry) {
  const { state } = entry;
  const at = STEPS.indexOf(state === "suspended" ? "active" : missed(entry) ? "verified" : state);
  if (at < 0) return null;
  return el("ol", { class: "steps", "aria-label": "Progress" }, STEPS.map((step, place) => {
    const here = place === at;
    const words = here && state === "suspended" ? "suspended" : here && missed(entry) ? "checks failed" : step;
    const look = missed(entry) ? "here failed" : `here ${state}`;
    return el("li", { class: place < at ? "past" : here ? look : "", "aria-current": here && "step" }, words);
  }));
}

function conflicts(found) {
  if (!found.length) return null;
  return el("div", { class: "notice warn conflicts" }, el("p", {}, el("strong", {}, "Conflicts")), el("ul", {}, found.map((line) => el("li", {}, line))));
}

function facts(entry) {
  const reach = entry.default ? "every request" : `only model@${entry.name}`;
  const all = [
    ["About", kindsOf(entry)],
    ["Applies to", `${reach}${entry.tenant ? ` of ${entry.tenant}` : ""}`],
    ["Requested", [when(entry.requested_at), el("span", { class: "block quiet" }, `by ${entry.requested_by}`)]],
    entry.starts_at && ["Starts", when(entry.starts_at)],
    ["Expires", entry.expires_at ? when(entry.expires_at) : "never"],
    entry.artifact_digest && ["Eraser", digest(entry.artifact_digest)],
  ];
  return el("dl", { class: "facts" }, all.filter(Boolean).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

export const passedOf = ({ passed, scores: measured }) => {
  if (passed == null) return "–";
  const checks = measured?.checks ?? [];
  const good = checks.filter((check) => check.passed).length;
  const count = checks.length ? ` ${number(good)} of ${number(checks.length)}` : "";
  return chip(passed ? "good" : "bad", `${passed ? "passed" : "not passed"}${count}`);
};
