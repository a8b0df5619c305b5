// The history, the latest first: each event as a sentence, with the figures it rests on behind it.

import { h } from "./dom.js";
import { confidence, grounded, sentence } from "./judged.js";
import { moment, percent, plural, span } from "./words.js";

const QUIET = ["stage_began", "checkpoint", "hook_started", "hook_ended", "reminded", "level_began", "day_began"];
const ALARMS = ["interval_failed", "held", "rolled_back", "not_recovered", "aborted", "alarm_noted", "incident_opened", "canary_replaced", "segment_lowered",
  "approvals_voided", "stabilization_restarted", "fleet_noted", "clock_jumped"];
const FILTERS = {
  all: ["Everything", () => true],
  decisions: ["Decisions", ({ event }) => !QUIET.includes(event)],
  alarms: ["Alarms", ({ event }) => ALARMS.includes(event)],
};
/** Drawn at once; more are asked for by a button. */
const PAGE = 60;

export function events(state, view) {
  const [, belongs] = FILTERS[view.filter];
  const all = state.events.filter(belongs).reverse();
  const shown = all.slice(0, view.most);
  return [
    h("fieldset", { class: "choice", key: "filter" }, h("legend", null, "Show"), Object.entries(FILTERS).map(([name, [words]]) =>
      h("label", null, h("input", { type: "radio", name: "filter", checked: view.filter === name, onchange: () => view.set({ filter: name }) }), ` ${words}`))),
    all.length === 0 && h("p", { class: "quiet", key: "none" }, "None."),
    h("ol", { class: "events", reversed: true, key: "list" }, shown.map((event) => one(event, view))),
    all.length > shown.length && h("button", { type: "button", key: "more", onclick: () => view.set({ most: view.most + PAGE }) }, `Show ${plural(Math.min(PAGE, all.length - shown.length), "more", "more")}`),
  ];
}

events.PAGE = PAGE;

function one(event, view) {
  const alarm = ALARMS.includes(event.event);
  const rests = event.evaluations ?? [];
  const head = [
    h("time", { datetime: event.at, title: event.at }, moment(event.at)), " ",
    h("span", { class: alarm ? "alarm" : null }, alarm && h("span", { "aria-hidden": "true" }, "! "), sentence(event.sentence)),
    h("span", { class: "quiet" }, ` ${event.by === "gate" ? "" : `by ${event.by}`}${event.reason ? `: ${event.reason}` : ""}`),
  ];
  return h("li", { key: String(event.id), id: `event-${event.id}`, value: String(event.id), tabindex: "-1", class: view.marked === event.id ? "marked" : null },
    rests.length === 0 && !event.confidence
      ? h("div", { class: "head" }, head)
      : h("details", null, h("summary", null, head),
        h("p", { class: "quiet" }, `Run ${event.run}${event.stage ? `, stage ${event.stage} after ${span(event.stage_time_ms)}` : ""}, weight ${percent(event.weight)} afterwards.`),
        grounded(rests), confidence(event.confidence)));
}
