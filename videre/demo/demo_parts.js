/**
 * The parts of the demo's page: tiles of people, panels, the chat, the diagnostics.
 *
 * Everything that others send is shown as text.
 *
 * @typedef {import("./videre.js").Device} Device
 * @typedef {import("./videre.js").Flow} Flow
 * @typedef {import("./videre.js").Peer} Peer
 * @typedef {import("./videre.js").Quality} Quality
 * @typedef {{name: string, microphone: boolean, camera: boolean, screen: boolean}} About what a
 *   person tells the others
 * @typedef {{sent: boolean, size: number, Header: any, Payload: any}} Packet
 */

const PACKETS = 40; // to show
const SHAPE = 4 / 3; // of a common camera
const SPEAKS = 0.02; // the volume of somebody who speaks, at least
/** The connection's marks, best first: round trips in ms (twice the delays of ITU-T G.114), lost shares. */
const MARKS = [
  { mark: "good", roundTrip: 300, loss: 0.02 },
  { mark: "weak", roundTrip: 800, loss: 0.08 },
  { mark: "poor", roundTrip: Infinity, loss: 1 },
];

/**
 * @template {Element} T
 * @param {string} id @param {new () => T} type its class @returns {T}
 */
export function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new Error(`The page has no ${type.name} #${id}`);
  return found;
}

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {string} [className] @param {(Node | string)[]} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** @param {string} name of a symbol in the page */
function icon(name) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#${name}`);
  made.setAttribute("aria-hidden", "true");
  made.append(use);
  return made;
}

/**
 * Change the icon and the label of a tool's button.
 * @param {HTMLElement} button @param {string} name of the icon @param {string} words
 */
export function relabel(button, name, words) {
  button.querySelector("use")?.setAttribute("href", `#${name}`);
  button.querySelector("span")?.replaceChildren(words);
}

/** One person: the picture, or without one the first letter of the name. */
export class Tile {
  video = document.createElement("video");
  wasConnected = false;
  #caption = make("p", "caption");
  #letter = make("span");
  #trouble = make("p", "trouble");
  #quality = make("p", "quality");
  #buttons = make("div", "tile-tools");

  /** @param {boolean} own */
  constructor(own) {
    this.video.autoplay = this.video.playsInline = true;
    this.video.muted = own;
    this.video.setAttribute("aria-hidden", "true"); // the caption says who it is
    const face = make("div", "face", this.#letter);
    face.setAttribute("aria-hidden", "true");
    if (!own) this.#offer();
    const parts = [this.video, face, this.#buttons, this.#caption, this.#trouble, this.#quality];
    this.element = make("li", own ? "tile self" : "tile", ...parts);
  }

  /** @param {About} about */
  show({ name, microphone, camera, screen }) {
    this.name = name;
    for (const each of this.#buttons.querySelectorAll("button")) each.ariaLabel = `${each.title}: ${name}`;
    this.element.classList.toggle("dark", !camera && !screen);
    this.element.classList.toggle("shows-screen", screen);
    this.#letter.textContent = [...name][0]?.toUpperCase() ?? "";
    const words = screen ? `${name}: screen` : name;
    this.#caption.replaceChildren(make("span", "", words));
    if (!microphone) {
      this.#caption.append(icon("microphone-off"), make("span", "unseen", ", microphone off"));
    }
    if (!camera && !screen) this.#caption.append(make("span", "unseen", ", camera off"));
  }

  /** Offer a full screen and a small window for this picture, where the browser has them. */
  #offer() {
    if (document.fullscreenEnabled) {
      this.#button("full-screen", "Full screen", () =>
        document.fullscreenElement ? document.exitFullscreen() : this.element.requestFullscreen(),
      );
    }
    if (document.pictureInPictureEnabled) {
      this.#button("small-window", "Picture-in-picture", () =>
        document.pictureInPictureElement === this.video
          ? document.exitPictureInPicture()
          : this.video.requestPictureInPicture(),
      );
    }
  }

