/** Broadcasts until the server has them: sent ones first, then those that wait. Bounded, but for what waits. */

const KEPT = 2 ** 20; // characters of what was sent that may have to be sent again
const SEEN = 512; // ids of a user, among which a repeated broadcast is found

/** @typedef {{id: number, header: Record<string, any>, body: string}} Broadcast `id` 0 until it is sent */

export class Outbox {
  /** @type {Broadcast[]} */ #all = [];
  #sent = 0; // of them, from the first
  #size = 0; // of what was sent

  /** @param {object} header @param {string} body */
  push(header, body) {
    this.#all.push({ id: 0, header, body });
  }

  /** The next that is to be sent. @returns {Broadcast | undefined} */
  get next() {
    return this.#all[this.#sent];
  }

  /** Count the next as sent. Of a dead connection no more is lost than the system's buffers take. @param {number} id */
  went(id) {
    const each = this.#all[this.#sent++];
    each.id = id;
    this.#size += each.body.length;
    while (this.#size > KEPT) this.#shift();
  }

  /** Let go of what the server has: all that was sent, up to this one. @param {number} id */
  confirm(id) {
    while (this.#sent && this.#all[0].id <= id) this.#shift();
  }

  /**
   * Send again what was sent from this one on. `doubtful`: some of it may have come; then the others'
   * clients know it by `Again`, the first number that it had.
   * @param {number} id @param {boolean} [doubtful]
   */
  repeat(id, doubtful = false) {
    while (this.#sent && this.#all[this.#sent - 1].id >= id) {
      const each = this.#all[--this.#sent];
      this.#size -= each.body.length;
      if (doubtful) each.header = { Again: each.id, ...each.header };
    }
  }

  clear() {
    this.#all = [];
    this.#sent = this.#size = 0;
  }

  #shift() {
    this.#sent--;
    this.#size -= /** @type {Broadcast} */ (this.#all.shift()).body.length;
  }
}

/** The last numbers of each user's broadcasts, to tell one that is sent again and has come before. */
export class Seen {
  /** @type {Map<string, Set<number>>} */ #ids = new Map();

  /** Tell whether a broadcast has come before, and remember it. @param {string} user @param {any} header */
  before(user, { Id, Again }) {
    if (typeof Id !== "number") return false;
    const ids = this.#ids.get(user) ?? new Set();
    const first = typeof Again === "number" ? Again : Id;
    if (first !== Id && ids.has(first)) return true;
    this.#ids.set(user, ids.add(first));
    if (ids.size > SEEN) ids.delete(/** @type {number} */ (ids.values().next().value));
    return false;
  }

  /** @param {string} [user] all, without */
  forget(user) {
    if (user === undefined) this.#ids.clear();
    else this.#ids.delete(user);
  }
}
