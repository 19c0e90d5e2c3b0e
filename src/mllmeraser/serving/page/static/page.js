// The page: sign-in, and the current section. Sections have addresses: #ask, #erasures, #erasures/ID, ...

import { call, key, onRefusal } from "./api.js";
import * as ask from "./ask.js";
import * as audit from "./audit.js";
import * as compare from "./compare.js";
import { announce, byId, say, whileBusy, zone } from "./dom.js";
import * as erasures from "./erasures.js";
import * as forget from "./forget.js";
import * as keys from "./keys.js";

const SECTIONS = { ask, compare, erasures, forget, audit, keys };
const SCOPES = { client: ["ask"], "tenant-admin": ["ask", "erasures", "forget"], admin: Object.keys(SECTIONS) };
const WORDS = { client: "Client", "tenant-admin": "Tenant administrator", admin: "Administrator" };

let scope = null;
let current = null;

document.querySelectorAll("[data-zone]").forEach((place) => { place.textContent = zone; });
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  whileBusy(byId("sign-in-button"), () => signIn(byId("key").value.trim()));
});
byId("sign-out").addEventListener("click", () => signOut());
window.addEventListener("hashchange", () => route());
onRefusal((message) => { if (scope !== null) signOut(message); });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => event.preventDefault());

if (key.get()) signIn(key.get());
else welcome();

async function signIn(secret) {
  if (!/^[\x21-\x7e]+$/.test(secret)) return refuse(secret ? "This is not a key: it contains characters that no key has." : "Enter your key.");
  key.set(secret);
  try {
    scope = await scopeOfKey();
  } catch (failure) {
    if (failure.status === 401) key.clear();
    return refuse(failure.message);
  }
  byId("key").value = "";
  say(byId("sign-in-error"));
  byId("scope").textContent = WORDS[scope];
  document.querySelectorAll("#nav a").forEach((link) => { link.hidden = !SCOPES[scope].includes(link.hash.slice(1)); });
  byId("nav").hidden = byId("account").hidden = false;
  await route();
}

// No route names the scope of a key, so it is derived from what the key may read.
async function scopeOfKey() {
  if (!(await may("v1/erasures"))) {
    await call("v1/models");
    return "client";
  }
  return (await may("v1/servers")) ? "admin" : "tenant-admin";
}

async function may(path) {
  try {
    await call(path);
    return true;
  } catch (failure) {
    if (failure.status === 403) return false;
    throw failure;
  }
}

function signOut(message = "") {
  key.clear();
  scope = null;
  SECTIONS[current]?.leave?.();
  Object.values(SECTIONS).forEach((section) => section.clear());
  byId("confirm").close();
  byId("nav").hidden = byId("account").hidden = true;
  history.replaceState(null, "", location.pathname);
  welcome();
  say(byId("sign-in-error"), message);
  announce("Signed out");
}

function welcome() {
  current = null;
  present("sign-in");
  byId("key").focus();
}

function refuse(message) {
  scope = null;
  welcome();
  say(byId("sign-in-error"), message);
}

async function route() {
  if (scope === null) return;
  const [wanted, id] = location.hash.slice(1).split("/");
  const name = SCOPES[scope].includes(wanted) ? wanted : "ask";
  if (name !== current) SECTIONS[current]?.leave?.();
  const arrived = name !== current;
  current = name;
  present(name);
  if (arrived) byId(`${name}-title`).focus({ preventScroll: true });
  await SECTIONS[name].enter(id, scope);
}

function present(name) {
  document.querySelectorAll("main > .view").forEach((view) => { view.hidden = view.id !== `view-${name}`; });
  document.querySelectorAll("#nav a").forEach((link) => {
    if (link.hash === `#${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  });
  document.title = `${byId(`${name}-title`).textContent} · mllmeraser`;
  window.scrollTo(0, 0);
}
