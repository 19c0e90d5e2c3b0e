// The kinds and the checks in the words of the certificate. A test compares them with `serving/verify/sheet.py`.

export const KINDS = { person: "person", entity: "thing", fact: "single fact", concept: "concept", topic: "topic" };

/** What the subjects of an erasure are; a dash if its eraser does not say. */
export const kindsOf = ({ kinds }) => (kinds?.length ? kinds.map((kind) => KINDS[kind] ?? kind).join(", ") : "–");

export const CHECKS = {
  forget_decisions: "The decision acts on prompts about the subjects",
  forget_answers: "The model's answers about them are gone",
  forget_gibberish: "Answers about them that are not language",
  rest_unchanged: "Their other facts: answered as before",
  neighbours_unchanged: "Those most like them: answered as before",
  retain_unchanged: "Other people and things: answered as before",
  general_unchanged: "Everything else: answered as before",
  perception_unchanged: "What their pictures show: answered as before",
  conversation_answers: "In conversations: answers about them are gone",
  conversation_unchanged: "In conversations: all else answered as before",
  false_alarms: "The decision acts where it should not",
  detached_identical: "After removal the model is unchanged, bit for bit",
};

export const COLUMNS = ["Check", "Share", "Interval", "Required", "Prompts", "Result"];

/** A share as the certificate writes it. */
export const percent = (value) => (typeof value === "number" ? `${(100 * value).toFixed(1)} %` : "–");

/** The cells of a check below `COLUMNS`, without its result. */
export function cells({ name, value, low, high, at_most: most, threshold, n }) {
  const interval = name === "detached_identical" ? "–" : `${percent(low)} to ${percent(high)}`;
  return [CHECKS[name] ?? name, percent(value), interval, `${most ? "at most" : "at least"} ${percent(threshold)}`, String(n)];
}
