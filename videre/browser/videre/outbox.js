/** Keeps broadcasts until the server has them: first the sent ones (bounded), then those that wait. */

const KEPT = 2 ** 20; // characters of sent broadcasts that are kept to be sent again
const SEEN = 512; // ids to remember for each user, to recognise repeated broadcasts

/** @typedef {{id: number, header: Record<string, any>, body: string}} Broadcast `id` is 0 until it is sent */

export class Outbox {
  /** @type {Broadcast[]} */ #all = [];
  #sent = 0; // how many of them, from the first, were sent
  #size = 0; // characters of the sent ones

  /** @param {object} header @param {string} body */
  push(header, body) {
    this.#all.push({ id: 0, header, body });
  }

  /** The next broadcast to send. @returns {Broadcast | undefined} */
  get next() {
    return this.#all[this.#sent];
  }

  /**
   * Mark the next as sent. Drop the oldest beyond KEPT, which is more than a dead connection loses:
   * what the system's buffers hold.
   * @param {number} id
   */
  went(id) {
    const each = this.#all[this.#sent++];
    each.id = id;
    this.#size += each.body.length;
    while (this.#size > KEPT) this.drop(this.#all[0].id);
  }

  /** Tell whether a broadcast that was sent with this id is kept. @param {any} id */
  holds(id) {
    return this.#all.some((each) => each.id === id);
  }

  /** Drop the broadcasts that the server has: all that were sent, up to this one. @param {number} id */
  confirm(id) {
    while (this.#sent && this.#all[0].id <= id) this.drop(this.#all[0].id);
  }

  /**
   * Send this one and all later ones again. `doubtful`: some may have arrived already; receivers
   * recognise them by `Again`, the id with which they were first sent.
   * @param {number} id @param {boolean} [doubtful]
   */
  repeat(id, doubtful = false) {
    while (this.#sent && this.#all[this.#sent - 1].id >= id) {
      const each = this.#all[--this.#sent];
      this.#size -= each.body.length;
      if (doubtful) each.header = { Again: each.id, ...each.header };
    }
  }

  /** Drop one of those that were sent. @param {any} id */
  drop(id) {
    const index = this.#all.findIndex((each) => each.id === id);
    if (index >= 0 && index < this.#sent) {
      this.#sent--;
      this.#size -= this.#all.splice(index, 1)[0].body.length;
    }
  }
}

/** Remembers the latest ids of each user's broadcasts, to recognise repeated ones. */
export class Seen {
  /** @type {Map<string, Set<number>>} */ #ids = new Map();

  /** Tell whether a broadcast arrived before, and remember it. @param {string} user @param {any} header */
  before(user, { Id, Again }) {
    if (typeof Id !== "number") return false;
    const ids = this.#ids.get(user) ?? new Set();
    const first = typeof Again === "number" ? Again : Id;
    if (first !== Id && ids.has(first)) return true;
    this.#ids.set(user, ids.add(first));
    if (ids.size > SEEN) ids.delete(/** @type {number} */ (ids.values().next().value));
    return false;
  }

  /** @param {string} user */
  forget(user) {
    this.#ids.delete(user);
  }
}
