// The form of a request to forget a person or something else, and the progress of the request.

import { call } from "./api.js";
import { byId, lines, moment, say, whileBusy } from "./dom.js";
import { EntryPanel } from "./entry.js";
import { inWordsOf, missing } from "./kinds.js";
import { Pictures } from "./pictures.js";

const form = byId("forget-form");
const name = byId("forget-name");
const kind = byId("forget-kind");
const error = byId("forget-error");
const box = byId("forget-entry");
const panel = new EntryPanel(box);
const pictures = new Pictures("forget", { drop: byId("forget-drop"), say: (line) => say(error, line) });

kind.addEventListener("change", () => inWordsOf(kind.value));
inWordsOf(kind.value);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  whileBusy(byId("forget-send"), request);
});

/** Show the form, or the request with this id and its progress. */
export async function enter(id) {
  form.hidden = Boolean(id);
  if (!id) {
    panel.leave();
    return false;
  }
  await panel.open(id, { focus: true });
  return true;
}

export const leave = () => panel.leave();

export function clear() {
  form.reset();
  inWordsOf(kind.value);
  pictures.clear();
  name.removeAttribute("aria-invalid");
  say(error);
}

async function request() {
  const people = lines(byId("forget-people"));
  const wrong = !name.checkValidity();
  name.setAttribute("aria-invalid", String(wrong));
  if (wrong) {
    say(error, "Labels have at most 63 lowercase letters, digits, dots and dashes, and begin with a letter or a digit.");
    return name.focus();
  }
  const questions = lines(byId("forget-questions"));
  const given = { names: people.length, questions: questions.length, pictures: pictures.files.length };
  say(error, missing(kind.value, given));
  if (!error.hidden) return;
  try {
    const entry = await call("v1/erasures", { method: "POST", body: parts(people, questions) });
    clear();
    location.hash = `#forget/${entry.id}`;
  } catch (failure) {
    say(error, failure.message);
  }
}

function parts(people, questions) {
  const body = new FormData();
  body.append("name", name.value);
  body.append("kind", kind.value);
  people.forEach((person) => body.append("person", person));
  questions.forEach((question) => body.append("question", question));
  const reply = byId("forget-reply").value.trim();
  if (reply) body.append(kind.value === "person" ? "reply" : "instead", reply);
  if (kind.value === "person") body.append("exact_names", byId("forget-exact").checked ? "true" : "false");
  const tenant = byId("forget-tenant").value.trim();
  const starts = moment(byId("forget-starts"));
  const expires = moment(byId("forget-expires"));
  if (tenant) body.append("tenant", tenant);
  if (starts) body.append("starts_at", starts);
  if (expires) body.append("expires_at", expires);
  body.append("default", byId("forget-always").checked ? "true" : "false");
  pictures.files.forEach((file) => body.append("images", file, file.name));
  return body;
}
