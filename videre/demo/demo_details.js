/**
 * The diagnostics of a call.
 *
 * @typedef {import("./videre.js").Flow} Flow
 * @typedef {import("./videre.js").Peer} Peer
 * @typedef {import("./videre.js").Quality} Quality
 * @typedef {{sent: boolean, size: number, Header: any, Payload: any}} Packet
 */
import { element, make } from "./demo_elements.js";

const PACKETS = 100; // to show: a machine with many networks has dozens of candidates

/** The diagnostics of a call. */
export class Details {
  #facts = element("facts", HTMLDListElement);
  #connections = element("connections", HTMLTableElement).tBodies[0];
  #packets = element("packets", HTMLTableElement).tBodies[0];
  /** @type {WeakMap<HTMLTableRowElement, string[]>} the users a packet is from or for */ #users = new WeakMap();

  clear() {
    this.#packets.replaceChildren();
  }

  /** Show a packet; `name` names its user. @param {Packet} packet */
  packet({ sent, size, Header, Payload }) {
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
