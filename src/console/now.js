// The top of the page, for somebody who was woken up: what is happening, whether it is safe, why it was decided, what can be done.
// Every sentence is made of what the records say; where they do not say it, it is not here.

import { actionsNow } from "./actions.js";
import { h } from "./dom.js";
import { inShort } from "./evidence.js";
import { isLost } from "./feed.js";
import { briefly, comparison, confidence, decisive, sentence } from "./judged.js";
import { capital, latency, list, moment, patience, percent, plain, plural, rate, span } from "./words.js";

/** The kinds of events that answer "why". */
const DECISIONS = ["started", "scheduled", "advanced", "completed", "extended", "held", "resumed", "retried", "paused", "rolled_back", "aborted",
  "weight_set", "approval_asked", "canary_replaced", "segment_lowered", "ceiling_set", "ceiling_lifted", "not_recovered", "rehearsal_ended"];

export function now(state, act) {
  const { status, events } = state;
  const run = events.filter((event) => event.run === status.run);
  const safe = isLost(state.link) ? unknown(state, run) : safety(state, run);
  return h("section", { class: `situation ${safe.tone}`, "aria-labelledby": "what" },
    h("div", { class: "what" },
      h("h2", { id: "what" }, headline(status)),
      figures(status)),
    h("div", { class: "answers" },
      answer("Is it safe?", h("p", { class: `verdict ${safe.tone}` }, safe.title), h("ul", null, safe.lines.map((line) => h("li", null, line)))),
      answer("Why was it decided?", decisions(run)),
      answer("What can I do now?",
        h("p", null, h("strong", null, "If you do nothing: "), status.outlook || "nothing changes", "."),
        actionsNow(state, act))));
}

const answer = (question, ...children) => h("div", { class: "answer", key: question }, h("h3", null, question), ...children);

/** What is happening, in a line. */
export function headline(status) {
  const { canary, baseline } = status.pools;
  const share = percent(status.weights_in_force[canary]);
  const stage = status.stage ? `stage ${status.stage}` : "";
  const time = status.stage_ends_at_ms === null ? "" : `, ${span(status.stage_time_ms)} of ${span(status.stage_ends_at_ms)}`;
  switch (status.phase) {
    case "idle":
      return `Idle: everybody is on ${baseline}`;
    case "scheduled":
      return `Scheduled: ${stage} begins at ${moment(status.next_start)}`;
    case "complete":
      return `Complete: ${share} of learners on ${canary}`;
    case "rolled_back":
      return status.weights_in_force[canary] === 0 ? `Rolled back: everybody is on ${baseline}` : `Fallen back: ${share} of learners on ${canary}`;
    case "aborted":
      return `Aborted: everybody is on ${baseline}`;
    case "manual":
      return `By hand: ${share} of learners on ${canary}`;
    default:
      return `${capital(plain(status.phase))}: ${stage}${time}, ${share} of learners on ${canary}`;
  }
}

// Both pools over the last minute, in one line each.
function figures(status) {
  const line = (arm) => {
    const { recent } = status.figures[arm];
    const name = status.pools[arm];
    if (recent.requests === 0) return h("li", { class: `key ${arm}` }, `${name}: no requests in the last minute`);
    return h("li", { class: `key ${arm}` },
      `${name}: ${rate(recent.error_rate)} errors, p99 ${latency(recent.p99_ms)}, ${plural(recent.requests, "request")} in the last minute`);
  };
  return h("ul", { class: "pools-now" }, line("baseline"), line("canary"));
}

// Figures that are not of now answer nothing about now.
function unknown(state, run) {
  const { title, lines } = safety(state, run);
  return { tone: "warn", title: `Not known: serin does not answer. What is here stood so at ${moment(state.status.at)}.`, lines: [`Then it was: ${title}`, ...lines] };
}

/** Whether learners are well, with what speaks for and against it. */
export function safety(state, run) {
  const { status } = state;
  const lines = [...faults(state), ...conditionLines(status)];
  const lowered = status.segments.filter(({ lowered_by: by, max_weight: ceiling }) => by && ceiling === 0);
  for (const { segment } of lowered) lines.push(loweredLine(segment, run));
  const { canary, baseline } = status.pools;
  const share = status.weights_in_force[canary];
  const told = [...texts(lines), ...afterwards(run)];
  if (lines.some((line) => line.everybody)) return { tone: "bad", title: `No: no endpoint of ${baseline} is well.`, lines: told };
  if (share === 0 && run.findLast(({ event }) => AFTERWARDS.includes(event))?.event === "not_recovered") {
    return { tone: "bad", title: `No: ${baseline} is not well after the rollback.`, lines: told };
  }
  if (share === 0) return { tone: lines.some(isBad) ? "warn" : "good", title: `Yes: nobody is on ${canary}.`, lines: told };
  if (lines.some(isBad)) return { tone: "bad", title: `No: something is wrong while ${percent(share)} of learners are on ${canary}.`, lines: told };
  const unproven = status.evaluations.filter(({ purpose, verdict }) => purpose === "advance" && verdict !== "pass");
  const evidence = inShort(status.evidence, lowered.length > 0 ? "Evidence of everybody else" : "Evidence");
  if (lines.length > lowered.length) return { tone: "warn", title: "Nothing takes it back now, but look at this.", lines: [...texts(lines), evidence] };
  if (lowered.length > 0) return { tone: "warn", title: `Yes, without ${list(lowered.map(({ segment }) => `segment ${segment}`))}.`, lines: [...texts(lines), evidence] };
  if (unproven.length > 0) {
    const words = unproven.map((one) => `${one.condition}: ${plain(one.verdict)}${one.note ? ` (${one.note})` : ""}`);
    return { tone: "warn", title: "No trigger is breached; not everything is proven yet.", lines: [...words, evidence] };
  }
  const judged = status.evaluations.some(({ purpose }) => purpose === "advance");
  return { tone: "good", title: `Yes: no trigger is breached${judged ? " and every criterion is met" : ""}.`, lines: [evidence] };
}

