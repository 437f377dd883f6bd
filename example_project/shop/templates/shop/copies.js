"use strict";
// What both pages need: cells with copies, and the table of counters.
const shown = new Map();  // which copy each cell showed last, to see a change
const place = ({server, worker}) => `${server}/${worker}`;

function age(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.floor(ms / 60_000)} min`;
}

function element(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = text ?? "";
  if (className) made.className = className;
  return made;
}

function rowHead(text) {
  const made = element("th", text);
  made.scope = "row";
  return made;
}

function copyCell(where, read) {
  if (!read) return element("td", "–", "copy");
  const cell = element("td", "", "copy");
  cell.append(element("b", "enabled" in read ? (read.enabled ? "on" : "off") : read.price.toFixed(2)));
  cell.append(element("small", ` #${read.copy}`));
  cell.title = `Copy ${read.copy}: so many values this worker had loaded from the database with this one`;
  const about = element("div", ` ${age(read.age_ms)}`);
  about.prepend(element("span", read.from, read.from));
  cell.append(about);
  if (shown.has(where) && shown.get(where) !== read.copy) cell.classList.add("changed");
  shown.set(where, read.copy);
  return cell;
}

function findCopy(answer, path) {
  return (answer.products ?? []).find(read => `/api/products/${read.id}` === path)
      ?? (answer.flags ?? []).find(read => `/api/flags/${read.name}` === path);
}

function workerHead(answer) {
  const cell = document.createElement("th");
  const link = element(answer.url ? "a" : "span", `worker ${answer.worker}`);
  if (answer.url) link.href = `${answer.url}/`;  // where it answers, and never its siblings
  link.title = answer.pid ? `process ${answer.pid}` : "";
  cell.append(link);
  if (answer.error) cell.append(element("div", answer.error, "bad"));
  else if (!answer.status.leased) cell.append(element("div", "no lease", "bad"));
  return cell;
}

const COUNTERS = {
  "listener": s => s.listener,
  "lease": s => s.leased ? `${s.bus.lease_remaining_s.toFixed(1)} s` : "none",
  "hits": s => s.cache.hits,
  "misses": s => s.cache.misses,
  "loads": s => s.cache.loads,
  "invalidated": s => s.cache.evictions.invalidated ?? 0,
  "entries": s => s.cache.size,
  "messages received": s => s.bus.received,
  "published": s => s.bus.published,
  "process": s => s.pid,
};

function showCounters(table, heads, answers) {
  const rows = Object.entries(COUNTERS).map(([name, read]) => {
    const row = document.createElement("tr");
    row.append(rowHead(name), ...answers.map(({status}) => {
      const text = status ? String(read(status)) : "–";
      return element("td", text, name === "lease" && text === "none" ? "bad" : "");
    }));
    return row;
  });
  table.tHead.replaceChildren(...heads);
  table.tBodies[0].replaceChildren(...rows);
}
