// What is known beside requests: figures from outside, business results, incidents, pins, what mirrored answers showed.
// Nothing of it is drawn where there is nothing.

import { h } from "./dom.js";
import { count, figure, moment, percent, plural, rate, span } from "./words.js";

export function outside({ status, mirror }) {
  const parts = [signals(status), outcomes(status), incidents(status), pins(status), mirrored(mirror)].filter(Boolean);
  if (parts.length === 0) return null;
  return h("section", { class: "card", key: "outside", "aria-labelledby": "outside-title" }, h("h2", { id: "outside-title" }, "Beside the requests"), parts);
}

const part = (title, ...children) => h("div", { key: title }, h("h3", null, title), ...children);

function signals({ signals: all }) {
  if (all.length === 0) return null;
  return part("Signals", h("ul", null, all.map((one) => h("li", null,
    `${one.name} of ${one.pool}${one.segment ? `, segment ${one.segment}` : ""}: ${one.value ?? "no value"}`,
    h("span", { class: "quiet" }, one.age_ms === null ? "" : `, ${span(one.age_ms)} old`),
    one.stale && h("span", { class: "alarm" }, ` ${one.note || "stale"}`)))));
}

function outcomes({ outcomes: all, pools }) {
  if (all.length === 0) return null;
  const arm = (one, name) => `${pools[name]} ${figure(one.mean[name], "number")} of ${plural(one.counted[name], "result")}`;
  return part("Results of learners", h("ul", null, all.map((one) => h("li", null,
    `${one.name}: ${arm(one, "baseline")}, ${arm(one, "canary")}, impact ${rate(one.impact)}`,
    one.interval && h("span", { class: "quiet" }, ` (95% interval ${rate(one.interval[0])} to ${rate(one.interval[1])})`)))));
}

function incidents({ incidents: all }) {
  if (all.length === 0) return null;
  return part("Open incidents", h("ul", null, all.map((one) => h("li", null, `${one.id}: ${one.summary} (since ${moment(one.opened)})`))));
}

function pins({ pins: all }) {
  if (all.length === 0) return null;
  return part("Pinned learners", h("p", null, `${plural(all.length, "learner")}, left out of every figure: `, all.slice(0, 20).map(({ learner, pool }) => `${learner} on ${pool}`).join(", "), all.length > 20 && " …"));
}

function mirrored(mirror) {
  if (!mirror || (mirror.share === 0 && mirror.counts.answered === 0 && mirror.counts.same === 0)) return null;
  const { counts, differences } = mirror;
  return part("Mirrored requests",
    h("p", null, `${percent(mirror.share)} of what baseline answers is copied to canary: ${count(counts.same)} answered the same, ${count(counts.different)} differently, `
      + `${count(counts.failed)} failed, ${count(counts.answered)} not compared, ${count(counts.dropped)} dropped, ${count(counts.too_large)} too large.`),
    differences.length > 0 && h("details", null, h("summary", null, `The last ${plural(differences.length, "difference")}`),
      h("ul", { class: "judged" }, differences.map((one) => h("li", null, `${moment(one.at)} ${one.method} `, h("code", null, one.path),
        one.differences.map(({ what, baseline, canary }) => h("div", { class: "quiet" }, `${what}: baseline `, h("code", null, baseline), ", canary ", h("code", null, canary))))))));
}
