// What an action will do, in words, before it is done: made of the state as it is shown and of serin's own table of actions.

import { step } from "./approval.js";
import { capital, list, moment, percent, plain, plannedShare, span } from "./words.js";

const inForce = (status) => status.weights_in_force[status.pools.canary];

/** Lines for the dialog of an action. */
export function effects(name, status, at) {
  const own = OWN[name]?.(status, at) ?? [];
  const rule = status.allowed.find(({ action }) => action === (RULES[name] ?? name));
  return [...own, rule && `${capital(rule.does)}.`].filter(Boolean);
}

/** Names of serin's table where the page has others. */
const RULES = { ceiling: "segment", lift: "lift segment" };

const OWN = {
  start: (status) => {
    const first = status.plan?.stages[0];
    return first && [`${status.pools.canary} goes from ${percent(inForce(status))} to ${first.weight} of learners: stage ${first.name}, ${first.duration}.`,
      status.plan_pending && "The plan in the file has changed since the last run: this run takes the new one, which may differ from what is shown here."];
  },
  resume: (status) => [`Stage ${status.stage} goes on at ${stageWeight(status)}${status.causes.length > 0 ? `; what ends is: ${list(status.causes.map(({ cause, why }) => `${plain(cause)} (${why})`))}` : ""}.`],
  retry: (status) => [`Stage ${status.stage} begins again at ${stageWeight(status)}; its time and figures begin at nothing.`],
  advance: (status) => [`${capital(step(status))}.`, ...unmet(status)],
  pause: (status) => [`${percent(inForce(status))} of learners stay on ${status.pools.canary}; nothing goes on until somebody resumes.`],
  hold: (status) => [`${percent(inForce(status))} of learners stay on ${status.pools.canary}; nothing goes on until somebody resumes.`],
  rollback: back,
  abort: back,
  reject: (status) => [`The step (${step(status)}) is refused; ${percent(inForce(status))} of learners stay on ${status.pools.canary}, held until somebody decides.`],
  freeze: (status) => [`${percent(inForce(status))} of learners stay on ${status.pools.canary}.`],
  unfreeze: (status) => [`The freeze of ${status.frozen?.by} (${status.frozen?.reason || "no reason given"}) since ${moment(status.frozen?.since)} is over.`],
  weights: (status) => [`Now ${status.pools.baseline} has ${percent(1 - inForce(status))} and ${status.pools.canary} ${percent(inForce(status))}.`],
  ceiling: (status, { segment }) => [`Learners of ${segment} get at most this weight on ${status.pools.canary}, whatever the rollout's is. At 0 all of them are on ${status.pools.baseline}, and they are left out of every comparison.`],
  lift: (status, { segment, ceiling }) => [`Segment ${segment} has no ceiling any more: up to ${percent(inForce(status))} of its learners go to ${status.pools.canary} instead of ${percent(Math.min(ceiling, inForce(status)))}.`],
  drain: (status, { pool, endpoint }) => [`${endpoint} gets no new requests; those under way end. The others of ${pool} carry its share.`, "It is noted in serin's log, and lasts until somebody undrains it or serin restarts."],
  undrain: (status, { pool, endpoint }) => [`${endpoint} gets its share of the requests of ${pool} again.`],
};

function back(status) {
  const { baseline, canary } = status.pools;
  return [`${canary} goes from ${percent(inForce(status))} to 0%: all learners are on ${baseline} at once.`];
}

const stageWeight = (status) => status.plan.stages[status.stage_index]?.weight ?? percent(status.weight);

// What an advance would pass over.
function unmet(status) {
  const lines = status.evaluations.filter(({ purpose, verdict }) => purpose === "advance" && verdict !== "pass").map((one) => `${one.condition}: ${plain(one.verdict)}`);
  if (status.approval?.missing.length > 0) lines.push(`approval of ${list(status.approval.missing)}: missing`);
  const left = (status.stage_ends_at_ms ?? 0) - status.stage_time_ms;
  if (left > 0) lines.push(`the stage has ${span(left)} left`);
  return lines.length > 0 ? [`Refused unless forced: ${list(lines)}.`] : [];
}

export function approveEffect(status, { role }) {
  const others = status.approval.missing.filter((one) => one !== role);
  if (others.length > 0) return [`Approves for ${role}; the approval of ${list(others)} is still missing, so nothing moves yet.`];
  const next = status.plan.stages[status.stage_index + 1];
  const weight = next ? `${status.pools.canary} goes from ${percent(status.weight)} to ${percent(plannedShare(next.weight))} of learners` : "the rollout completes";
  return [`Nobody else is missing: ${weight}, as soon as it is recorded.`];
}

/** What a weight that is typed would do. */
export function weightEffect(status, share) {
  const { baseline, canary } = status.pools;
  if (!(share >= 0 && share <= 1)) return "A weight is from 0 to 100.";
  if (share === 0) return `All learners are on ${baseline} at once. In a run this is a rollback.`;
  const word = share > inForce(status) ? "More" : share < inForce(status) ? "Fewer" : "As many";
  return `${word} learners on ${canary}: ${percent(share)}, ${baseline} ${percent(1 - share)}. A run is held there until somebody resumes it.`;
}

export function ceilingEffect(status, { segment }, share) {
  if (!(share >= 0 && share <= 1)) return "A ceiling is from 0 to 100.";
  return `${percent(Math.min(share, inForce(status)))} of ${segment} on ${status.pools.canary} now, ${percent(inForce(status))} of the others. A run is held until somebody resumes it.`;
}
