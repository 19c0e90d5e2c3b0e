// Calls to the service. The key lives in sessionStorage only and travels in the Authorization header.

const root = new URL("../", import.meta.url);
const STORED = "mllmeraser.key";

const WORDS = {
  401: "This key is not known, or it was revoked.",
  403: "This key may not do that.",
  404: "There is nothing of that name.",
  413: "That is too large.",
  429: "Too many requests at once.",
  503: "The service does not answer questions at the moment.",
};

/** The key of this tab. */
export const key = {
  get: () => sessionStorage.getItem(STORED),
  set: (value) => sessionStorage.setItem(STORED, value),
  clear: () => sessionStorage.removeItem(STORED),
};

/** A failed call: one line for the reader, and the HTTP status (0: no connection). */
export class CallError extends Error {
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

let signedOut = () => {};

/** What to do when a key that worked is refused. */
export const onRefusal = (handler) => { signedOut = handler; };

/** One call; the answer as it comes, errors in plain words. */
export async function send(path, { method = "GET", body, signal } = {}) {
  const headers = { authorization: `Bearer ${key.get() ?? ""}`, accept: "application/json, text/event-stream" };
  const form = body instanceof FormData;
  if (body !== undefined && !form) headers["content-type"] = "application/json";
  const payload = body === undefined || form ? body : JSON.stringify(body);
  let answer;
  try {
    answer = await fetch(new URL(path, root), { method, headers, body: payload, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new CallError("The service cannot be reached. Check the connection and try again.", 0);
  }
  if (answer.ok) return answer;
  const failure = await plainWords(answer);
  if (failure.status === 401) signedOut(failure.message);
  throw failure;
}

/** One call; the answer as JSON. */
export const call = async (path, options) => (await send(path, options)).json();

/** A list: either the answer itself or its `data`. */
export async function rows(path) {
  const body = await call(path);
  return Array.isArray(body) ? body : body.data;
}

async function plainWords(answer) {
  let message = "";
  try {
    message = (await answer.json()).error.message;
  } catch {
    // Something between here and the service answered in its own words.
  }
  message ||= WORDS[answer.status] ?? `The service answered with status ${answer.status}.`;
  const wait = Number(answer.headers.get("retry-after"));
  if (wait > 0) message += ` Try again in ${wait} s.`;
  return new CallError(message, answer.status);
}

/** The events of a stream, parsed, until `[DONE]`. */
export async function* events(answer) {
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new CallError("The connection ended before the answer was complete.", 0);
    const parts = (waiting + value).split(/\r?\n\r?\n/);
    waiting = parts.pop();
    for (const part of parts) {
      const data = part.split(/\r?\n/).filter((line) => line.startsWith("data:")).map((line) => line.slice(5).trim()).join("\n");
      if (data === "[DONE]") return;
      if (!data) continue;
      const event = JSON.parse(data);
      if (event.error) throw new CallError(event.error.message, 0);
      yield event;
    }
  }
}

/** Save what a route gives as a file: a plain link could not carry the key. */
export async function save(path, name) {
  const blob = await (await send(path)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
