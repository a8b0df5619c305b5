// What a person can do: which buttons there are, what each says that it will do, and the one dialog that asks before it is done.
//
// Which actions the phase allows comes from serin (`allowed`); what the token allows, from `GET /api/whoami`. serin checks both again.

import { call, part } from "./api.js";
import { draw, h } from "./dom.js";
import { approveEffect, ceilingEffect, effects, weightEffect } from "./effects.js";
import { capital, list, percent } from "./words.js";

/**
 * Each action: what its button says, whether it takes learners back (`retreat`: no reason is demanded, so that nothing stands in the
 * way at night), whether `force` may be said, and how it is asked for.
 */
const ACTIONS = {
  start: { label: "Start", force: true },
  resume: { label: "Resume" },
  advance: { label: "Advance", force: true },
  retry: { label: "Retry stage" },
  pause: { label: "Pause", retreat: true },
  hold: { label: "Hold", retreat: true },
  rollback: { label: "Roll back", retreat: true, tone: "bad" },
  abort: { label: "Abort", retreat: true, tone: "bad" },
  approve: { label: "Approve", ask: (at, said) => ["POST", `${at.rollout}/approve`, { role: at.role, reason: said.reason, seen: at.seen, plan_hash: at.plan_hash }] },
  reject: { label: "Reject", ask: (at, said) => ["POST", `${at.rollout}/reject`, { reason: said.reason, seen: at.seen, plan_hash: at.plan_hash, role: said.role }] },
  freeze: { label: "Freeze", ask: (at, said) => ["PUT", `${at.rollout}/freeze`, { reason: said.reason, until: said.until }] },
  unfreeze: { label: "Unfreeze", ask: (at, said) => ["DELETE", `${at.rollout}/freeze`, { reason: said.reason }] },
  weights: { label: "Set weights", ask: weights },
  ceiling: { label: "Ceiling", ask: (at, said) => ["PUT", `${at.rollout}/segments/${part(at.segment)}`, { max_weight: share(said.share), reason: said.reason }] },
  lift: { label: "Lift", ask: (at, said) => ["DELETE", `${at.rollout}/segments/${part(at.segment)}`, { reason: said.reason }] },
  drain: { label: "Drain", ask: (at, said) => ["POST", `${endpoint(at)}/drain`, { reason: said.reason }] },
  undrain: { label: "Undrain", ask: (at, said) => ["POST", `${endpoint(at)}/undrain`, { reason: said.reason }] },
};
const WITH_FORCE = (name) => (at, said) => ["POST", `${at.rollout}/${name}`, { reason: said.reason, force: said.force }];
const FOR_THE_ROLLOUT = ["approve", "advance", "resume", "retry", "start", "pause", "hold", "rollback", "abort", "reject", "freeze", "unfreeze", "weights"];

const endpoint = ({ pool, endpoint: address }) => `/api/pools/${part(pool)}/endpoints/${part(address)}`;
const share = (text) => Number(text) / 100;

function weights(at, said) {
  const canary = Number(said.share);
  const query = new URLSearchParams({ rollout: at.name, reason: said.reason });
  return ["POST", `/api/traffic-weights?${query}`, { [at.pools.baseline]: 100 - canary, [at.pools.canary]: canary }];
}

/** The buttons of what the phase allows; those that the token may not press say so. */
export function actionsNow(state, act) {
  const allowed = new Set(state.status.allowed.map(({ action }) => action));
  const frozen = state.status.frozen !== null;
  const names = FOR_THE_ROLLOUT.filter((name) => allowed.has(name) && name !== (frozen ? "freeze" : "unfreeze"));
  const roles = state.status.approval?.missing ?? [];
  const buttons = names.flatMap((name) => (name === "approve" ? roles.map((role) => act.button("approve", { role })) : [act.button(name, {})]));
  return [h("div", { class: "buttons" }, buttons), refusedToToken(state)];
}

// Why buttons are grey, in a sentence.
function refusedToToken({ who }) {
  if (!who || who.operate) return null;
  const may = who.approves.length > 0 ? `read, and approve for ${list(who.approves)}` : "read only";
  return h("p", { class: "quiet" }, `The token “${who.by}” may ${may}: what is grey needs the role operate.`);
}

function permitted(who, name, at) {
  if (!who) return false;
  if (name === "approve") return who.approves === null || who.approves.includes(at.role);
  if (name === "reject") return who.approves === null || who.approves.length > 0;
  return who.operate;
}

const needed = (name, at) => (name === "approve" ? `approve:${at.role}` : name === "reject" ? "approve:<role>" : "operate");

