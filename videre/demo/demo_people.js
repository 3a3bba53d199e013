/**
 * The others in a call: their names and their tiles.
 *
 * @typedef {import("./videre.js").Peer} Peer
 * @typedef {import("./videre.js").Quality} Quality
 */
import { page } from "./demo_page.js";
import { Tile } from "./demo_tile.js";

export const MAX_NAME = 40;
const TURNS = /[\u202a-\u202e\u2066-\u2069]/g; // characters that turn the direction of what follows a name

export class People {
  #tiles = /** @type {Map<string, Tile>} */ (new Map());
  #names = /** @type {Map<string, string>} */ (new Map());

  /** How many there are. */
  get count() {
    return this.#tiles.size;
  }

  /** @param {string} user */
  tile(user) {
    return this.#tiles.get(user);
  }

  /** Return the name to show for another user. @param {string} user */
  nameOf(user) {
    return this.#names.get(user) || `Guest ${user.slice(0, 3).toUpperCase()}`;
  }

  /** Show a tile for somebody with whom a call begins. @param {string} user */
  add(user) {
    const tile = new Tile(false);
    this.#tiles.set(user, tile);
    page.tiles.append(tile.element);
    tile.show({ name: this.nameOf(user), microphone: true, camera: false, screen: false });
  }

  /** Remove a tile. Return the person's name if we knew it. @param {string} user */
  remove(user) {
    this.#tiles.get(user)?.element.remove();
    this.#tiles.delete(user);
    const known = this.#names.has(user) && this.nameOf(user);
    this.#names.delete(user);
    return known;
  }

  /** Show what somebody has told us. Return whether it is the first time. @param {string} user @param {any} about */
  learn(user, about) {
    const [microphone, camera, screen] = [!!about.microphone, !!about.camera, !!about.screen];
    const first = !this.#names.has(user);
    const name = typeof about.name === "string" ? about.name.replace(TURNS, "").trim() : "";
    this.#names.set(user, name.slice(0, MAX_NAME));
    this.#tiles.get(user)?.show({ name: this.nameOf(user), microphone, camera, screen });
    return first;
  }

  /** Show the state of a connection. @param {Peer} peer */
  connects({ user, state }) {
    const tile = this.#tiles.get(user);
    if (!tile) return;
    tile.wasConnected ||= state === "connected";
    if (state === "connected") tile.trouble = "";
    else if (tile.wasConnected) tile.trouble = "Reconnecting";
    else if (state !== "failed") tile.trouble = "Connecting";
    else tile.trouble = "No route found yet. The networks between you may need a TURN server.";
  }

  /** Whether one of these had a connection and has lost it. @param {Peer[]} peers */
  hasLost(peers) {
    return peers.some(({ user, state }) => state !== "connected" && this.#tiles.get(user)?.wasConnected);
  }

  /** Play all their sound, after a click. */
  play() {
    this.#tiles.forEach((tile) => tile.play());
  }

  /** @param {[Peer, Quality][]} measured */
  mark(measured) {
    for (const [{ user, state }, quality] of measured) this.#tiles.get(user)?.mark(state, quality);
  }

  clear() {
    this.#tiles.clear();
  }
}
