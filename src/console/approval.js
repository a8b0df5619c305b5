// An approval that is waited for: what is asked, who has said what, and the figures that an approver should look at.

import { h } from "./dom.js";
import { confidence, decisive, grounded } from "./judged.js";
import { capital, list, moment, percent, plannedShare } from "./words.js";

export function approval(state, act) {
  const { status, events } = state;
  const asked = status.approval;
  if (!asked) return null;
  const event = events.find(({ id }) => id === asked.asked);
  const lowered = status.segments.filter(({ max_weight: ceiling }) => ceiling !== null);
  return h("section", { key: "approval", class: "card approval", "aria-labelledby": "approval-title" },
    h("h2", { id: "approval-title" }, asked.missing.length > 0 ? `Approval asked: ${step(status)}` : `Approved: ${step(status)}`),
    h("p", null, `Asked ${moment(asked.since)}. `,
      asked.missing.length > 0 ? h("strong", null, `Missing: ${list(asked.missing)}.`) : "Nobody is missing; it waits for the step."),
    asked.given.length > 0 && h("ul", null, asked.given.map((one) =>
      h("li", null, `${capital(one.role)}: approved by ${one.by} at ${moment(one.at)}${one.reason ? ` (${one.reason})` : ""}`))),
    h("h3", null, "Look at this before you say anything"),
    event ? [grounded(decisive(event)), confidence(event.confidence)] : h("p", { class: "quiet" }, `The figures are in event ${asked.asked}.`),
    lowered.length > 0 && h("p", null, `Without ${list(lowered.map(({ segment, max_weight: ceiling }) => `${segment} (ceiling ${percent(ceiling)})`))}: they stay below the new weight.`),
    h("p", { class: "quiet" }, `Figures as they stood in event ${asked.asked}. If others are asked about when you approve, you are told and nothing happens.`),
    h("div", { class: "buttons" },
      asked.missing.map((role) => act.button("approve", { role })),
      act.button("reject", {})));
}

/** The step that is asked for. */
export function step(status) {
  if (status.phase === "scheduled") return `begin stage ${status.plan.stages[0].name} (${status.plan.stages[0].weight}) before its time`;
  const next = status.plan.stages[status.stage_index + 1];
  if (!next) return `complete the rollout at ${percent(status.weight)}`;
  return `from ${status.stage} (${percent(status.weight)}) to ${next.name} (${percent(plannedShare(next.weight))})`;
}
