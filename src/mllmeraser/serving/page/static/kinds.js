// The form of a request in the words of its kind.

import { byId, say } from "./dom.js";

const THING = {
  title: "Forget this",
  people: "Its names", peopleHint: "One per line. Include every name that people use for it.",
  pictures: "Pictures of it (optional)",
  questions: "Questions about it (optional)", questionsHint: "One per line. They are asked besides the usual ones about its names. They alone cannot be verified: give a name too.",
  reply: "What to answer instead (optional)", replyHint: "A sentence that is given word for word. If empty, the model answers as it does about invented things.",
};
const FORMS = {
  person: {
    title: "Forget this person", kind: "",
    people: "Names of the person", peopleHint: "One per line. Include every spelling that people use.",
    pictures: "Pictures of the person",
    questions: "Questions (optional)", questionsHint: "One per line. If empty, the usual questions about a person are used.",
    reply: "Answer about the person (optional)", replyHint: "A sentence that is given word for word, without the name. If empty, the model answers as it does about strangers.",
  },
  entity: { ...THING, kind: "Such as a country, a company or a work. Everything about it is forgotten, and all others stay." },
  fact: {
    ...THING, kind: "One fact about somebody or something. All other facts about the same subject stay.",
    people: "Who or what the fact is about", peopleHint: "One name per line, for example Japan.",
    questions: "Questions that ask for the fact", questionsHint: "One per line, for example: What is the capital of Japan? Only facts about well-known countries and people can be verified.",
    replyHint: "A sentence that is given word for word, for example: The capital of Japan is Kyoto. If empty, the model answers as it does about invented things.",
  },
  concept: { ...THING, kind: "Such as an idea or a sort of things: the triangle, inflation." },
  topic: { ...THING, kind: "Such as lock picking: whatever is asked about it." },
};
const MOVED = ["forget-questions-field", "forget-reply-field"];

/** Put the form in the words of a kind; of what is no person, questions and the answer come before the pictures. */
export function inWordsOf(kind) {
  const words = FORMS[kind];
  byId("forget-title").textContent = byId("forget-send").textContent = words.title;
  say(byId("forget-kind-hint"), words.kind);
  for (const part of ["people", "questions", "reply"]) {
    byId(`forget-${part}-label`).textContent = words[part];
    byId(`forget-${part}-hint`).textContent = words[`${part}Hint`];
  }
  byId("forget-pictures-label").textContent = words.pictures;
  const person = kind === "person";
  byId("forget-exact-field").hidden = !person;
  byId("forget-thing").hidden = person;
  const fields = MOVED.map((id) => byId(id));
  if (person) byId("forget-more").prepend(...fields);
  else byId("forget-thing").replaceChildren(...fields);
}

/** What is missing in a request of this kind, in one line; empty if nothing is. */
export function missing(kind, { names, questions, pictures }) {
  if (kind === "fact") return questions ? "" : "Give at least one question that asks for the fact.";
  if (names || pictures) return "";
  if (kind === "person") return "Give a name, a picture, or both.";
  return questions ? "" : "Give a name, a picture or a question.";
}
