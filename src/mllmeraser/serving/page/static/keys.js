// Keys: who may call the service. A secret is shown once, when it is created, until the section is left.

import { call, key, rows } from "./api.js";
import { confirm } from "./confirm.js";
import { announce, byId, chip, copied, el, say, when, whileBusy } from "./dom.js";

const WORDS = { client: "client", "tenant-admin": "tenant administrator", admin: "administrator" };

const form = byId("keys-form");
const label = byId("keys-label");
const scope = byId("keys-scope");
const tenant = byId("keys-tenant");
const error = byId("keys-error");
const secret = byId("keys-secret");
const made = byId("keys-made");

form.addEventListener("submit", (event) => {
  event.preventDefault();
  whileBusy(byId("keys-send"), make);
});
scope.addEventListener("change", showTenant);
byId("keys-refresh").addEventListener("click", (event) => whileBusy(event.currentTarget, enter));
byId("keys-copy").addEventListener("click", copy);
byId("keys-done").addEventListener("click", () => {
  leave();
  byId("keys-title").focus();
});

/** Show every key without its secret, keys in use first. */
export async function enter() {
  showTenant();
  try {
    const all = await rows("v1/keys");
    const used = all.filter((record) => !record.revoked_at);
    byId("keys-count").textContent = `${all.length} ${all.length === 1 ? "key" : "keys"}, ${used.length} in use`;
    byId("keys-rows").replaceChildren(...[...used, ...all.filter((record) => record.revoked_at)].map(row));
    say(byId("keys-trouble"));
  } catch (failure) {
    say(byId("keys-trouble"), failure.message);
  }
}

/** Remove the secret. */
export function leave() {
  made.hidden = true;
  secret.value = "";
  say(byId("keys-copied"));
}

export function clear() {
  leave();
  form.reset();
  say(error);
  say(byId("keys-notice"));
  byId("keys-rows").replaceChildren();
  byId("keys-count").textContent = "";
}

function showTenant() {
  tenant.disabled = scope.value === "admin";
  byId("keys-tenant-hint").textContent = {
    client: "Its erasers apply in addition to those for all tenants. Leave empty for no tenant.",
    "tenant-admin": "The key may see and change the erasures of this tenant.",
    admin: "Administrators have no tenant.",
  }[scope.value];
}

async function make() {
  const body = { label: label.value.trim(), scope: scope.value, tenant: tenant.disabled ? null : tenant.value.trim() || null };
  label.setAttribute("aria-invalid", String(!body.label));
  if (!body.label) {
    say(error, "Give a label.");
    return label.focus();
  }
  say(error);
  let record;
  try {
    record = await call("v1/keys", { method: "POST", body });
  } catch (failure) {
    return say(error, failure.message);
  }
  form.reset();
  say(byId("keys-notice"));
  say(byId("keys-copied"));
  byId("keys-secret-label").textContent = `Key of ${record.label}`;
  secret.value = record.secret;
  made.hidden = false;
  secret.focus();
  secret.select();
  await enter();
}

async function copy() {
  secret.select();
  const done = await copied(secret.value);
  if (!done) secret.focus();
  say(byId("keys-copied"), done ? "Copied." : "The browser does not allow copying. The key is selected: press Ctrl+C.");
}

function row(record) {
  const { id, label: name, scope: may, tenant: owner, created_at: at, created_by: by, revoked_at: end } = record;
  const press = () => confirm(question(record), () => call(`v1/keys/${id}`, { method: "DELETE" }), revoked);
  return el("tr", { "data-id": id },
    el("th", { scope: "row" }, name, el("span", { class: "block" }, el("code", {}, id)), isMine(id) && el("span", { class: "block quiet" }, "signed in with it")),
    el("td", {}, WORDS[may], owner && el("span", { class: "block quiet" }, `of ${owner}`)),
    el("td", { class: "wide" }, when(at), el("span", { class: "block quiet" }, `by ${by}`)),
    el("td", {}, end
      ? [chip("revoked"), el("span", { class: "block quiet" }, when(end))]
      : el("div", { class: "row" }, chip("good", "in use"), el("button", { type: "button", class: "danger plain", "aria-label": `Revoke ${name} (${id})`, click: press }, "Revoke"))));
}

const isMine = (id) => Boolean(key.get()?.startsWith(`mk_${id}_`));

const question = ({ id, label: name }) => ({
  title: `Revoke ${name}?`, button: "Revoke for good", danger: true,
  text: `${isMine(id) ? "You are signed in with this key and will be signed out. " : ""}Requests with this key are refused: here at once, by other servers within a minute. This cannot be undone.`,
});

async function revoked({ label: name }) {
  const words = `${name} is revoked.`;
  say(byId("keys-notice"), words);
  announce(words);
  byId("keys-title").focus();
  await enter();
}
