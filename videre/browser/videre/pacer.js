/** Decides when packets may be sent, so that the server's limits drop none. Times are in ms, by the caller's clock. */

/** @typedef {import("../videre.js").Limits} Limits */

const SHARE = 0.9; // of the server's limits, so that packets that bunch up on their way still pass
const LONGEST_MS = 30_000; // pause after a refusal
/** The limits of a server that states none. @type {Limits} */
const DEFAULTS = { PacketsPerSecond: 50, PacketBurst: 200 };

/** @typedef {{rate: number, burst: number, level: number}} Bucket `rate` is per second */

export class Pacer {
  /** @type {[packets: Bucket | null, bytes: Bucket | null]} */ #buckets = [null, null];
  #at = 0; // when the buckets were last filled
  #until = 0; // the end of a pause

  /** Begin a connection with full buckets. @param {Limits | undefined} limits @param {number} now */
  begin(limits, now) {
    const { PacketsPerSecond, PacketBurst, BytesPerSecond, ByteBurst } = limits ?? DEFAULTS;
    this.#buckets = [made(PacketsPerSecond, PacketBurst), made(BytesPerSecond, ByteBurst)];
    this.#at = now;
    this.#until = 0;
  }

  /** Return the milliseconds until a packet may be sent. @param {number} bytes @param {number} now */
  wait(bytes, now) {
    const seconds = Math.max(0, now - this.#at) / 1000;
    this.#at = now;
    let wait = this.#until - now;
    [1, bytes].forEach((amount, index) => {
      const bucket = this.#buckets[index];
      if (!bucket) return;
      bucket.level = Math.min(bucket.burst, bucket.level + seconds * bucket.rate);
      const lacking = Math.min(amount, bucket.burst) - bucket.level; // a larger packet waits for a full bucket
      wait = Math.max(wait, Math.ceil((lacking / bucket.rate) * 1000));
    });
    return Math.max(0, wait);
  }

  /** Count sent packets, or bytes alone. @param {number} bytes @param {number} packets */
  take(bytes, packets) {
    [packets, bytes].forEach((amount, index) => {
      const bucket = this.#buckets[index];
      if (bucket) bucket.level -= amount;
    });
  }

  /** Pause until the server's own buckets are full again, then send at half the rate. @param {number} now */
  refused(now) {
    const fill = this.#buckets.map((bucket) => (bucket ? (bucket.burst / bucket.rate) * 1000 : 0));
    this.#until = now + Math.min(LONGEST_MS, Math.max(1000, ...fill));
    for (const bucket of this.#buckets) {
      // One of the server's is empty, and until all are full it drops packets silently.
      if (bucket) Object.assign(bucket, { rate: bucket.rate / 2, level: 0 });
    }
  }
}

/** @param {number | null | undefined} rate @param {number | null | undefined} burst @returns {Bucket | null} */
function made(rate, burst) {
  const level = Math.max(1, (burst ?? rate ?? 0) * SHARE);
  return rate ? { rate: rate * SHARE, burst: level, level } : null;
}
