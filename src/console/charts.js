// Which charts there are: the weight, and of both pools the error rate, latencies and throughput, with the plan's limits and the
// decisions of the run.

import { chart } from "./chart.js";
import { h } from "./dom.js";
import { seenUntil } from "./feed.js";
import { latency, moment, percent, perSecond, plain, rate } from "./words.js";

const FIGURES = [
  { title: "Error rate", metric: "error_rate", field: "error_rate", format: rate, top: 0.002 },
  { title: "P99", metric: "p99", field: "p99_ms", format: latency, top: 10 },
  { title: "Throughput", metric: "throughput", field: "throughput", format: perSecond, top: 1 },
  { title: "P50", metric: "p50", field: "p50_ms", format: latency, top: 10 },
  { title: "P95", metric: "p95", field: "p95_ms", format: latency, top: 10 },
  { title: "P99.9", metric: "p999", field: "p999_ms", format: latency, top: 10 },
];

// Events that changed what learners met, or stopped that from changing.
const MARKS = {
  started: ["▶", "plain"], advanced: ["▲", "good"], completed: ["★", "good"], rolled_back: ["▼", "bad"], aborted: ["▼", "bad"],
  segment_lowered: ["!", "bad"], held: ["‖", "warn"], paused: ["‖", "warn"], resumed: ["▶", "plain"], retried: ["↻", "plain"],
  weight_set: ["✎", "warn"], ceiling_set: ["✎", "warn"], ceiling_lifted: ["✎", "plain"], approval_asked: ["?", "warn"],
  approved: ["✓", "good"], frozen: ["❄", "warn"], restarted: ["↯", "plain"],
};

export function charts(state, { reading, read, widths, go }) {
  const { status, samples } = state;
  if (samples.points.length === 0) return h("p", { class: "quiet" }, "Nothing has been measured yet.");
  const run = state.events.filter((event) => event.run === status.run);
  const from = Date.parse(status.started ?? samples.points[0].at);
  const to = seenUntil(status);
  const marks = run.filter(({ event }) => MARKS[event]).map((event) => mark(event, go));
  const common = { from, to, marks, reading, read };
  const measured = { ...common, width: widths.small };
  return [
    chart({ ...common, title: `Weight of ${status.pools.canary}`, width: widths.large, tall: 120, format: percent, top: 0.01, whole: true, limits: [], lines: [weight(status, run, to)] }),
    h("div", { class: "small-charts", key: "figures" }, FIGURES.map((figure) => chart({
      ...measured, ...figure, limits: limitsOf(figure.metric, status, run, to), lines: linesOf(figure.field, state, to),
    }))),
    legend(marks, status),
  ];
}

function mark(event, go) {
  const [sign, tone] = MARKS[event.event];
  return { at: Date.parse(event.at), sign, tone, event, label: `${moment(event.at)} ${event.sentence}`, go: () => go(event.id) };
}

// The weight after each event holds until the next one.
function weight(status, run, to) {
  const points = run.map((event) => [Date.parse(event.at), event.weight]);
  if (points.length === 0) points.push([to, status.weight]);
  return { name: status.pools.canary, tone: "canary", steps: true, points };
}

function linesOf(field, { status, samples }, to) {
  const whole = samples.points.filter((point) => point.clock_ms + point.width_ms <= status.clock_ms && Date.parse(point.at) <= to);
  const line = (arm) => ({
    name: status.pools[arm], tone: arm, step: samples.step,
    points: whole.map((point) => [Date.parse(point.at) + point.width_ms / 2, point[arm][field]]),
  });
  return [line("baseline"), line("canary")];
}

// Each stage's own limits, as long as it lasted. They are read off what was judged, so that nothing is shown that was not in force.
function limitsOf(metric, status, run, to) {
  const found = [];
  for (const { stage, from, until } of spansOfStages(run, to)) {
    for (const one of judgedIn(stage, status, run)) {
      if (one.metric !== metric || one.selector !== "canary" || one.purpose === "tripwire" || one.condition.endsWith(PER_SEGMENT)) continue;
      const tone = one.purpose === "advance" ? "goal" : "trigger";
      found.push({ from, to: until, value: one.limit, tone, label: `${stage}: ${one.condition} (${plain(one.purpose)})` });
    }
  }
  return found;
}

// A limit for one segment is none for the whole pool.
const PER_SEGMENT = "per segment";

// Every condition that was judged in a stage, once.
function judgedIn(stage, status, run) {
  const judged = run.filter((event) => (event.from ?? event.stage) === stage).flatMap(({ evaluations }) => evaluations ?? []);
  const now = status.stage === stage ? status.evaluations : [];
  return new Map([...judged, ...now].map((one) => [`${one.purpose} ${one.condition}`, one])).values();
}

function spansOfStages(run, to) {
  const spans = [];
  for (const event of run) {
    const at = Date.parse(event.at);
    if (spans.at(-1)?.stage === event.stage) continue;
    if (spans.length > 0) spans.at(-1).until = at;
    if (event.stage !== null) spans.push({ stage: event.stage, from: at, until: to });
  }
  const ended = run.findLast(({ event }) => ["rolled_back", "aborted", "completed"].includes(event));
  if (ended && spans.length > 0) spans.at(-1).until = Math.min(spans.at(-1).until, Date.parse(ended.at));
  return spans;
}

function legend(marks, status) {
  const kinds = new Map(marks.map(({ sign, tone, event }) => [sign, { tone, word: plain(event.event) }]));
  return h("p", { class: "legend quiet", key: "legend" },
    h("span", { class: "key baseline" }, status.pools.baseline), h("span", { class: "key canary" }, status.pools.canary),
    h("span", { class: "key goal" }, "limit of a criterion"), h("span", { class: "key trigger" }, "limit of a trigger"),
    [...kinds].map(([sign, { tone, word }]) => h("span", { class: `sign ${tone}` }, `${sign} ${word}`)));
}
