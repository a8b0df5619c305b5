// Pools and their endpoints, with health, load and what keeps one out of use.

import { h } from "./dom.js";
import { count, latency, percent, plural, span } from "./words.js";

export function pools(state, act) {
  return state.pools.map((pool) => h("div", { class: "pool", key: pool.name },
    h("h3", null, pool.name, role(state.status, pool)),
    pool.never_healthy && h("p", { class: "alert" }, "No endpoint ever passed a probe; it is used all the same."),
    pool.dns_fault && h("p", { class: "alert" }, `${pool.dns} cannot be looked up: ${pool.dns_fault}`),
    pool.limit > 0 && h("p", { class: "quiet" }, `At most ${plural(pool.limit, "request")} at once now; ${count(pool.queued)} waiting.`),
    h("table", { class: "cards", role: "table" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
        ["Endpoint", "Health", "Requests", "In flight", "Latency", "Change"].map((title) => h("th", { role: "columnheader", scope: "col" }, title)))),
      h("tbody", { role: "rowgroup" }, pool.endpoints.map((endpoint) => row(pool, endpoint, act))))));
}

function role(status, { name }) {
  const arm = Object.keys(status?.pools ?? {}).find((one) => status.pools[one] === name);
  return arm && h("span", { class: `role key ${arm}` }, `${arm}, ${percent(status.weights_in_force[name])}`);
}

function row(pool, endpoint, act) {
  const cell = (label, ...children) => h("td", { role: "cell", "data-label": label }, h("div", null, ...children));
  return h("tr", { role: "row", key: endpoint.address },
    cell("Endpoint", h("code", null, endpoint.address), endpoint.zone && ` ${endpoint.zone}`),
    cell("Health", health(endpoint)),
    cell("Requests", count(endpoint.requests)),
    cell("In flight", count(endpoint.in_flight)),
    cell("Latency", latency(endpoint.latency_ms)),
    cell("Change", act.button(endpoint.drained ? "undrain" : "drain", { pool: pool.name, endpoint: endpoint.address })));
}

function health(endpoint) {
  const chip = (tone, word, more) => [h("span", { class: `chip ${tone}` }, word), more && h("span", { class: "quiet" }, ` ${more}`)];
  if (endpoint.drained) return chip("warn", "drained", "by hand");
  if (endpoint.ejected) return chip("bad", "ejected", `${endpoint.ejected.reason}, ${span(endpoint.ejected.left_ms)} more`);
  if (!endpoint.healthy) return chip("bad", "unhealthy", endpoint.fault);
  if (endpoint.warmth < 1) return chip("warn", "warming up", percent(endpoint.warmth));
  return chip("good", "healthy", endpoint.probes_sent > 0 && `${count(endpoint.probes_answered)} of ${count(endpoint.probes_sent)} probes answered`);
}
