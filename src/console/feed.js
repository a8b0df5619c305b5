// Keeps the page's state in step with serin: the stream of events, the rollout's state, its samples and the pools, each in its own
// rhythm. After a loss everything goes on where it was: events by the number of the last one seen, samples by their last step.

import { call, listen, part, Refusal } from "./api.js";

const STATE_MS = 1000;
const SAMPLES_MS = 2000;
const POOLS_MS = 3000;
const ROLLOUTS_MS = 5000;
/** A page that nobody looks at asks this many times less often. */
const UNSEEN = 5;
/** serin writes something at least every 15 s; a stream that is silent for longer is taken for dead. */
const SILENCE_MS = 40_000;
/** Between two attempts to open the stream again. */
const SHORTEST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 4000;
/** Events kept: more than any run that people watch, and few enough to draw. */
const EVENTS_KEPT = 3000;
/** Older figures than this are called old. */
const OLD_MS = 5000;
/** Where no run gives the charts a beginning. */
const RECENT_MS = 600_000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** What the page knows, before it knows anything. */
export function nothingYet() {
  return {
    who: null,
    locked: false,
    lockedBecause: "",
    rollouts: [],
    chosen: null,
    status: null,
    events: [],
    samples: { of: "", step: 0, points: [] },
    pools: [],
    mirror: null,
    // The connection: how the stream stands, since when, and when the state was last heard.
    link: { stream: "connecting", since: Date.now(), heard: null, why: "", back: null },
  };
}

/** Whether what is shown may no longer be so. */
export const isLost = ({ stream, heard }) => stream === "lost" || (heard !== null && Date.now() - heard > OLD_MS);

/** Follows whichever rollout is chosen. `changed` is called after each change of `state`. */
export function follow(state, changed) {
  let round = 0;
  // Nothing else is asked before it is known who asks.
  const loop = async (every, work) => {
    for (;;) {
      if (!state.locked && (state.who !== null || work === rollouts)) await attempt(work);
      await pause(document.hidden ? every * UNSEEN : every);
    }
  };
  const attempt = async (work) => {
    try {
      await work();
    } catch (error) {
      if (error instanceof Refusal && error.status === 401) lock(error.message);
      else state.link.why = error.message;
    }
    changed();
  };
  const lock = (why) => Object.assign(state, { locked: true, lockedBecause: why });
  const chosenPath = () => `/api/rollouts/${part(state.chosen)}`;

  const rollouts = async () => {
    if (state.who === null) {
      const who = await call("GET", "/api/whoami");
      if (!who.read) return lock("");
      state.who = who;
    }
    const answer = await call("GET", "/api/rollouts");
    state.rollouts = answer.rollouts.map(({ rollout, phase }) => ({ rollout, phase }));
    const known = state.rollouts.some(({ rollout }) => rollout === state.chosen);
    if (!known && state.rollouts.length > 0) choose(state.rollouts[0].rollout);
  };
  const status = async () => {
    if (state.chosen === null) return;
    const asked = state.chosen;
    const answer = await call("GET", chosenPath());
    if (asked !== state.chosen) return;
    state.status = answer;
    state.link.heard = Date.now();
  };
  const pools = async () => {
    state.pools = (await call("GET", "/api/pools")).pools;
    if (state.chosen !== null) state.mirror = await call("GET", `${chosenPath()}/mirror`);
  };
  const samples = async () => {
    if (state.status !== null) await takeSamples(state, chosenPath());
  };

  // Many events at once, as the history at the beginning, ask for the state once.
  let hurried = null;
  const hurry = () => {
    hurried ??= setTimeout(() => {
      hurried = null;
      attempt(status);
    }, 50);
  };

  const stream = async (mine) => {
    const isMine = () => mine === round;
    let wait = SHORTEST_PAUSE_MS;
    while (isMine()) {
      if (!state.locked) {
        const opened = await connection(state, `${chosenPath()}/events`, isMine, hurry);
        wait = opened ? SHORTEST_PAUSE_MS : Math.min(wait * 2, LONGEST_PAUSE_MS);
        changed();
      }
      await pause(wait);
    }
  };

  function choose(name) {
    round += 1;
    Object.assign(state, { chosen: name, status: null, events: [], mirror: null, samples: nothingYet().samples });
    state.link = nothingYet().link;
    const mine = round;
    attempt(status).then(() => {
      attempt(samples);
      stream(mine);
    });
  }

  // The stream of who leaves ends with him.
  function leave() {
    round += 1;
    Object.assign(state, nothingYet());
    lock("");
  }

  loop(ROLLOUTS_MS, rollouts);
  loop(STATE_MS, status);
  loop(SAMPLES_MS, samples);
  loop(POOLS_MS, pools);
  const now = () => attempt(async () => {
    await rollouts();
    await status();
    await pools();
  });
  return { choose, leave, now };
}

