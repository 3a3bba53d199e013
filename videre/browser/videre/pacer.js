/** Says when packets may go, so that the server's limits drop none. Milliseconds, by a clock that is given. */

/** @typedef {import("../videre.js").Limits} Limits */

const SHARE = 0.9; // of what the server allows: packets that bunch on their way still pass
const LONGEST_MS = 30_000; // to wait after a refusal
/** What a server allows that does not say. @type {Limits} */
const DEFAULTS = { PacketsPerSecond: 50, PacketBurst: 200, BytesPerSecond: null, ByteBurst: null };

class Bucket {
  /** @param {number} rate a second @param {number} burst */
  constructor(rate, burst) {
    this.rate = rate;
    this.burst = burst;
    this.level = burst;
  }
}

export class Pacer {
  /** @type {[packets: Bucket | null, bytes: Bucket | null]} */ #buckets = [null, null];
  #at = 0; // the time that the buckets are filled up to
  #until = 0; // when a pause is over

  /** Begin a connection: all may be used. @param {Limits | undefined} limits @param {number} now */
  begin(limits, now) {
    const { PacketsPerSecond, PacketBurst, BytesPerSecond, ByteBurst } = { ...DEFAULTS, ...limits };
    this.#buckets = [made(PacketsPerSecond, PacketBurst), made(BytesPerSecond, ByteBurst)];
    this.#at = now;
    this.#until = 0;
  }

  /** Return after how many milliseconds a packet may go. @param {number} bytes @param {number} now */
  wait(bytes, now) {
    const seconds = Math.max(0, now - this.#at) / 1000;
    this.#at = now;
    let wait = this.#until - now;
    [1, bytes].forEach((amount, index) => {
      const bucket = this.#buckets[index];
      if (!bucket) return;
      bucket.level = Math.min(bucket.burst, bucket.level + seconds * bucket.rate);
      const lacking = Math.min(amount, bucket.burst) - bucket.level; // a large one waits for a full bucket
      wait = Math.max(wait, Math.ceil((lacking / bucket.rate) * 1000));
    });
    return Math.max(0, wait);
  }

  /** Count a packet that goes. @param {number} bytes */
  take(bytes) {
    [1, bytes].forEach((amount, index) => {
      const bucket = this.#buckets[index];
      if (bucket) bucket.level -= amount;
    });
  }

  /** Pause until the server's own buckets are full again, and go slower then. @param {number} now */
  refused(now) {
    const fill = this.#buckets.map((bucket) => (bucket ? (bucket.burst / bucket.rate) * 1000 : 0));
    this.#until = now + Math.min(LONGEST_MS, Math.max(1000, ...fill));
    for (const bucket of this.#buckets) if (bucket) bucket.rate /= 2;
  }
}

/** @param {number | null | undefined} rate @param {number | null | undefined} burst */
function made(rate, burst) {
  return rate ? new Bucket(rate * SHARE, Math.max(1, (burst ?? rate) * SHARE)) : null;
}