  /** @param {string} name of the icon @param {string} title @param {() => Promise<unknown>} act */
  #button(name, title, act) {
    const made = Object.assign(make("button", "", icon(name)), { type: "button", title });
    made.onclick = () => act().catch((error) => console.warn(error)); // a video without a picture yet
    this.#buttons.append(made);
  }

  /** Mark how good the connection is. @param {string} state @param {Quality} quality */
  mark(state, { roundTrip, sent, received }) {
    const loss = Math.max(sent.loss ?? 0, received.loss ?? 0);
    const found = MARKS.find((each) => (roundTrip ?? 0) <= each.roundTrip && loss <= each.loss);
    const mark = state === "connected" && roundTrip !== null && found ? found.mark : "";
    if (this.#quality.dataset.mark === mark) return;
    this.#quality.dataset.mark = mark;
    const words = make("span", "unseen", `Connection: ${mark}`);
    this.#quality.replaceChildren(...(mark ? [icon("bars"), words] : []));
    this.#quality.title = mark && `Connection: ${mark}`;
  }

  /** @param {number} level of the voice, from 0 to 1 */
  set level(level) {
    this.element.classList.toggle("speaks", level > SPEAKS);
  }

  /** @param {string} words to show over the picture, "" for none */
  set trouble(words) {
    if (this.#trouble.textContent !== words) this.#trouble.textContent = words;
  }

  /**
   * @param {MediaProvider | null} [stream] by default the current one
   * @param {() => void} [blocked] called if the browser does not play its sound yet
   */
  play(stream = this.video.srcObject, blocked = () => {}) {
    if (this.video.srcObject !== stream) this.video.srcObject = stream;
    this.video.play().catch(({ name }) => name === "NotAllowedError" && blocked());
  }
}

/**
 * Make the tiles as large as possible, and widen those in the last row, so that it has no holes.
 * Somebody's screen has rows of its own, above one row of people.
 * @param {HTMLElement} list @param {number} all tiles in the grid
 */
export function arrange(list, all) {
  const found = (/** @type {string} */ which) =>
    /** @type {NodeListOf<HTMLElement>} */ (list.querySelectorAll(which));
  const tiles = [...found(".tile:not(.self)"), ...found(".self")];
  const people = tiles.filter((tile) => all === 1 || tile.matches(".self, :not(.shows-screen)"));
  const count = all === 1 ? 1 : people.length;
  const { clientWidth: width, clientHeight: height } = list;
  let [columns, best] = [1, 0];
  for (let tried = 1; tried <= count; tried++) {
    const size = Math.min(width / tried, (height / Math.ceil(count / tried)) * SHAPE);
    if (size > best) [columns, best] = [tried, size];
  }
  if (all > count) columns = count;
  const last = count % columns || columns;
  list.style.setProperty("--columns", String(columns * last));
  people.forEach((tile, index) => {
    tile.style.setProperty("--span", String(index < count - last ? last : columns));
  });
}

/** The panels at the side: at most one is open. */
export class Panels {
  #opened = "";

  /** @param {string[]} names ids of panels, whose buttons are `<id>-open` */
  constructor(...names) {
    this.names = names;
    for (const name of names) {
      this.#button(name).onclick = () => this.toggle(name);
      const close = this.#panel(name).querySelector(".close");
      close?.addEventListener("click", () => this.close());
      this.#panel(name).addEventListener("keydown", ({ key }) => key === "Escape" && this.close());
    }
  }

  /** @param {string} name */
  isOpen(name) {
    return this.#opened === name;
  }

  /** @param {string} name */
  toggle(name) {
    this.#show(this.isOpen(name) ? "" : name);
    const panel = this.#panel(name);
    /** @type {HTMLElement | null} */
    const first = panel.querySelector("input") ?? panel.querySelector(".close");
    if (this.isOpen(name)) first?.focus();
  }

  /** Close the open panel, and move the focus to its button. */
  close() {
    const name = this.#opened;
    this.#show("");
    if (name) this.#button(name).focus();
  }

  /** @param {string} opened "" for none */
  #show(opened) {
    this.#opened = opened;
    for (const name of this.names) {
      this.#panel(name).hidden = name !== opened;
      this.#button(name).setAttribute("aria-expanded", String(name === opened));
    }
  }

  /** @param {string} name */
  #panel(name) {
    return element(name, HTMLElement);
  }

  /** @param {string} name */
  #button(name) {
    return element(`${name}-open`, HTMLButtonElement);
  }
}

/** The chat's messages. */
export class Chat {
  #list = element("messages", HTMLDivElement);
  #unread = element("unread", HTMLElement);
  #count = 0;

  /** @param {string} name @param {string} text @param {boolean} read */
  add(name, text, read) {
    this.#append(make("p", "", make("b", "", name), text));
    if (!read) this.#tell(this.#count + 1);
  }

  /** Note who has come or left. @param {string} text */
  note(text) {
    this.#append(make("p", "faint", text));
  }

  read() {
    this.#tell(0);
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  clear() {
    this.#list.replaceChildren();
    this.#tell(0);
  }

  /** @param {HTMLElement} line */
  #append(line) {
    this.#list.append(line);
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  /** @param {number} count of unread messages */
  #tell(count) {
    this.#count = count;
    this.#unread.hidden = !count;
    this.#unread.replaceChildren(String(count), make("span", "unseen", " unread"));
  }
}

/** The diagnostics of a call. */
export class Details {
  #facts = element("facts", HTMLDListElement);
  #connections = element("connections", HTMLTableElement).tBodies[0];
  #packets = element("packets", HTMLTableElement).tBodies[0];
  /** @type {WeakMap<HTMLTableRowElement, string[]>} the users a packet is from or for */ #users = new WeakMap();