const bad = (text) => ({ text, bad: true });
const isBad = (line) => line.bad;
const texts = (lines) => lines.map((line) => line.text);

// What is wrong beside the conditions.
function faults({ status, pools }) {
  const lines = [];
  if (status.store_fault) lines.push(bad(`The journal cannot be written, so nothing can advance: ${status.store_fault}`));
  if (!status.guarded) lines.push(bad("No trigger watches this weight: it was set by hand without guard."));
  if (status.evidence?.alarm) lines.push(bad("The evidence of a regression has reached its alarm."));
  for (const pool of pools.filter(({ name }) => name === status.pools.canary || name === status.pools.baseline)) {
    const out = pool.endpoints.filter((endpoint) => !endpoint.healthy || endpoint.ejected || endpoint.drained);
    if (out.length === 0) continue;
    const text = `${out.length} of ${plural(pool.endpoints.length, "endpoint")} of ${pool.name} ${out.length === 1 ? "is" : "are"} unhealthy, ejected or drained.`;
    const all = out.length === pool.endpoints.length;
    // Without baseline nobody is answered, wherever the weight sends him.
    lines.push({ text, bad: all, everybody: all && pool.name === status.pools.baseline });
  }
  for (const incident of status.incidents) lines.push({ text: `Incident ${incident.id} is open: ${incident.summary}` });
  if (status.frozen) lines.push({ text: `Frozen by ${status.frozen.by}${status.frozen.until ? ` until ${moment(status.frozen.until)}` : ""}: ${status.frozen.reason || "no reason given"}` });
  for (const cause of status.causes) lines.push({ text: `Held since ${moment(cause.since)} (${plain(cause.cause)}): ${cause.why}` });
  return lines;
}

function conditionLines(status) {
  const speaks = ({ purpose, verdict }) => purpose !== "advance" && (verdict === "fail" || verdict === "unproven");
  return status.evaluations.filter(speaks).map((one) => {
    const needed = patience(one.condition);
    const clock = one.breached_for_ms === null || needed === 0 ? "" : ` for ${span(one.breached_for_ms)} of ${span(needed)}`;
    const word = one.verdict === "fail" ? "Breached" : "Breached but not proven";
    const text = `${word}${clock}: ${one.condition} (${comparison(one)})${one.note ? `; ${one.note}` : ""}`;
    // What is not proven holds and takes nobody back.
    return one.purpose === "hold" || one.verdict === "unproven" ? { text } : bad(text);
  });
}

function loweredLine(segment, run) {
  const event = run.findLast((one) => one.event === "segment_lowered" && one.segment === segment);
  if (!event) return { text: `Segment ${segment} is off canary.` };
  const found = decisive(event)[0];
  return { text: `Segment ${segment} is off canary since ${moment(event.at)}${found ? `: ${comparison(found)}` : ""}. The others go on.` };
}

const AFTERWARDS = ["recovered", "not_recovered"];

// What followed a rollback.
function afterwards(run) {
  const back = run.findLast(({ event }) => AFTERWARDS.includes(event));
  return back ? [`${moment(back.at)} ${capital(back.sentence)}.`] : [];
}

// The last decision in full, and before it what still matters: segments that were lowered.
function decisions(run) {
  const last = run.findLast(({ event }) => DECISIONS.includes(event));
  if (!last) return h("p", { class: "quiet" }, "Nothing was decided yet.");
  const lowered = run.filter((event) => event.event === "segment_lowered" && event !== last);
  return [last, ...lowered.toReversed().slice(0, 2)].map((event) => h("div", { class: "decision", key: String(event.id) },
    h("p", null,
      h("time", { datetime: event.at, title: event.at }, moment(event.at)), " ", h("strong", null, sentence(event.sentence)),
      ` (${event.by === "gate" ? "by the gate" : `by ${event.by}`}${event.reason ? `: ${event.reason}` : ""})`),
    tookLong(event),
    briefly(decisive(event)),
    confidence(event.confidence)));
}

// From the first moment at which it was true to the decision.
function tookLong(event) {
  if (event.breached_since_clock_ms === undefined || event.breached_since_clock_ms === null) return null;
  return h("p", { class: "quiet" }, `True since ${moment(event.breached_since)}, decided ${span(event.clock_ms - event.breached_since_clock_ms)} later.`);
}
