// The dialog: explains an action, asks for a reason or for times, and stays open until the service has answered.

import { byId, local, moment, say, whileBusy } from "./dom.js";

const dialog = byId("confirm");
const form = byId("confirm-form");
const reason = byId("confirm-reason");
const yes = byId("confirm-yes");

let work = null;
let done = null;

byId("confirm-cancel").addEventListener("click", () => dialog.close());
form.addEventListener("submit", (event) => {
  event.preventDefault();
  whileBusy(yes, answer);
});

/**
 * Ask before calling `attempt({reason, starts_at, expires_at})`; a failure is shown in the dialog.
 *
 * `then` is called with the result once the dialog is closed.
 *
 * `question`: {title, text, button, danger, reason: ask for one, times: {starts_at, expires_at} to ask for}.
 */
export function confirm(question, attempt, then) {
  byId("confirm-title").textContent = question.title;
  byId("confirm-text").textContent = question.text;
  yes.textContent = question.button;
  yes.classList.toggle("danger", Boolean(question.danger));
  byId("confirm-reason-field").hidden = !question.reason;
  reason.required = Boolean(question.reason);
  reason.value = "";
  byId("confirm-times").hidden = !question.times;
  byId("confirm-starts").value = local(question.times?.starts_at);
  byId("confirm-expires").value = local(question.times?.expires_at);
  say(byId("confirm-error"));
  [work, done] = [attempt, then];
  dialog.showModal();
  (question.reason ? reason : question.times ? byId("confirm-starts") : byId("confirm-cancel")).focus();
}

async function answer() {
  const values = { reason: reason.value.trim().replace(/\s+/g, " "), starts_at: moment(byId("confirm-starts")), expires_at: moment(byId("confirm-expires")) };
  if (reason.required && !values.reason) {
    say(byId("confirm-error"), "Give a reason.");
    reason.focus();
    return;
  }
  say(byId("confirm-error"));
  let result;
  try {
    result = await work(values);
  } catch (failure) {
    say(byId("confirm-error"), failure.message);
    return;
  }
  dialog.close();
  done(result);
}
