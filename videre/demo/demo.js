/**
 * The demo: a call with everybody who has the link.
 *
 * The room is the link's fragment, which browsers do not send with a request. A link alone turns no
 * camera on: the page asks first. It rejoins by itself only when the page of a call is reloaded.
 */
import { Call } from "./demo_call.js";
import { element } from "./demo_elements.js";
import { Preview } from "./demo_lobby.js";
import { announce, button, chat, choice, details, dismiss, input, page, panels, state } from "./demo_page.js";
import { MAX_NAME } from "./demo_people.js";

const INVITED = "This link leads to a call. Anyone who has it can join.";
const COPIED_MS = 2_000; // how long a button says so
const RELOAD_MS = 10_000; // most time that reloading the page takes
/** @type {Record<string, string>} */
const REFUSALS = {
  "room-full": "This call is full.",
  unauthorized: "This server requires a token, and the demo has none.",
  unreachable: "The browser does not let this page reach the server.",
};

/** @type {Call | null} */
let call = null;
const preview = new Preview();

/** Return the room of the link. */
function roomOfLink() {
  const fragment = location.hash.slice(1);
  try {
    return decodeURIComponent(fragment);
  } catch {
    return fragment;
  }
}

function freshRoom() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replace(/[+]/g, "-").replace(/[/]/g, "_").replace(/=/g, "");
}

/** This tab's memory, which survives a reload. */
const memory = {
  /** @param {string} key */
  get(key) {
    try {
      return sessionStorage.getItem(`videre ${key}`) ?? "";
    } catch {
      return ""; // the user denies pages storage
    }
  },
  /** @param {string} key @param {string} value */
  set(key, value) {
    try {
      sessionStorage.setItem(`videre ${key}`, value);
    } catch {
      // Without storage, the page asks again.
    }
  },
};

/**
 * Tell whether the page of a running call was reloaded. A duplicated or reopened tab inherits this
 * tab's memory. So the memory holds nothing during a call, and counts only for a moment after it.
 */
function wasInCall() {
  const left = memory.get("left");
  memory.set("left", "");
  const [loaded] = performance.getEntriesByType("navigation");
  if (!left || /** @type {PerformanceNavigationTiming} */ (loaded)?.type !== "reload") return false;
  const [room, at] = JSON.parse(left);
  return room === roomOfLink() && Math.abs(Date.now() - at) < RELOAD_MS;
}

const start = page.words.textContent ?? "";

/** Show the lobby. @param {string} [title] @param {string} [words] after a call */
function showLobby(title, words) {
  const invited = roomOfLink() !== "";
  page.title.textContent = title ?? (invited ? "Join the call" : "Start a call");
  page.words.textContent = words ?? (invited ? INVITED : start);
  page.start.textContent = title ? "Join again" : page.title.textContent;
  page.call.hidden = true;
  page.copyAgain.hidden = true;
  page.lobby.hidden = false;
  state("");
}

function enter() {
  const room = roomOfLink() || freshRoom();
  history.replaceState(null, "", `#${encodeURIComponent(room)}`);
  memory.set("name", page.name.value);
  preview.stop();
  dismiss();
  chat.clear();
  details.clear();
  page.link.value = location.href;
  page.lobby.hidden = true;
  page.call.hidden = false;
  page.callTitle.focus();
  call = new Call(room, page.name.value.trim().slice(0, MAX_NAME), preview.chosen, end);
  call.start();
}

/** @param {Error & {code?: string | number}} error */
function reason({ code, message }) {
  if (!code) return "This link does not work: it is damaged or too long."; // refused before the server was asked
  return REFUSALS[code] ?? `The server says: ${message || code}`;
}

/** Go back to the lobby. @param {Error | null} [error] the reason; none after a click */
function end(error) {
  call?.stop();
  call = null;
  dismiss();
  panels.close();
  if (error) showLobby("The call is over", reason(error));
  else showLobby("You have left the call", "The link still works.");
  page.start.focus();
}

/** @param {HTMLButtonElement} pressed */
async function copyReport(pressed) {
  try {
    await navigator.clipboard.writeText(call?.report() ?? "");
    pressed.textContent = "Copied";
    announce("Report copied");
  } catch {
    pressed.textContent = "The browser did not allow it";
  }
  setTimeout(() => (pressed.textContent = "Copy report"), COPIED_MS);
}

/** @param {HTMLButtonElement} pressed */
async function copy(pressed) {
  const { href } = location;
  page.link.value = href;
  try {
    await navigator.clipboard.writeText(href);
  } catch {
    page.link.select(); // pages without TLS cannot write to the clipboard
    document.execCommand("copy");
  }
  pressed.textContent = "Copied";
  announce("Link copied");
  setTimeout(() => (pressed.textContent = "Copy link"), COPIED_MS);
}

element("enter", HTMLFormElement).onsubmit = (event) => {
  event.preventDefault();
  enter();
};
button("leave").onclick = () => end();
choice.chosen = (kind, id) => call?.choose(kind, id);
for (const what of /** @type {const} */ (["mute", "blind", "show"])) {
  button(what).onclick = () => call?.press(what);
}
for (const each of [button("copy"), page.copyAgain]) each.onclick = () => copy(each);
button("copy-report").onclick = () => copyReport(button("copy-report"));
page.link.onfocus = () => page.link.select();
button("chat-open").addEventListener("click", () => panels.isOpen("chat") && chat.read());
button("details-open").addEventListener("click", () => call?.update());
element("say", HTMLFormElement).onsubmit = (event) => {
  event.preventDefault();
  const words = input("words-to-say");
  if (words.value.trim()) call?.say(words.value.trim());
  words.value = "";
};

// Phones have no getDisplayMedia, and few desktops a share().
button("show").hidden = !navigator.mediaDevices || !("getDisplayMedia" in navigator.mediaDevices);
button("share").hidden = !navigator.share;
button("share").onclick = () =>
  navigator.share({ title: "A call", url: location.href }).catch(() => {}); // the user cancelled

addEventListener("hashchange", () => {
  if (call && roomOfLink() === call.room) return;
  if (call) end(); // another link was pasted over this one
  showLobby();
});
addEventListener("pagehide", () => {
  if (call) memory.set("left", JSON.stringify([call.room, Date.now()]));
  call?.stop();
  preview.stop();
});
addEventListener("pageshow", ({ persisted }) => persisted && location.reload());

page.name.value = memory.get("name");
showLobby();
if (wasInCall()) enter();
