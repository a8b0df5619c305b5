// The evidence of a regression: what each process says, as a bar to the limit at which it is an alarm.

import { h } from "./dom.js";
import { bar } from "./judged.js";
import { count, percent, plural } from "./words.js";

const NAMES = {
  errors: "Errors, canary against baseline",
  client_errors: "4xx answers, canary against baseline",
  latency: "Latency, canary against baseline",
  absolute: "Limits on failures",
  segments: "Segments, each by itself",
};

/** The sum of all processes in one line, for the top of the page. */
export function inShort(evidence, of) {
  if (!evidence) return null;
  const { ln_weighted: sum, ln_limit: limit } = evidence;
  const odds = Math.exp(sum);
  const words = sum <= 0 ? "nothing speaks for a regression" : `the data speak ${odds < 10 ? odds.toFixed(1) : count(odds)} to 1 for a regression`;
  return `${of}: ${words} (ln E ${sum.toFixed(2)}; alarm at ${limit.toFixed(2)}, which is ${count(Math.exp(limit))} to 1).`;
}

export function evidence(status) {
  const record = status.evidence;
  if (!record) return h("p", { class: "quiet" }, "No evidence is kept: no run has begun.");
  return [
    h("p", { class: "quiet" },
      `How strongly the failing and slow learners of ${plural(record.blocks, "second")} speak for a canary that is worse than baseline. `
      + `An alarm stands at ln E = ${record.ln_limit.toFixed(2)}, so that a healthy canary meets one with a chance of at most ${percent(record.alpha)}`
      + `${record.restarts > 0 ? `, spent again ${plural(record.restarts, "time")}` : ""}.`),
    record.by_request_alone
      ? line("By request alone: no request of canary says whose it is, so it may hold and never takes anybody back", record.ln_weighted_by_request, record, null)
      : line("All together", record.ln_weighted, record, null, "sum"),
    record.processes.map((one) => line(NAMES[one.name] ?? one.name, one.ln_weighted, record,
      `${plural(one.failing_learners, "failing learner")} · ${percent(one.weight)} of alpha`)),
    record.shares && shares(record.shares, record.ln_limit),
  ];
}

function line(name, value, { ln_limit: limit }, more, kind = "") {
  const tone = value >= limit ? "bad" : value >= limit / 2 ? "warn" : "plain";
  return h("div", { class: `evidence ${kind}`, key: name },
    h("span", null, name),
    h("span", { class: "number" }, `${value.toFixed(2)} of ${limit.toFixed(2)}`),
    bar(value / limit, tone, `${name}: ln E ${value.toFixed(2)}, alarm at ${limit.toFixed(2)}`),
    more && h("span", { class: "quiet" }, more));
}

// Whether learners are where the weight sends them.
function shares(record, limit) {
  const all = record.baseline + record.canary;
  if (all === 0) return null;
  const broken = record.ln_odds >= limit;
  return h("p", { class: broken ? "alert" : "quiet" },
    `Assignment ${broken ? "IS BROKEN" : "is as it should be"}: of ${plural(all, "sampled learner")} ${percent(record.canary / all)} are on canary, whose weight is ${percent(record.weight)}.`);
}

/** ln E of one segment by itself, where it is known. */
export const ofSegment = (status, name) => status.evidence?.segments.find(({ segment }) => segment === name) ?? null;
