/** Decides when packets may be sent, so that the server's limits drop none. Times are in ms, by the caller's clock. */

/** @typedef {import("../videre.js").Limits} Limits */

const SHARE = 0.9; // of the server's rates
const BURST_SHARE = 0.75; // of its bursts: packets that are held up on their way arrive together
const LONGEST_MS = 30_000; // pause after a refusal
const LEAST = 0.05; // of its rate, however often it refuses
/** The limits of a server that states none. @type {Limits} */
const DEFAULTS = { PacketsPerSecond: 50, PacketBurst: 200 };

/**
 * @typedef {{counts: 0 | 1, rate: number, least: number, burst: number, level: number}} Bucket `counts`
 *   packets (0) or bytes (1); `rate` is per second, and never below `least`
 */

export class Pacer {
  /** @type {Bucket[]} */ #buckets = [];
  #at = 0; // when the buckets were last filled
  #until = 0; // the end of a pause

  /** Begin a connection with full buckets. @param {Limits | undefined} limits @param {number} now */
  begin(limits, now) {
    const { PacketsPerSecond, PacketBurst, BytesPerSecond, ByteBurst } = limits ?? DEFAULTS;
    this.#buckets = [...made(0, PacketsPerSecond, PacketBurst), ...made(1, BytesPerSecond, ByteBurst)];
    this.#at = now;
    this.#until = 0;
  }

  /** Return the milliseconds until a packet may be sent. @param {number} bytes @param {number} now */
  wait(bytes, now) {
    const seconds = Math.max(0, now - this.#at) / 1000;
    this.#at = now;
    let wait = this.#until - now;
    for (const bucket of this.#buckets) {
      bucket.level = Math.min(bucket.burst, bucket.level + seconds * bucket.rate);
      // A packet that is larger than the bucket waits for a full one.
      const lacking = Math.min([1, bytes][bucket.counts], bucket.burst) - bucket.level;
      wait = Math.max(wait, Math.ceil((lacking / bucket.rate) * 1000));
    }
    return Math.max(0, wait);
  }

  /** Count sent packets, or bytes alone. @param {number} bytes @param {number} packets */
  take(bytes, packets) {
    for (const bucket of this.#buckets) bucket.level -= [packets, bytes][bucket.counts];
  }

  /** Send nothing until then. @param {number} until */
  pause(until) {
    this.#until = Math.max(this.#until, until);
  }

  /** Pause until the server's own buckets are full again, then send at half the rate. @param {number} now */
  refused(now) {
    const fill = this.#buckets.map(({ burst, rate }) => ((burst * SHARE) / (rate * BURST_SHARE)) * 1000);
    this.pause(now + Math.min(LONGEST_MS, Math.max(1000, ...fill)));
    for (const bucket of this.#buckets) {
      // One of the server's is empty, and until all are full it drops packets silently.
      bucket.rate = Math.max(bucket.least, bucket.rate / 2);
      bucket.level = 0;
    }
  }
}

/**
 * Make a bucket, if there is a limit.
 * @param {0 | 1} counts @param {number | null | undefined} rate @param {number | null | undefined} burst
 * @returns {Bucket[]}
 */
function made(counts, rate, burst) {
  if (!rate) return [];
  const level = Math.max(1, (burst ?? rate) * BURST_SHARE);
  return [{ counts, rate: rate * SHARE, least: rate * LEAST, burst: level, level }];
}
