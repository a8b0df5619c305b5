// The plan as a line of stages: where it is, how long it has been there, which checkpoints it passed.

import { h, s } from "./dom.js";
import { capital, list, moment, percent, plannedShare, plannedSpan, span } from "./words.js";

const OVER = ["rolled_back", "rolling_back", "aborted"];

export function stages(status, events) {
  if (!status.plan) return h("p", { class: "quiet" }, "There is no plan yet.");
  const run = events.filter((event) => event.run === status.run);
  const all = status.plan.stages.map((stage, index) => one(status, run, stage, index));
  const after = status.plan.stabilization && stabilization(status);
  return h("ol", { class: "stages" }, all, after);
}

function one(status, run, stage, index) {
  const state = stateOf(status, stage, index);
  const share = plannedShare(stage.weight);
  const began = run.findLast(({ event, stage: name }) => event === "stage_began" && name === stage.name);
  const here = state === "now" || state === "left";
  return h("li", { key: stage.name, class: `stage ${state}`, "aria-current": state === "now" ? "step" : null },
    h("div", { class: "head" },
      h("span", { class: "badge", "aria-hidden": "true" }, { done: "✓", now: "●", left: "✕", next: String(index + 1) }[state]),
      h("strong", null, stage.name),
      h("span", { class: "share" }, percent(share))),
    h("div", { class: "quiet" }, words(status, stage, state, began)),
    progress(status, run, stage, state),
    here && stage.checkpoints.length > 0 && h("div", { class: "quiet" }, checkpointWords(run, stage)),
    state === "next" && h("div", { class: "quiet" }, then(stage)));
}

function stateOf(status, stage, index) {
  if (status.started === null) return "next";
  if (status.phase === "complete" || status.phase === "stabilizing") return "done";
  if (index < status.stage_index) return "done";
  if (index > status.stage_index) return "next";
  return OVER.includes(status.phase) ? "left" : "now";
}

function words(status, stage, state, began) {
  const planned = span(plannedSpan(stage.duration));
  switch (state) {
    case "now":
      return [`${span(status.stage_time_ms)} of ${span(status.stage_ends_at_ms ?? plannedSpan(stage.duration))}`,
        status.warming_up && ", warming up: not counted yet",
        status.stage_ends_at_ms > plannedSpan(stage.duration) + 1 && `, extended from ${planned}`];
    case "left":
      return `left after ${span(status.stage_time_ms)} of ${planned}`;
    case "done":
      return began ? `${planned}, began ${moment(began.at)}` : planned;
    default:
      return `${planned}${stage.schedule.start_at ? `, from ${moment(stage.schedule.start_at)} on` : ""}`;
  }
}

// What a stage to come does when it has passed.
function then(stage) {
  const { on_success: on } = stage;
  if (on === "hold") return "then holds for a person";
  if (on === "advance") return null;
  return `then asks for the approval of ${list(on.approve)}`;
}

/** How each planned checkpoint went, in the last time that the stage was run. */
function checkpoints(run, stage) {
  const begun = run.findLastIndex(({ event, stage: name }) => ["stage_began", "retried"].includes(event) && name === stage.name);
  const seen = new Map(run.slice(Math.max(0, begun)).filter(({ event, stage: name }) => event === "checkpoint" && name === stage.name)
    .map((event) => [event.due_ms, event]));
  return stage.checkpoints.map((text) => {
    const due = plannedSpan(text);
    const event = seen.get(due);
    if (!event) return { due, state: "open" };
    const verdicts = event.evaluations.filter(({ purpose }) => purpose === "advance").map(({ verdict }) => verdict);
    return { due, state: verdicts.includes("fail") ? "failed" : verdicts.every((one) => one === "pass") ? "passed" : "unproven" };
  });
}

const CHECKPOINT_MARKS = { passed: "✓", failed: "✕", unproven: "? not proven", open: "○" };

function checkpointWords(run, stage) {
  const all = checkpoints(run, stage);
  const passed = all.filter(({ state }) => state === "passed").length;
  return [`Checkpoints, ${passed} of ${all.length} passed: `,
    all.map(({ due, state }) => `${span(due)} ${CHECKPOINT_MARKS[state]}`).join(" · ")];
}

function progress(status, run, stage, state) {
  const end = Math.max(1, state === "now" ? status.stage_ends_at_ms ?? plannedSpan(stage.duration) : plannedSpan(stage.duration));
  const here = state === "now" || state === "left";
  const filled = state === "done" ? 1 : here ? Math.min(1, status.stage_time_ms / end) : 0;
  const ticks = checkpoints(run, stage).map(({ due, state: went }) =>
    s("circle", { class: `tick ${state === "done" && went === "open" ? "unknown" : went}`, cx: `${Math.min(98.5, Math.max(1.5, (due / end) * 100))}%`, cy: "8", r: "4" }));
  return s("svg", { class: `line ${state}`, height: "16", role: "img", "aria-label": `${capital(stage.name)}: ${Math.round(filled * 100)}% of its time` },
    s("rect", { class: "track", x: "0", y: "6", width: "100%", height: "4", rx: "2" }),
    s("rect", { class: "fill", x: "0", y: "6", width: `${filled * 100}%`, height: "4", rx: "2" }),
    ticks);
}

function stabilization(status) {
  const now = status.phase === "stabilizing";
  const done = status.phase === "complete";
  const planned = span(plannedSpan(status.plan.stabilization.duration));
  return h("li", { key: " stabilization", class: `stage ${now ? "now" : done ? "done" : "next"}`, "aria-current": now ? "step" : null },
    h("div", { class: "head" }, h("strong", null, "stabilization"), status.level && h("span", { class: "share" }, status.level)),
    h("div", { class: "quiet" }, now ? `${span(status.stage_time_ms)} of ${planned}` : planned));
}
