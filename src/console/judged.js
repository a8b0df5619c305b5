// What was judged, drawn: conditions with figure, limit, verdict and breach clock, and the evaluations that an event rests on.

import { h, s } from "./dom.js";
import { capital, figure, patience, plain, plural, sign, span } from "./words.js";

// The mark stands beside the word, so that nobody has to tell colours apart.
const VERDICTS = {
  advance: { pass: ["✓", "met", "good"], fail: ["✕", "not met", "bad"], unproven: ["?", "unproven", "warn"], no_data: ["–", "no data", "plain"] },
  trigger: { pass: ["✓", "quiet", "good"], fail: ["!", "breached", "bad"], unproven: ["?", "unproven", "warn"], no_data: ["–", "no data", "plain"] },
};

/** A verdict in a word, by what its condition is for: `pass` of a trigger is that it is quiet. */
export function verdict(evaluation) {
  const words = evaluation.purpose === "advance" ? VERDICTS.advance : VERDICTS.trigger;
  const [mark, word, tone] = words[evaluation.verdict];
  return h("span", { class: `chip ${tone}` }, h("span", { "aria-hidden": "true" }, `${mark} `), word);
}

/** `error_rate 29.73% in segment school, limit 5.00%`. */
export function comparison(evaluation) {
  const name = evaluation.selector === "canary" ? evaluation.metric : `${evaluation.metric} (${evaluation.selector})`;
  return `${name} ${seen(evaluation)}, limit ${figure(evaluation.limit, evaluation.unit)}`;
}

/** `29.73% in segment school`: for where the condition stands beside it. */
export function seen(evaluation) {
  const place = evaluation.segment ? ` in segment ${evaluation.segment}` : "";
  return `${figure(evaluation.figure, evaluation.unit)}${place}`;
}

/** What is known beside figure and limit: what baseline had, how many they are, how far chance may reach. */
export function grounds(evaluation) {
  const parts = [];
  if (evaluation.baseline !== null) parts.push(`baseline ${figure(evaluation.baseline, unitOfMetric(evaluation))}`);
  parts.push(plural(evaluation.requests, "request"));
  if (evaluation.learners !== null) parts.push(plural(evaluation.learners, "failing learner"));
  if (evaluation.interval) {
    const [low, high] = evaluation.interval.map((bound) => figure(bound, evaluation.unit));
    parts.push(`95% interval ${low} to ${high}${beside(evaluation)}`);
  }
  return parts.join(" · ");
}

// A delta is a share of baseline's own figure, whose unit is the metric's.
function unitOfMetric({ metric, selector, unit }) {
  if (selector !== "delta") return unit;
  return /^p\d/.test(metric) ? "ms" : metric === "throughput" ? "per_second" : "share";
}

function beside(evaluation) {
  switch (evaluation.interval_says) {
    case "fail":
      return evaluation.purpose === "advance" ? ", even its near end misses the limit" : ", even its near end is in breach";
    case "pass":
      return ", wholly within the limit";
    case "unproven":
      return ", the limit lies inside";
    default:
      return "";
  }
}

/** The evaluations that decided: criteria where something was passed, what was breached where it was not. */
export function decisive(event) {
  const all = event.evaluations ?? [];
  if (["checkpoint", "advanced", "completed", "approval_asked", "approved"].includes(event.event)) {
    return all.filter(({ purpose }) => purpose === "advance");
  }
  if (event.event === "segment_lowered") return all.filter(({ segment }) => segment === event.segment);
  const failed = all.filter((one) => one.verdict === "fail");
  const triggers = failed.filter(({ purpose }) => purpose !== "advance");
  return triggers.length > 0 ? triggers : failed;
}

