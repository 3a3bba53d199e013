const ANSWERS = 10; // at once to one member's signals: ten to each of seven members stay within our own rate
const ANSWER_MS = 1_000; // until one more is allowed

/**
 * Holds back one member's signals if we would answer too often: each answer counts towards our own
 * rate. Waiting signals are processed in order; a signal identical to a waiting one is dropped.
 */
export class Pace {
  #left = ANSWERS;
  #at = performance.now();
  /** @type {any} */ #timer = 0;
  /** @type {{text: string, cost: number, take: () => void}[]} */ #held = [];

  /**
   * @param {string} text the signal @param {number} cost number of answers @param {() => void} take
   * @returns {boolean} false if too many wait and this one is lost
   */
  pass(text, cost, take) {
    const held = this.#held;
    if (cost && held.some((one) => one.text === text)) return true;
    if (held.length >= 64) return false; // that many signals of one member wait
    held.push({ text, cost, take });
    if (!this.#timer) this.#go();
    return true;
  }

  /** Forget those that wait. */
  stop() {
    clearTimeout(this.#timer);
    this.#held.length = 0;
  }

  #go() {
    const now = performance.now();
    this.#left = Math.min(ANSWERS, this.#left + (now - this.#at) / ANSWER_MS);
    this.#at = now;
    this.#timer = 0;
    for (let [first] = this.#held; first && first.cost <= this.#left; [first] = this.#held) {
      this.#held.shift();
      this.#left -= first.cost;
      first.take();
    }
    if (this.#held.length) this.#timer = setTimeout(() => this.#go(), ANSWER_MS);
  }
}