  clear() {
    this.#packets.replaceChildren();
  }

  /** @param {Packet} packet @param {(user: string) => string} name */
  packet({ sent, size, Header, Payload }, name) {
    const type = Header.Event === "broadcast" ? (kind(Payload) ?? "") : "";
    const words = `${Header.Event}${type && `: ${type}`}`;
    const way = make("span", "", sent ? "→ " : "← ");
    way.setAttribute("aria-hidden", "true");
    const event = make("span", "", way, make("span", "unseen", sent ? "sent " : "received "), words);
    const time = new Date().toTimeString().slice(0, 8);
    const line = row(time, event, "", `${size} B`);
    this.#users.set(line, sent ? [Header.To ?? []].flat() : [Header.UserId]);
    this.#packets.prepend(line);
    this.#packets.rows[PACKETS]?.remove();
    this.name(name);
  }

  /** Update the names of people. @param {(user: string) => string} name */
  name(name) {
    for (const line of this.#packets.rows) {
      line.cells[2].textContent = this.#users.get(line)?.map(name).join(", ") ?? "";
    }
  }

  /** Return everything shown, a line each. */
  report() {
    const facts = [...this.#facts.querySelectorAll("dt")].map(
      (term) => `${term.textContent}: ${term.nextElementSibling?.textContent}`,
    );
    const lines = (/** @type {HTMLTableSectionElement} */ { rows }) =>
      [...rows].map(({ cells }) => [...cells].map((cell) => cell.textContent).join(" | "));
    const parts = [facts, ["Connections", ...lines(this.#connections)], ["Packets", ...lines(this.#packets)]];
    return parts.map((part) => part.join("\n")).join("\n\n");
  }

  /** @param {Record<string, string>} facts */
  tell(facts) {
    const lines = Object.entries(facts).map(([term, fact]) => [make("dt", "", term), make("dd", "", fact)]);
    this.#facts.replaceChildren(...lines.flat());
  }

  /** @param {[Peer, Quality][]} measured @param {(user: string) => string} name */
  measure(measured, name) {
    const rows = measured.map(([peer, quality]) => {
      const ms = quality.roundTrip === null ? "" : `${Math.round(quality.roundTrip)} ms`;
      const flows = [flowOf(quality.sent), flowOf(quality.received)];
      return row(name(peer.user), peer.state, wayOf(quality), ms, ...flows);
    });
    this.#connections.replaceChildren(...rows);
  }
}

/** Return the type of a signal. @param {any} payload @returns {string | undefined} */
function kind(payload) {
  try {
    const { Type } = typeof payload === "string" ? JSON.parse(payload) : payload;
    return typeof Type === "string" ? Type.slice(0, 40) : undefined;
  } catch {
    return undefined; // an application's own text
  }
}

/** @param {(Node | string)[]} cells */
function row(...cells) {
  return make("tr", "", ...cells.map((cell) => make("td", "", cell)));
}

/** @param {Quality} quality */
function wayOf({ path }) {
  return path ? `${path.local} to ${path.remote}, ${path.protocol}` : "none yet";
}

/** @param {Flow} flow */
function flowOf({ bitRate, loss, width, height }) {
  const parts = [];
  if (bitRate !== null) parts.push(`${Math.round(bitRate / 1000)} kbit/s`);
  if (width !== null) parts.push(`${width} x ${height}`);
  if (loss) parts.push(`${Math.round(loss * 100)} % lost`);
  return parts.join(", ");
}

/** The lists of devices to choose from. */
export class Devices {
  #lists = { video: element("cameras", HTMLSelectElement), audio: element("microphones", HTMLSelectElement) };

  /** @param {(kind: "audio" | "video", id: string) => void} chosen */
  constructor(chosen) {
    for (const kind of /** @type {const} */ (["audio", "video"])) {
      const list = this.#lists[kind];
      list.onchange = () => chosen(kind, list.value);
    }
  }

  /** @param {Device[]} devices @param {MediaStream | null} stream with the devices in use */
  show(devices, stream) {
    for (const kind of /** @type {const} */ (["audio", "video"])) {
      const used = stream?.getTracks().find((track) => track.kind === kind)?.getSettings().deviceId;
      const list = this.#lists[kind];
      const own = devices.filter((device) => device.kind === kind);
      const shown = JSON.stringify([own, used]);
      if (list.dataset.shown === shown) continue; // unchanged: do not disturb a choice in progress
      list.dataset.shown = shown;
      list.disabled = own.length < 2;
      const options = own.map(({ id, label }) => {
        const option = make("option", "", label || "Device");
        return Object.assign(option, { value: id, selected: id === used });
      });
      list.replaceChildren(...options);
    }
  }
}