/** What is met in a line each; what is not, with what it rests on. */
export const briefly = (evaluations) =>
  h("ul", { class: "judged" }, evaluations.map((one) =>
    h("li", null, verdict(one), " ", h("code", null, one.condition), " ", h("strong", null, seen(one)),
      !(one.purpose === "advance" && one.verdict === "pass") && h("div", { class: "quiet" }, grounds(one), one.note && ` · ${one.note}`))));

/** Evaluations as a list, each with what it rests on. */
export const grounded = (evaluations) =>
  h("ul", { class: "judged" }, evaluations.map((one) =>
    h("li", null,
      verdict(one), " ",
      h("code", null, one.condition), " ",
      h("strong", null, seen(one)),
      h("div", { class: "quiet" }, grounds(one), one.note && ` · ${one.note}`))));

/** Every condition of the stage as it is judged now. */
export function conditions(status) {
  const groups = [
    ["What lets the stage go on", ({ purpose }) => purpose === "advance"],
    ["What takes it back", ({ purpose }) => purpose === "rollback" || purpose === "tripwire"],
    ["What holds it", ({ purpose }) => purpose === "hold"],
  ];
  const parts = groups.map(([title, belongs]) => [title, status.evaluations.filter(belongs)]).filter(([, some]) => some.length > 0);
  if (parts.length === 0) return h("p", { class: "quiet" }, "Nothing is judged now: no stage is running.");
  return h("table", { class: "cards conditions", role: "table" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
      ["Condition", "Verdict", "Figure", "Limit", "Breached for", "Rests on"].map((title) => h("th", { role: "columnheader", scope: "col" }, title)))),
    parts.map(([title, some]) => [
      h("tbody", { key: title, role: "rowgroup" },
        h("tr", { role: "row", class: "group" }, h("th", { role: "rowheader", scope: "rowgroup", colspan: "6" }, title)),
        some.map((one) => row(one))),
    ]));
}

function row(one) {
  const cell = (label, ...children) => h("td", { role: "cell", "data-label": label }, h("div", null, ...children));
  return h("tr", { role: "row", class: one.verdict === "fail" ? "alert" : null },
    cell("Condition", h("code", null, one.condition), one.purpose === "tripwire" && h("span", { class: "quiet" }, " tripwire")),
    cell("Verdict", verdict(one)),
    cell("Figure", h("strong", null, figure(one.figure, one.unit)), one.segment && ` in ${one.segment}`),
    cell("Limit", `${sign(one.op)} ${figure(one.limit, one.unit)}`),
    cell("Breached for", clock(one)),
    cell("Rests on", h("span", { class: "quiet" }, grounds(one), one.note && ` · ${one.note}`)));
}

// How long it has been true, of how long it must be.
function clock(one) {
  if (one.breached_for_ms === null) return h("span", { class: "quiet" }, "–");
  const needed = patience(one.condition);
  if (needed === 0) return span(one.breached_for_ms);
  const done = Math.min(1, one.breached_for_ms / needed);
  return [`${span(one.breached_for_ms)} of ${span(needed)}`, bar(done, "bad", `breached for ${span(one.breached_for_ms)} of ${span(needed)}`)];
}

/** A bar that is full at 1. */
export const bar = (filled, tone, label) =>
  s("svg", { class: `bar ${tone}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("rect", { class: "track", width: "100", height: "6" }),
    s("rect", { class: "fill", width: String(Math.max(0, Math.min(1, filled)) * 100), height: "6" }));

/** A sentence of the API: what it has in backticks is code. */
export const sentence = (text) => capital(text).split("`").map((part, place) => (place % 2 === 1 ? h("code", null, part) : part));

/** How sure a decision was. */
export function confidence(record) {
  if (!record) return null;
  const tone = { high: "good", medium: "warn", low: "warn" }[record.level] ?? "plain";
  return h("div", { class: "confidence" },
    h("span", { class: `chip ${tone}` }, `${plain(record.level)} confidence`),
    record.why.length > 0 && h("ul", { class: "quiet" }, record.why.map((why) => h("li", null, why))));
}
