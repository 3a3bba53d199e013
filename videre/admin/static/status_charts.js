/** The charts: of the last two minutes, or of the last day. */

import { $, bytesPerSecond, count, element, latency, perSecond } from "./status_parts.js";

/** How many values the server keeps of each history. */
const KEPT = { minutes: 120, day: 288 };
const HEIGHT = 40; // of a chart, in its own units
const SVG = "http://www.w3.org/2000/svg";

/** A name in History, a title, and the format of values. */
const CHARTS = [
  ["Sessions", "Sessions", count],
  ["Rooms", "Rooms", count],
  ["Members", "Members", count],
  ["Received", "Packets received", perSecond],
  ["Sent", "Packets sent", perSecond],
  ["SentBytes", "Bytes sent", bytesPerSecond],
  ["Joins", "Joins", perSecond],
  ["Leaves", "Leaves", perSecond],
  ["Errors", "Error packets", perSecond],
  ["Lag", "Event-loop lag", latency],
  ["EngineLatency", "Engine", latency],
  ["RelayLatency", "Relay", latency],
];

function drawing(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Add a chart; return a function that draws a history in it. */
function chart([name, title, write]) {
  const svg = drawing("svg", { preserveAspectRatio: "none", role: "img" });
  const area = svg.appendChild(drawing("polygon", { class: "area" }));
  const line = svg.appendChild(drawing("polyline", { class: "line" }));
  const value = element("b", {}, "0");
  const most = element("p");
  const small = write === latency ? [element("small", {}, " p99")] : [];
  const caption = element("figcaption", {}, element("span", {}, title, ...small), value);
  $("tiles").append(element("figure", { id: `chart-${name}` }, caption, svg, most));

  return function draw(history, day) {
    const kept = day ? KEPT.day : KEPT.minutes;
    const values = history[name] ?? [];
    const now = values.at(-1) ?? 0;
    const peak = Math.max(...values, 0);
    const left = kept - values.length; // blank: before the server's start
    const scale = (HEIGHT - 2) / (write === latency ? peak || 1 : Math.max(peak, 1));
    const points = values.map((each, index) => {
      return `${left + index},${(HEIGHT - 1 - each * scale).toFixed(2)}`;
    });
    svg.setAttribute("viewBox", `0 0 ${kept - 1} ${HEIGHT}`);
    line.setAttribute("points", points.join(" "));
    area.setAttribute("points", [`${left},${HEIGHT}`, ...points, `${kept - 1},${HEIGHT}`].join(" "));
    value.textContent = write(now);
    most.textContent = write === latency && !peak ? "nothing measured" : `at most ${write(peak)}`;
    const when = day ? "in the last five minutes" : "now";
    svg.setAttribute("aria-label", `${title}: ${write(now)} ${when}, at most ${write(peak)}`);
  };
}

const charts = CHARTS.map(chart);

/** Draw a history in all charts. */
export function draw(history, day) {
  for (const each of charts) each(history, day);
}
