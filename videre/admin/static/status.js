/** Draws /status.json once a second. Everything from the server is inserted as text. */

import { draw } from "./status_charts.js";
import { $, SECOND, clock, count, date, duration, element, fill, moment, reason, request, token } from "./status_parts.js";
import { listPrefixes } from "./status_rooms.js";

const REFUSALS = {
  origin: "from pages that may not connect",
  connections: "over MaxConnections",
  "connections-per-address": "over MaxConnectionsPerAddress",
  "connects-per-second": "over ConnectsPerSecondPerAddress",
  stopping: "while the server was stopping",
};

function what({ Level, Event, Code }) {
  const words = Code ? `${Event}: ${Code}` : Event;
  return element("span", { className: Level === "warning" ? "" : "error" }, words);
}

/** Return a node's row. It shows the node's process, or its name if the process is unknown. */
function node({ Prefix, Node, Here, Silent, Process, Age, Members }) {
  const name = element("span", { title: Node }, Process ?? Node);
  if (Here) name.append(element("small", {}, " this node"));
  const told = (value, write) => (value === null ? "unknown" : write(value));
  return [name, Prefix, told(Age, duration), told(Members, count), `${duration(Silent)} ago`];
}

function show(status, day) {
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
  draw(status.History, day);

  const errors = status.RecentErrors.map((each) => [what(each), count(each.Count), moment(each.Last)]);
  fill("errors", errors, "None.");
  const rooms = status.LargestRooms.map(({ Room, Prefix, Members }) => {
    return [element("code", {}, `${Room}…`), Prefix, count(Members)];
  });
  fill("rooms", rooms, "No room has members on this node.");
  fill("nodes", status.Nodes.map(node), "None.");
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
  if (state.textContent !== words) state.textContent = words; // or screen readers would repeat it
  state.className = `badge ${look}`;
}

const LATE = 5 * SECOND; // after which the page says that it waits for an answer
let answered = null; // the time of the server's last answer

/** Say why what is shown is old; by default, because the server does not answer. */
function stale(words = answered ? `No answer since ${clock.format(answered)}` : "No answer") {
  say(words, "bad");
  $("content").classList.add("stale");
}

async function ask() {
  const day = $("span").value === "day";
  const late = setTimeout(stale, LATE);
  let response;
  try {
    response = await request("/status.json", { query: day ? { history: "day" } : {} });
    if (response.status === 401) {
      askForToken(token.get() !== null);
      return;
    }
    if (!response.ok) {
      stale(await reason(response));
      return;
    }
    show(await response.json(), day);
  } catch (error) {
    if (response?.ok) throw error; // a fault in this page
    stale();
    return;
  } finally {
    clearTimeout(late);
  }
  answered = new Date();
  $("content").classList.remove("stale");
  $("login").hidden = true;
  if ($("content").hidden) await listPrefixes();
  $("content").hidden = false;
}

function askForToken(wrong) {
  token.forget();
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
  const given = $("token").value.trim();
  $("token").value = "";
  if (token.set(given)) ask();
  else askForToken(true);
});

$("span").addEventListener("change", ask);

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