/** What views need to offer actions. `done` is called when one was carried out. */
export function actor(state, done) {
  const button = (name, at) => {
    const { label, tone } = ACTIONS[name];
    const words = name === "approve" ? `${label} for ${at.role}` : label;
    const about = at.segment ?? at.endpoint;
    const may = permitted(state.who, name, at);
    return h("button", {
      key: `${name} ${at.role ?? about ?? ""}`, type: "button", class: tone ?? null, disabled: !may, title: may ? null : `needs the role ${needed(name, at)}`,
      "aria-label": about ? `${words}: ${about}` : null, "data-action": name, onclick: () => open(state, name, at, done),
    }, words);
  };
  return { button };
}

function open(state, name, place, done) {
  const { status } = state;
  const at = {
    ...place, name: status.rollout, rollout: `/api/rollouts/${part(status.rollout)}`, pools: status.pools,
    seen: status.approval?.asked, plan_hash: status.approval ? status.plan_hash : undefined,
  };
  const dialog = document.getElementById("dialog");
  const ask = { ...ACTIONS[name], name, status, at, who: state.who, problem: null, busy: false };
  const show = () => draw(dialog, form(ask, { close: () => dialog.close(), send: (said) => send(ask, said, show, dialog, done) }));
  draw(dialog);
  show();
  dialog.showModal();
}

async function send(ask, said, show, dialog, done) {
  ask.busy = true;
  ask.problem = null;
  show();
  try {
    const [method, path, body] = (ask.ask ?? WITH_FORCE(ask.name))(ask.at, said);
    await call(method, path, body);
    dialog.close();
    done(`${ask.label}: done.`);
  } catch (error) {
    ask.problem = error.message;
  }
  ask.busy = false;
  if (dialog.open) show();
}

function form(ask, { close, send: submit }) {
  const title = ask.at.role ? `${ask.label} for ${ask.at.role}` : ask.label;
  const onsubmit = (event) => {
    event.preventDefault();
    if (!ask.busy) submit(saidIn(event.target));
  };
  return h("form", { method: "dialog", onsubmit },
    h("h2", { id: "dialog-title" }, `${title}: ${ask.at.segment ?? ask.at.endpoint ?? ask.at.name}`),
    h("div", { id: "dialog-effect" }, effectOf(ask)),
    fields(ask),
    ask.problem && h("p", { role: "alert", class: "alert" }, `Refused: ${capital(ask.problem)}.`),
    h("div", { class: "buttons" },
      h("button", { type: "button", onclick: close }, "Cancel"),
      h("button", { type: "submit", class: ask.tone ?? "main", disabled: ask.busy }, ask.busy ? "Asking …" : `${title} now`)));
}

function effectOf({ name, status, at }) {
  const lines = name === "approve" ? approveEffect(status, at) : effects(name, status, at);
  return h("ul", { class: "effect" }, lines.map((line) => h("li", null, line)));
}

const field = (label, control, more) => h("p", { class: "field" }, h("label", null, label, control), more && h("span", { class: "quiet" }, more));

function fields(ask) {
  const { name, status, at } = ask;
  const demanded = !ask.retreat;
  return [
    name === "weights" && shareField(`Weight of ${at.pools.canary} in %`, status.weight, ask, (share) => weightEffect(status, share)),
    name === "ceiling" && shareField(`Highest weight of ${at.segment} in %`, at.ceiling ?? 0, ask, (share) => ceilingEffect(status, at, share)),
    name === "freeze" && field("Ends by itself at (may be left out)", h("input", { name: "until", type: "datetime-local" })),
    name === "reject" && roleField(ask),
    field(demanded ? "Reason" : "Reason (may be left out)", h("textarea", { name: "reason", rows: "2", required: demanded, maxlength: "1000" }), "It stands in the history beside your token's name."),
    ask.force && h("p", { class: "field" }, h("label", { class: "check" }, h("input", { type: "checkbox", name: "force" }), " Force: also over what would refuse it (unmet criteria, a missing approval, a cooldown)")),
  ];
}

// What a number will do is said while it is typed.
function shareField(label, now, ask, effect) {
  const oninput = (event) => {
    const share = Number(event.target.value) / 100;
    document.getElementById("share-effect").textContent = event.target.value === "" ? "" : effect(share);
  };
  return [
    field(label, h("input", { name: "share", type: "number", min: "0", max: "100", step: "any", required: true, value: String(Number((now * 100).toFixed(4))), inputmode: "decimal", oninput }), `It is ${percent(now)} now.`),
    h("p", { id: "share-effect", class: "effect", role: "status" }),
  ];
}

function roleField({ who, status }) {
  const roles = who?.approves ?? status.approval?.missing ?? [];
  if (roles.length < 2) return null;
  return field("For which role", h("select", { name: "role" }, roles.map((role) => h("option", { value: role }, role))));
}

function saidIn(element) {
  const data = new FormData(element);
  const until = data.get("until");
  return {
    reason: data.get("reason").trim(), force: data.has("force"), share: data.get("share"),
    role: data.get("role") ?? undefined, until: until ? new Date(until).toISOString() : undefined,
  };
}
