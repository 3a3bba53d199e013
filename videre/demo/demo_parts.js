/**
 * What the demo's page is made of: tiles of people, panels, the chat, the diagnostics.
 *
 * What others send is only ever shown as text.
 *
 * @typedef {import("./videre.js").Device} Device
 * @typedef {import("./videre.js").Flow} Flow
 * @typedef {import("./videre.js").Peer} Peer
 * @typedef {import("./videre.js").Quality} Quality
 * @typedef {{name: string, microphone: boolean, camera: boolean, screen: boolean}} About what people
 *   tell of themselves
 * @typedef {{sent: boolean, size: number, Header: any, Payload: any}} Packet
 */

const PACKETS = 40; // that are shown
const SHAPE = 4 / 3; // of a common camera
const SPEAKS = 0.02; // the level from which somebody does

/**
 * @template {Element} T
 * @param {string} id @param {new () => T} type what it must be @returns {T}
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
 * Give a button of the tools another icon and other words.
 * @param {HTMLElement} button @param {string} name of the icon @param {string} words
 */
export function relabel(button, name, words) {
  button.querySelector("use")?.setAttribute("href", `#${name}`);
  button.querySelector("span")?.replaceChildren(words);
}

/** One person: the picture, or where there is none the first letter of the name. */
export class Tile {
  video = document.createElement("video");
  wasConnected = false;
  #caption = make("p", "caption");
  #letter = make("span");
  #trouble = make("p", "trouble");

  /** @param {boolean} own */
  constructor(own) {
    this.video.autoplay = this.video.playsInline = true;
    this.video.muted = own;
    this.video.setAttribute("aria-hidden", "true"); // the caption says who it is
    const face = make("div", "face", this.#letter);
    face.setAttribute("aria-hidden", "true");
    const parts = [this.video, face, this.#caption, this.#trouble];
    this.element = make("li", own ? "tile self" : "tile", ...parts);
  }

  /** @param {About} about */
  show({ name, microphone, camera, screen }) {
    this.name = name;
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

  /** @param {number} level of the voice, from 0 to 1 */
  set level(level) {
    this.element.classList.toggle("speaks", level > SPEAKS);
  }

  /** @param {string} words that lie over the picture, "" for none */
  set trouble(words) {
    if (this.#trouble.textContent !== words) this.#trouble.textContent = words;
  }

  /**
   * @param {MediaProvider | null} [stream] the one that it has, unless given
   * @param {() => void} [blocked] called if the browser does not let it be heard yet
   */
  play(stream = this.video.srcObject, blocked = () => {}) {
    if (this.video.srcObject !== stream) this.video.srcObject = stream;
    this.video.play().catch(({ name }) => name === "NotAllowedError" && blocked());
  }
}

/**
 * Give tiles as much room as there is.
 * @param {HTMLElement} list @param {number} count of those in the grid
 */
export function arrange(list, count) {
  const { clientWidth: width, clientHeight: height } = list;
  let [columns, best] = [1, 0];
  for (let tried = 1; tried <= count; tried++) {
    const size = Math.min(width / tried, (height / Math.ceil(count / tried)) * SHAPE);
    if (size > best) [columns, best] = [tried, size];
  }
  list.style.setProperty("--columns", String(columns));
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

  /** Close what is open, and go back to its button. */
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

/** The list of what was said. */
export class Chat {
  #list = element("messages", HTMLDivElement);
  #unread = element("unread", HTMLElement);
  #count = 0;

  /** @param {string} name @param {string} text @param {boolean} read */
  add(name, text, read) {
    this.#append(make("p", "", make("b", "", name), text));
    if (!read) this.#tell(this.#count + 1);
  }

  /** Say who came and who went. @param {string} text */
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

  /** @param {number} count of what was not read yet */
  #tell(count) {
    this.#count = count;
    this.#unread.hidden = !count;
    this.#unread.replaceChildren(String(count), make("span", "unseen", " unread"));
  }
}

/** What goes on behind the call. */
export class Details {
  #facts = element("facts", HTMLDListElement);
  #connections = element("connections", HTMLTableElement).tBodies[0];
  #packets = element("packets", HTMLTableElement).tBodies[0];
  /** @type {WeakMap<HTMLTableRowElement, string[]>} whom a packet is from or for */ #users = new WeakMap();

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

  /** Name people by what is known of them now. @param {(user: string) => string} name */
  name(name) {
    for (const line of this.#packets.rows) {
      line.cells[2].textContent = this.#users.get(line)?.map(name).join(", ") ?? "";
    }
  }

  /** @param {Record<string, string>} facts */
  tell(facts) {
    const lines = Object.entries(facts).map(([term, fact]) => [make("dt", "", term), make("dd", "", fact)]);
    this.#facts.replaceChildren(...lines.flat());
  }

  /** @param {Peer[]} peers @param {(user: string) => string} name */
  async measure(peers, name) {
    const rows = peers.map(async (peer) => {
      const quality = await peer.quality();
      const ms = quality.roundTrip === null ? "" : `${Math.round(quality.roundTrip)} ms`;
      const flows = [flowOf(quality.sent), flowOf(quality.received)];
      return row(name(peer.user), peer.state, wayOf(quality), ms, ...flows);
    });
    const measured = await Promise.all(rows);
    this.#connections.replaceChildren(...measured);
  }
}

/** What a signal is. @param {any} payload @returns {string | undefined} */
function kind(payload) {
  try {
    const { Type } = typeof payload === "string" ? JSON.parse(payload) : payload;
    return typeof Type === "string" ? Type.slice(0, 40) : undefined;
  } catch {
    return undefined; // somebody's own words
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

/** The devices to choose from. */
export class Devices {
  #lists = { video: element("cameras", HTMLSelectElement), audio: element("microphones", HTMLSelectElement) };

  /** @param {(kind: "audio" | "video", id: string) => void} chosen */
  constructor(chosen) {
    for (const kind of /** @type {const} */ (["audio", "video"])) {
      const list = this.#lists[kind];
      list.onchange = () => chosen(kind, list.value);
    }
  }

  /** @param {Device[]} devices @param {MediaStream | null} stream what is in use of them */
  show(devices, stream) {
    for (const kind of /** @type {const} */ (["audio", "video"])) {
      const used = stream?.getTracks().find((track) => track.kind === kind)?.getSettings().deviceId;
      const list = this.#lists[kind];
      const own = devices.filter((device) => device.kind === kind);
      const shown = JSON.stringify([own, used]);
      if (list.dataset.shown === shown) continue; // somebody may be choosing just now
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
