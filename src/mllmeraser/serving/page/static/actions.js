// The actions on an erasure in its state, and the dialog of each.

import { call, save } from "./api.js";
import { confirm } from "./confirm.js";
import { el, zone } from "./dom.js";

const reach = ({ name, tenant, default: always }) =>
  (always ? (tenant ? `every request of ${tenant}` : "every request") : `requests that ask for model@${name}`);

const QUESTIONS = {
  activate: (entry) => ({ title: `Activate ${entry.name}?`, text: `It applies to ${reach(entry)} as soon as the service has switched to the new set.`, button: "Activate" }),
  force: (entry) => ({
    title: `Activate ${entry.name} without a passed verification?`, button: "Activate anyway", danger: true, reason: true,
    text: `It has not passed verification. It would apply to ${reach(entry)}.`,
  }),
  fit: (entry) => ({
    title: `Fit ${entry.name} again?`, button: "Fit again",
    text: "The fit runs again in the background, with the stored pictures and names. Verification follows.",
  }),
  verify: (entry) => ({
    title: `Verify ${entry.name} again?`, button: "Verify again",
    text: "The checks run again in the background, with the stored pictures and names. These are deleted afterwards.",
  }),
  suspend: (entry) => ({
    title: `Suspend ${entry.name}?`, button: "Suspend", reason: true,
    text: "The model answers as before, until the erasure is activated again.",
  }),
  revoke: (entry) => ({
    title: `Revoke ${entry.name}?`, button: "Revoke for good", danger: true, reason: true,
    text: "The model will answer as it did before the request. This is final: the erasure cannot be activated again. Its label becomes free.",
  }),
  schedule: (entry) => ({
    title: `Schedule ${entry.name}`, button: "Save", times: entry,
    text: `Leave a field empty for no limit. Times are in the time zone ${zone}.`,
  }),
};

const BODIES = {
  activate: () => ({}),
  force: ({ reason }) => ({ force: reason }),
  fit: () => undefined,
  verify: () => undefined,
  suspend: ({ reason }) => ({ reason }),
  revoke: ({ reason }) => ({ reason }),
  schedule: ({ starts_at, expires_at }) => ({ starts_at, expires_at }),
};

const LABELS = { activate: "Activate", force: "Activate anyway", fit: "Fit again", verify: "Verify again", suspend: "Suspend", revoke: "Revoke", schedule: "Schedule" };

function offered({ state, pending, passed, progress, inputs_kept: kept }) {
  if (pending) return ["schedule", "revoke"]; // it is activated already, from its start on
  const on = passed ? "activate" : "force";
  const again = (verb) => (kept && !progress ? [verb] : []);
  const force = progress ? [] : ["force"]; // its verification is under way
  return { requested: [...again("fit"), "revoke"], fitted: [...again("verify"), ...force, "revoke"], verified: [on, "schedule", "revoke"],
    checks_failed: [on, "schedule", "revoke"],
    active: ["suspend", "schedule", "revoke"], suspended: [on, "schedule", "revoke"], revoked: [] }[state];
}

/** Buttons for `entry`; `done(answer)` is called after a change, `stale()` after a failed one, which may be recorded. */
export function buttons(entry, done, stale) {
  return offered(entry).map((verb) => {
    const look = verb === "revoke" ? "danger plain" : verb === "activate" ? "primary" : "";
    const press = () => confirm(QUESTIONS[verb](entry), async (values) => {
      try {
        return await change(entry, verb, BODIES[verb](values));
      } catch (failure) {
        stale();
        throw failure;
      }
    }, done);
    return el("button", { type: "button", class: look, "data-verb": verb, click: press }, LABELS[verb]);
  });
}

const change = (entry, verb, body) =>
  call(`v1/erasures/${entry.id}/${verb === "force" ? "activate" : verb}`, { method: "POST", body });

/** One line about the result of a change. */
export function outcome({ name, state, pending, version, in_force: inForce, starts_at: starts, progress }) {
  if (progress) return `${name} is being ${state === "requested" ? "fitted" : "verified"} again.`;
  if (pending && state !== "verified") return `${name} is scheduled to start.`;
  if (state === "verified" && starts && new Date(starts) > new Date()) return `${name} is verified and scheduled to start.`;
  return `${name} is ${state.replace("_", " ")}.${inForce ? ` Eraser set ${version} is in force on this server.` : ""}`;
}

/** Buttons that save the certificate; none without a verification. */
export function certificates(entry, fail) {
  if (!entry.scores) return [];
  return ["html", "pdf", "json"].map((kind) => {
    const press = () => save(`v1/erasures/${entry.id}/certificate.${kind}`, `${entry.name}.certificate.${kind}`).catch((failure) => fail(failure.message));
    return el("button", { type: "button", class: "link", "data-certificate": kind, click: press }, `Certificate (${kind.toUpperCase()})`);
  });
}
