/** The panels at the side, and the chat in one of them. */
import { element, make } from "./demo_elements.js";

const MAX_LINES = 500; // of the chat: others may send without end

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
    if (this.#list.childElementCount > MAX_LINES) this.#list.firstElementChild?.remove();
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  /** @param {number} count of unread messages */
  #tell(count) {
    this.#count = count;
    this.#unread.hidden = !count;
    this.#unread.replaceChildren(String(count), make("span", "unseen", " unread"));
  }
}