// One connection of the stream, from its beginning to its end. True if it was ever open.
async function connection(state, path, mine, hurry) {
  const link = state.link;
  const stop = new AbortController();
  let heardAt = Date.now();
  let opened = false;
  const watch = setInterval(() => {
    if (!mine() || Date.now() - heardAt > SILENCE_MS) stop.abort();
  }, 1000);
  const lostSince = link.stream === "lost" ? link.since : null;
  try {
    await listen(path, lastSeen(state), stop.signal, {
      opened: () => {
        opened = true;
        Object.assign(link, { stream: "live", since: Date.now(), why: "" });
        link.back = lostSince === null ? null : { at: Date.now(), lostSince, missed: 0 };
        hurry();
      },
      heard: () => (heardAt = Date.now()),
      event: (event) => {
        if (!mine()) return;
        take(state, event);
        hurry();
      },
    });
  } catch (error) {
    if (error instanceof Refusal && error.status === 401) Object.assign(state, { locked: true, lockedBecause: error.message });
    link.why = error.message;
  } finally {
    clearInterval(watch);
    stop.abort();
  }
  if (link.stream !== "lost") Object.assign(link, { stream: "lost", since: Date.now(), back: null });
  return opened;
}

// A first connection asks for the last ones; a later one for what came since.
function lastSeen(state) {
  const last = state.events.at(-1);
  return last ? last.id : Math.max(0, (state.status?.last_event ?? 0) - EVENTS_KEPT);
}

function take(state, event) {
  const { events, link } = state;
  // Numbers that begin again are of another journal.
  if (events.length > 0 && event.id <= events.at(-1).id) events.length = 0;
  events.push(event);
  if (events.length > EVENTS_KEPT) events.splice(0, events.length - EVENTS_KEPT);
  if (link.back && Date.parse(event.at) < link.back.at) link.back.missed += 1;
}

// The steps of the run so far; once they are known, only what came after them.
async function takeSamples(state, path) {
  const { status, samples } = state;
  const of = `${status.rollout}/${status.run}/${status.started}`;
  const began = status.started ?? new Date(Date.parse(status.at) - RECENT_MS).toISOString();
  const to = seenUntil(status);
  const from = samples.points.at(-2);
  const whole = samples.of !== of || !from || tooFine(samples.step, began, to);
  if (!whole && Date.parse(samples.points.at(-1).at) + samples.step >= to) return;
  const query = new URLSearchParams({ from: began, to: new Date(to).toISOString() });
  if (!whole) {
    query.set("from", new Date(Date.parse(from.at) - samples.step / 2).toISOString());
    query.set("step", `${samples.step / 1000}s`);
  }
  const answer = await call("GET", `${path}/samples?${query}`);
  if (state.status?.rollout !== status.rollout) return;
  const kept = whole ? [] : samples.points.filter((point) => point.clock_ms < from.clock_ms);
  // A step that is cut by what was asked would count too little.
  const fresh = whole ? answer.samples : answer.samples.filter((point) => point.clock_ms >= from.clock_ms);
  state.samples = { of, step: answer.step_ms, points: [...kept, ...fresh] };
}

/** The right edge of the charts: now, or a little after the run's end. */
export function seenUntil(status) {
  const now = Date.parse(status.at);
  if (!status.ended) return now;
  const [began, ended] = [Date.parse(status.started), Date.parse(status.ended)];
  return Math.min(now, ended + Math.max(10_000, (ended - began) / 20));
}

const tooFine = (step, began, to) => (to - Date.parse(began)) / step > 700;
