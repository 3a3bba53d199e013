/** Draws /status.json once a second. Everything from the server is inserted as text. */

const SECOND = 1000;
const SAMPLES = 120; // as many as the server keeps
const HEIGHT = 40; // of a chart, in its own units
const SVG = "http://www.w3.org/2000/svg";
const TOKEN = "videre-admin-token";

/** The charts: a name in History, a title, and the format of values. */
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
];

const REFUSALS = {
  origin: "from pages that may not connect",
  connections: "over MaxConnections",
  "connections-per-address": "over MaxConnectionsPerAddress",
  "connects-per-second": "over ConnectsPerSecondPerAddress",
  stopping: "while the server was stopping",
};

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const date = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

function count(value) {
  return number.format(value);
}

function perSecond(value) {
  return `${number.format(value)}/s`;
}

function bytesPerSecond(value) {
  const units = ["B/s", "KB/s", "MB/s", "GB/s"];
  let unit = 0;
  for (; value >= 1000 && unit < units.length - 1; unit++) value /= 1000;
  return `${number.format(value)} ${units[unit]}`;
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  if (minutes < 1) return `${Math.floor(seconds)} s`;
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

/** Make an element; `children` are elements or texts. */
function element(name, properties = {}, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function drawing(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

/** Add a chart; return a function that draws the last two minutes in it. */
function chart([name, title, write]) {
  const svg = drawing("svg", {
    viewBox: `0 0 ${SAMPLES - 1} ${HEIGHT}`,
    preserveAspectRatio: "none",
    role: "img",
  });
  const area = svg.appendChild(drawing("polygon", { class: "area" }));
  const line = svg.appendChild(drawing("polyline", { class: "line" }));
  const value = element("b", {}, "0");
  const most = element("p");
  const caption = element("figcaption", {}, element("span", {}, title), value);
  $("tiles").append(element("figure", { id: `chart-${name}` }, caption, svg, most));

  return function draw(history) {
    const values = history[name] ?? [];
    const now = values.at(-1) ?? 0;
    const peak = Math.max(...values, 0);
    const left = SAMPLES - values.length; // blank: before the server's start
    const scale = (HEIGHT - 2) / Math.max(peak, 1);
    const points = values.map((each, index) => {
      return `${left + index},${(HEIGHT - 1 - each * scale).toFixed(2)}`;
    });
    line.setAttribute("points", points.join(" "));
    area.setAttribute("points", [`${left},${HEIGHT}`, ...points, `${SAMPLES - 1},${HEIGHT}`].join(" "));
    value.textContent = write(now);
    most.textContent = `at most ${write(peak)}`;
    svg.setAttribute("aria-label", `${title}: ${write(now)} now, at most ${write(peak)}`);
  };
}

function fill(id, rows, none) {
  const body = document.querySelector(`#${id} tbody`);
  const columns = document.querySelectorAll(`#${id} th[scope=col]`).length;
  const cells = rows.map((row) => element("tr", {}, ...row.map((cell) => element("td", {}, cell))));
  const empty = element("tr", {}, element("td", { className: "none", colSpan: columns }, none));
  body.replaceChildren(...(cells.length ? cells : [empty]));
}

function moment(iso) {
  const then = new Date(iso);
  const today = then.toDateString() === new Date().toDateString();
  return element("time", { dateTime: iso }, (today ? clock : date).format(then));
}

function what({ Level, Event, Code }) {
  const words = Code ? `${Event}: ${Code}` : Event;
  return element("span", { className: Level === "warning" ? "" : "error" }, words);
}

const charts = CHARTS.map(chart);

function show(status) {
  const ready = status.Ready ? "Ready" : "Not ready";
  say(ready, status.Ready ? "good" : "bad");
  const facts = {
    Version: status.Version,
    "Up for": duration(status.Uptime),
    Since: date.format(new Date(status.Started)),
    Engine: status.Engine,
    Process: `${status.Host}, ${status.Pid}`,
  };
  const pairs = Object.entries(facts).map(([name, value]) => {
    return element("div", {}, element("dt", {}, name), element("dd", {}, String(value)));
  });
  $("facts").replaceChildren(...pairs);
  for (const draw of charts) draw(status.History);

  const errors = status.RecentErrors.map((each) => [what(each), count(each.Count), moment(each.Last)]);
  fill("errors", errors, "None.");
  const rooms = status.LargestRooms.map(({ Room, Prefix, Members }) => {
    return [element("code", {}, `${Room}…`), Prefix, count(Members)];
  });
  fill("rooms", rooms, "No room has members on this node.");
  const transports = Object.entries(status.Transports).filter(([, sessions]) => sessions);
  fill("transports", transports.map(([name, sessions]) => [name, count(sessions)]), "None.");

  const { Count, Last } = status.SlowConsumers;
  const slow = element("span", {}, "Slow consumers");
  if (Last) slow.append(", last ", moment(Last));
  const refused = Object.entries(status.Refused).filter(([, times]) => times);
  fill("lost", [
    [slow, count(Count)],
    ...refused.map(([reason, times]) => [`Refused ${REFUSALS[reason] ?? reason}`, count(times)]),
  ]);
}

function say(words, look) {
  const state = $("state");
  if (state.textContent !== words) state.textContent = words; // an unchanged text is not read out again
  state.className = `badge ${look}`;
}

let answered = null; // the time of the server's last answer

async function ask() {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  let response;
  try {
    response = await fetch("/status.json", { headers, cache: "no-store", signal: AbortSignal.timeout(5 * SECOND) });
    if (response.status === 401) {
      askForToken(token !== null);
      return;
    }
    if (!response.ok) throw new Error(`${response.status}`);
    show(await response.json());
  } catch (error) {
    if (response?.ok) throw error; // a fault in this page
    say(answered ? `No answer since ${clock.format(answered)}` : "No answer", "bad");
    $("content").classList.add("stale");
    return;
  }
  answered = new Date();
  $("content").classList.remove("stale");
  $("login").hidden = true;
  $("content").hidden = false;
}

function askForToken(wrong) {
  sessionStorage.removeItem(TOKEN);
  say("Token required", "");
  $("refused").textContent = wrong ? "Wrong token." : "";
  $("content").hidden = true;
  if ($("login").hidden) {
    $("login").hidden = false;
    $("token").focus();
  }
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value.trim());
  $("token").value = "";
  ask();
});

async function askOn() {
  if (!document.hidden && $("login").hidden) {
    try {
      await ask();
    } finally {
      setTimeout(askOn, SECOND);
    }
  } else {
    setTimeout(askOn, SECOND);
  }
}

askOn();
