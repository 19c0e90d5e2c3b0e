// Calls to the service. The key lives in sessionStorage only and travels in the Authorization header.

const root = new URL("../", import.meta.url);
const STORED = "mllmeraser.key";

const WORDS = {
  401: "This key is unknown or revoked.",
  403: "This key does not allow that.",
  404: "This does not exist.",
  413: "That is too large.",
  429: "Too many requests at once.",
  503: "The service refuses all requests at the moment.",
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

/** Set the handler for a key that is no longer accepted. */
export const onRefusal = (handler) => { signedOut = handler; };

/** Call the service and return the raw response; errors have plain messages. */
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

/** Call the service and return the JSON of the response. */
export const call = async (path, options) => (await send(path, options)).json();

/** Return a list: the response itself or its `data`. */
export async function rows(path) {
  const body = await call(path);
  return Array.isArray(body) ? body : body.data;
}

async function plainWords(answer) {
  let message = "";
  try {
    message = (await answer.json()).error.message;
  } catch {
    // A proxy answered in another format.
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

/** Save the response of a route as a file: a plain link cannot send the key. */
export async function save(path, name) {
  const blob = await (await send(path)).blob();
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
