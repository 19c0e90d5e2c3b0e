// Ask: a question, with or without a picture, and its streamed answer.

import { CallError, call, events, send } from "./api.js";
import { announce, byId, el, say } from "./dom.js";
import { Pictures, turn } from "./pictures.js";

const form = byId("ask-form");
const text = byId("ask-text");
const log = byId("transcript");
const error = byId("ask-error");
const pictures = new Pictures("ask", { drop: form, say: (line) => say(error, line) });

let history = [];
let running = null;

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
byId("ask-clear").addEventListener("click", clear);

/** Fill every model menu. */
export async function loadModels() {
  const models = (await call("v1/models")).data.map((model) => model.id);
  for (const id of ["ask-model", "compare-model"]) {
    const kept = byId(id).value;
    byId(id).replaceChildren(...models.map((name) => el("option", { value: name }, name)));
    if (models.includes(kept)) byId(id).value = kept;
  }
}

/** Remove all questions and answers, also at sign-out. */
export function clear() {
  running?.abort();
  history = [];
  log.replaceChildren();
  pictures.clear();
  text.value = "";
  say(error);
  say(byId("ask-set"));
  layout();
  text.focus();
}

export const enter = () => loadModels().catch((failure) => say(error, failure.message));

async function ask() {
  const question = text.value.trim();
  if (running) return;
  if (!question) return say(error, "Write a question first.");
  say(error);
  const [picture, shown] = [await pictures.dataUrl(), pictures.files[0]?.name];
  const earlier = byId("ask-follow").checked ? history.flatMap((past) => past) : [];
  const answer = show(question, picture, shown);
  text.value = "";
  running = new AbortController();
  layout();
  announce("Answering");
  try {
    await receive({ model: byId("ask-model").value, stream: true, messages: [...earlier, turn(question, picture)] }, answer);
    history.push([{ role: "user", content: question }, { role: "assistant", content: answer.words.textContent }]);
    announce(`Answer: ${answer.words.textContent} (${answer.note.textContent})`);
  } catch (failure) {
    failed(failure, answer, question);
  } finally {
    answer.words.removeAttribute("aria-busy");
    running = null;
    layout();
  }
}

async function receive(body, answer) {
  const started = performance.now();
  const reply = await send("v1/chat/completions", { method: "POST", body, signal: running.signal });
  let set = reply.headers.get("x-eraser-set");
  note(answer, set, "answering");
  let finish = null;
  for await (const event of events(reply)) {
    const choice = event.choices?.[0];
    set = event.system_fingerprint?.replace(/^set-/, "") ?? set;
    answer.words.append(choice?.delta?.content ?? "");
    finish = choice?.finish_reason ?? finish;
    answer.box.scrollIntoView({ block: "nearest" });
  }
  note(answer, set, `${((performance.now() - started) / 1000).toFixed(1)} s${finish === "length" ? ", cut at the length limit" : ""}`);
  say(byId("ask-set"), `Eraser set ${set}`);
}

function note(answer, set, rest) {
  answer.note.textContent = [set && `Eraser set ${set}`, byId("ask-model").value, rest].filter(Boolean).join(" · ");
}

function show(question, picture, name) {
  const words = el("p", { class: "words", "aria-busy": "true" });
  const line = el("p", { class: "note" });
  const box = el("article", { class: "turn", "aria-label": question },
    el("div", { class: "asked" }, picture && el("img", { src: picture, alt: `Picture: ${name}` }), el("p", {}, question)),
    el("div", { class: "answer" }, words, line));
  log.append(box);
  box.scrollIntoView({ block: "nearest" });
  return { box, words, note: line };
}

function failed(failure, answer, question) {
  const stopped = failure.name === "AbortError";
  if (!stopped && !(failure instanceof CallError)) console.error(failure);
  if (!stopped) say(error, failure.message);
  if (answer.words.textContent) {
    answer.note.textContent = `${stopped ? "Stopped" : "Interrupted"} · ${answer.note.textContent.replace(/ · answering$/, "")}`;
    return;
  }
  answer.box.remove();
  if (!text.value && log.isConnected) text.value = question;
}

function layout() {
  byId("ask-empty").hidden = log.childElementCount > 0;
  byId("ask-clear").hidden = log.childElementCount === 0;
  byId("ask-stop").hidden = !running;
  byId("ask-send").hidden = Boolean(running);
}
