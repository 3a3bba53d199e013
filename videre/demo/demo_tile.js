/**
 * People's tiles, and the grid of them.
 *
 * @typedef {import("./videre.js").Quality} Quality
 * @typedef {{name: string, microphone: boolean, camera: boolean, screen: boolean}} About what a
 *   person tells the others
 */
import { icon, make } from "./demo_elements.js";

const SHAPE = 4 / 3; // of a common camera
const SPEAKS = 0.02; // the volume of somebody who speaks, at least
/** The connection's marks, best first: round trips in ms (twice the delays of ITU-T G.114), lost shares. */
const MARKS = [
  { mark: "good", roundTrip: 300, loss: 0.02 },
  { mark: "weak", roundTrip: 800, loss: 0.08 },
  { mark: "poor", roundTrip: Infinity, loss: 1 },
];

/** One person: the picture, or without one the first letter of the name. */
export class Tile {
  video = document.createElement("video");
  wasConnected = false;
  #microphone = false; // whether it is on
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
    this.#microphone = microphone;
    if (!microphone) this.level = 0;
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

  /** Show a ring around somebody who speaks. @param {number} level of the voice, from 0 to 1 */
  set level(level) {
    this.element.classList.toggle("speaks", this.#microphone && level > SPEAKS);
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
