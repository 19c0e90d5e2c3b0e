// Ask: questions, with or without pictures, and their streamed answers. Earlier turns and pictures go along.

import { CallError, events, send } from "./api.js";
import { announce, byId, say, whileBusy } from "./dom.js";
import { loadModels } from "./models.js";
import { Pictures, turn } from "./pictures.js";
import { compared } from "./sides.js";
import { Turn } from "./turn.js";

const TEMPERATURE = 0.7;
const FRESH = "Start a new conversation, or do not send earlier turns.";

const form = byId("ask-form");
const text = byId("ask-text");
const follow = byId("ask-follow");
const log = byId("transcript");
const error = byId("ask-error");
const pictures = new Pictures("ask", { drop: form, say: (line) => say(error, line) });

let turns = []; // all of the transcript, in its order
let running = null;
let admin = false;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
byId("ask-stop").addEventListener("click", () => {
  running?.abort();
  text.focus();
});
byId("ask-new").addEventListener("click", clear);

/** Remove all questions and answers, also at sign-out. */
export function clear() {
  running?.abort();
  turns = [];
  log.replaceChildren();
  pictures.clear();
  text.value = "";
  say(error);
  say(byId("ask-set"));
  layout();
  text.focus();
}

export function enter(_, scope) {
  admin = scope === "admin";
  return loadModels().catch((failure) => say(error, failure.message));
}

async function ask() {
  const question = text.value.trim();
  if (running) return;
  if (!question) return say(error, "Write a question first.");
  const { signal } = (running = new AbortController());
  say(error);
  const failure = await pictures.read().catch((unread) => unread);
  if (signal.aborted || failure) {
    running = null;
    if (!signal.aborted) say(error, failure.message);
    return; // after a sign-out meanwhile, nothing is sent or kept
  }
  const shown = new Turn(compose(question), { again, before: admin && beforeAndAfter });
  log.append(shown.box);
  turns.push(shown);
  shown.box.scrollIntoView({ block: "nearest" });
  text.value = "";
  await answer(shown);
}

/** The question with its request: each picture once, in the turn that brought it, unless it was removed. */
function compose(question) {
  const sent = new Set();
  const once = (some) => some.filter((picture) => pictures.chosen.includes(picture) && !sent.has(picture) && sent.add(picture));
  const earlier = follow.checked ? turns.filter((one) => one.done).flatMap((one) => [turn(one.question, once(one.pictures)), { role: "assistant", content: one.text }]) : [];
  const kept = sent.size;
  const added = once(pictures.chosen);
  return { question, model: byId("ask-model").value, pictures: added, kept, sent, messages: [...earlier, turn(question, added)] };
}

async function answer(shown, sampling = {}) {
  const before = { text: shown.text, note: shown.note };
  running ??= new AbortController();
  layout();
  announce("Answering");
  shown.begin();
  try {
    await receive(shown, sampling);
    shown.done = true;
    pictures.keep(shown.sent);
    announce(`Answer: ${shown.text} (${shown.note})`);
  } catch (failure) {
    failed(failure, shown, before);
  } finally {
    shown.end();
    running = null;
    layout();
  }
}

async function receive(shown, sampling) {
  const started = performance.now();
  const body = { model: shown.model, stream: true, messages: shown.messages, ...sampling };
  const reply = await send("v1/chat/completions", { method: "POST", body, signal: running.signal });
  let set = reply.headers.get("x-eraser-set");
  const note = (...rest) => { shown.note = [set && `Eraser set ${set}`, body.model, ...rest].filter(Boolean).join(" · "); };
  shown.text = "";
  note("answering");
  let finish = null;
  for await (const event of events(reply)) {
    const choice = event.choices?.[0];
    set = event.system_fingerprint?.replace(/^set-/, "") ?? set;
    shown.text += choice?.delta?.content ?? "";
    finish = choice?.finish_reason ?? finish;
    shown.box.scrollIntoView({ block: "nearest" });
  }
  const seconds = `${((performance.now() - started) / 1000).toFixed(1)} s`;
  note(seconds, finish === "length" && "cut at the length limit", sampling.temperature && `sampled at temperature ${sampling.temperature}`);
  say(byId("ask-set"), `Eraser set ${set}`);
}

// The same request once more. Without a temperature, the answer would be the same.
function again(shown) {
  if (running) return;
  say(error);
  answer(shown, { temperature: TEMPERATURE });
}

async function beforeAndAfter(shown, button) {
  say(error);
  await whileBusy(button, async () => {
    announce("Comparing");
    try {
      const body = await compared(shown.model, shown.messages);
      if (!shown.box.isConnected) return;
      announce(shown.compare(body));
    } catch (failure) {
      say(error, failure.message);
    }
  });
}

function failed(failure, shown, before) {
  const stopped = failure.name === "AbortError";
  if (!stopped && !(failure instanceof CallError)) console.error(failure);
  if (!stopped) say(error, failure.status === 400 && shown.messages.length > 1 ? `${failure.message}. ${FRESH}` : failure.message);
  if (before.text) return Object.assign(shown, before);
  if (shown.text) {
    shown.note = `${stopped ? "Stopped" : "Interrupted"} · ${shown.note.replace(/ · answering$/, "")}`;
    return;
  }
  if (shown.box.isConnected && !text.value) text.value = shown.question;
  shown.box.remove();
}

function layout() {
  byId("ask-empty").hidden = log.childElementCount > 0;
  byId("ask-new").hidden = log.childElementCount === 0;
  byId("ask-stop").hidden = !running;
  byId("ask-send").hidden = Boolean(running);
}
