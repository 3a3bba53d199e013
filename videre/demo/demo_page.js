/** The demo's page: its elements, and its messages on screen and to screen readers. */
import { Details } from "./demo_details.js";
import { Devices } from "./demo_devices.js";
import { element, make } from "./demo_elements.js";
import { Chat, Panels } from "./demo_panels.js";

export const button = (/** @type {string} */ id) => element(id, HTMLButtonElement);
export const input = (/** @type {string} */ id) => element(id, HTMLInputElement);
export const page = {
  state: element("state", HTMLElement),
  notice: element("notice", HTMLElement),
  announcer: element("announcer", HTMLElement),
  lobby: element("lobby", HTMLElement),
  title: element("lobby-title", HTMLElement),
  words: element("lobby-words", HTMLElement),
  start: button("start"),
  name: input("name"),
  call: element("call", HTMLElement),
  callTitle: element("call-title", HTMLElement),
  stage: element("stage", HTMLElement),
  tiles: element("tiles", HTMLElement),
  invitation: element("invitation", HTMLElement),
  link: input("link"),
  copyAgain: button("copy-again"),
};
export const chat = new Chat();
export const details = new Details();
/** @type {{chosen: (kind: "audio" | "video", id: string) => void}} called when a device is chosen */
export const choice = { chosen: () => {} };
export const devices = new Devices("", (kind, id) => choice.chosen(kind, id));
export const panels = new Panels("chat", "details");

/** Tell screen readers something. @param {string} words */
export function announce(words) {
  page.announcer.replaceChildren(make("span", "", words));
}

/** @param {string} words @param {"" | "good" | "busy" | "bad"} [mood] */
export function state(words, mood = "") {
  if (page.state.textContent !== words) page.state.textContent = words;
  page.state.dataset.mood = mood;
  document.title = words ? `${words} - Videre call` : "Videre call";
}

/**
 * Show a notice until it is dismissed or its action taken.
 * @param {string} id of its subject: a new notice replaces an old one with the same id
 * @param {string} words @param {[string, () => void]} [action] a button's label and function
 */
export function notice(id, words, action) {
  dismiss(id);
  const line = make("div", "notice", make("p", "", words));
  line.dataset.about = id;
  const dismissal = /** @type {[string, () => void]} */ (["Dismiss", () => {}]);
  for (const [label, act] of action ? [action, dismissal] : [dismissal]) {
    const made = make("button", "", label);
    made.type = "button";
    made.onclick = () => {
      dismiss(id);
      page.callTitle.focus();
      act();
    };
    line.append(made);
  }
  page.notice.append(line);
}

/** Remove a notice. @param {string} [id] without it: all notices */
export function dismiss(id) {
  for (const line of /** @type {HTMLElement[]} */ ([...page.notice.children])) {
    if (id === undefined || line.dataset.about === id) line.remove();
  }
}
