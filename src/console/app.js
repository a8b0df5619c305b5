// The page itself: its state, its parts in their order, and drawing them when something changed.

import { actor } from "./actions.js";
import { useToken } from "./api.js";
import { approval } from "./approval.js";
import { charts } from "./charts.js";
import { draw, h } from "./dom.js";
import { events } from "./events.js";
import { evidence } from "./evidence.js";
import { follow, isLost, nothingYet } from "./feed.js";
import { conditions } from "./judged.js";
import { headline, now } from "./now.js";
import { outside } from "./outside.js";
import { stages } from "./plan.js";
import { pools } from "./pools.js";
import { segments } from "./segments.js";
import { moment, plain, plural, span } from "./words.js";

/** How long it is said that the connection came back. */
const BACK_MS = 30_000;

const state = nothingYet();
// What this reader chose to see: nothing of it is known to serin.
const views = {
  segments: { span: "run", sort: { title: "", down: true }, set: (change) => choose("segments", change) },
  events: { filter: "decisions", most: events.PAGE, marked: null, set: (change) => choose("events", change) },
};
let reading = null;
let planned = false;

const feed = follow(state, redraw);
const act = actor(state, (words) => {
  say(words);
  feed.now();
});

function choose(view, change) {
  Object.assign(views[view], change);
  redraw();
}

/** Draws once, before the browser paints next, however many things changed. */
function redraw() {
  if (planned) return;
  planned = true;
  const whenReady = document.hidden ? (work) => setTimeout(work, 0) : requestAnimationFrame;
  whenReady(() => {
    planned = false;
    render();
  });
}

function render() {
  draw(document.getElementById("top"), top());
  draw(document.getElementById("page"), page());
  if (state.status) {
    document.title = `${state.status.rollout}: ${plain(state.status.phase)} · serin`;
    say(`${isLost(state.link) ? "Connection lost. " : ""}${headlineWithoutClock(state.status)}`);
  }
}

let said = "";
// Spoken only when it is something else, and never for the seconds that pass.
function say(words) {
  if (words === said) return;
  said = words;
  document.getElementById("spoken").textContent = words;
}

const headlineWithoutClock = (status) => headline({ ...status, stage_ends_at_ms: null });

function top() {
  return [
    h("h1", null, "serin"),
    state.rollouts.length > 1
      ? h("label", { class: "chooser" }, "Rollout ", h("select", { name: "rollout", onchange: (event) => feed.choose(event.target.value) },
        state.rollouts.map(({ rollout, phase }) => h("option", { key: rollout, value: rollout, selected: rollout === state.chosen }, `${rollout} (${plain(phase)})`))))
      : state.chosen && h("p", { class: "chooser" }, "Rollout ", h("strong", null, state.chosen)),
    h("p", { class: "link", id: "link", key: "link" }, link()),
    state.who && h("p", { class: "who quiet", key: "who" }, state.who.tokens ? [`token “${state.who.by}” `, h("button", { type: "button", onclick: forget }, "Forget it")] : "no tokens configured: anybody on this machine may act"),
  ];
}

// How the connection stands, and how old the figures are.
function link() {
  const { stream, since, heard, back, why } = state.link;
  const age = heard === null ? null : Date.now() - heard;
  if (state.locked) return h("span", { class: "chip plain" }, "locked");
  if (isLost(state.link)) {
    return [h("span", { class: "chip bad" }, "connection lost"),
      ` since ${moment(new Date(stream === "lost" ? since : heard).toISOString())}; the figures are ${age === null ? "missing" : `${span(age)} old`}. Trying again.`,
      why && h("span", { class: "quiet" }, ` (${why})`)];
  }
  if (stream === "connecting" || age === null) return h("span", { class: "chip plain" }, "connecting");
  const returned = back && Date.now() - back.at < BACK_MS;
  return [h("span", { class: "chip good" }, "live"),
    returned && ` back after ${span(back.at - back.lostSince)}; ${plural(back.missed, "event")} caught up`];
}

function page() {
  if (state.locked) return lock();
  const { status } = state;
  if (!status) return h("p", { class: "card" }, state.who && state.rollouts.length === 0 ? "No rollout is configured: add one to proxy.toml and reload." : "Asking serin …");
  return [
    now(state, act),
    status.plan_pending && h("p", { class: "card", key: "pending" }, "The file has another plan: it waits for the next start. What is shown is the plan of this run."),
    approval(state, act),
    card("plan", "Plan", stages(status, state.events)),
    card("charts", "Over time", charts(state, { reading, read, widths: widths(), go })),
    h("div", { class: "pair", key: "pair" },
      card("conditions", "Conditions", conditions(status)),
      card("evidence", "Evidence", evidence(status))),
    card("segments", "Segments", segments(state, views.segments, act)),
    card("events", "Events", events(state, views.events)),
    card("pools", "Endpoints", pools(state, act)),
    outside(state),
  ];
}

const card = (id, title, ...children) =>
  h("section", { key: id, id, class: "card", "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), children);

function read(at) {
  reading = at;
  redraw();
}

// To an event in the list, from its mark in a chart.
function go(id) {
  Object.assign(views.events, { filter: "all", most: Infinity, marked: id });
  render();
  const found = document.getElementById(`event-${id}`);
  found?.scrollIntoView({ block: "center" });
  found?.focus({ preventScroll: true });
}

// Charts are drawn in pixels, so that their text is as large as all other.
function widths() {
  const width = document.getElementById("charts")?.clientWidth ?? document.getElementById("page").clientWidth;
  const room = width - 34;
  const columns = room > 960 ? 3 : room > 620 ? 2 : 1;
  return { large: room, small: Math.floor((room - (columns - 1) * 16) / columns) };
}

function lock() {
  const onsubmit = (event) => {
    event.preventDefault();
    useToken(new FormData(event.target).get("token"));
    Object.assign(state, { locked: false, who: null });
    feed.now();
  };
  return h("form", { class: "card lock", onsubmit, key: "lock" },
    h("h2", null, "A token is needed"),
    h("p", null, "One of admin.tokens. It stays in this page's memory alone and is gone when the page is closed or loaded anew."),
    h("p", { class: "field" }, h("label", null, "Token", h("input", { name: "token", type: "password", autocomplete: "off", required: true, autofocus: true }))),
    h("p", { role: "alert", class: "quiet" }, state.lockedBecause),
    h("button", { type: "submit", class: "main" }, "Show the rollouts"));
}

function forget() {
  useToken("");
  feed.leave();
  redraw();
}

addEventListener("resize", redraw);
// Ages go on when nothing arrives.
setInterval(redraw, 1000);
redraw();
