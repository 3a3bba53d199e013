/** Values of any size over a data channel, in pieces: docs/browser.md, "Data". */

/** @import { Progress, SendOptions } from "../videre.js" */
import { TransferError } from "./errors.js";

export const VERSION = 1;
export const PLAIN = 65_536; // most bytes of a plain message, except to old clients, and of a piece
export const LIMIT = 2 ** 28; // bytes of a value
const TOGETHER = 2 ** 29; // bytes of all values on the way to one peer
const AT_ONCE = 16; // values on the way to one peer
const HEAD = 8; // bytes of a piece's header
const PIECE = 32_768; // bytes of a message: small enough for a slow line to carry several a second
const WINDOW = 2 ** 21; // unacknowledged bytes of one value
const ACK = 2 ** 18; // bytes after which the receiver acknowledges
const BUFFER = 2 ** 19; // bytes that may wait in the channel
const BLOCK = 2 ** 18; // bytes to read from a Blob at once
const PART = 2 ** 20; // bytes to collect before they become a part of a Blob
const NAME = 255; // characters of a name or a type
const KINDS = ["text", "json", "bytes", "blob"];
/** @type {Record<string, string>} */
const REASONS = {
  gone: "The other end has left",
  unsupported: "The other end is too old",
};

/**
 * @typedef {{read(): any, end?: () => void}} Source returns block after block, undefined at the end
 * @typedef {{kind: string, size: number, plain: any, open(): Source, name?: string, mime?: string}} Value
 *   `plain` is the form for a plain message
 * @typedef {{value: Value, options: SendOptions, resolve(): void, reject(error: Error): void, id: number,
 *   sent: number, acked: number, source?: Source, block: Uint8Array, from: number}} Sending `Transfers` sets
 *   `id` and what follows it
 * @typedef {{id: number, kind: string, size: number, name?: string, mime?: string, bytes: number,
 *   acked: number, whole: Uint8Array<ArrayBuffer>, at: number, parts: Blob[]}} Coming `at` is the place of the next
 *   byte in `whole`, which holds all of the value or the current part of it
 */

/** @param {string} code @param {string} user @param {string} [why] */
export function failure(code, user, why) {
  return new TransferError(code, user, `${REASONS[code] ?? code}${why ? `: ${why}` : ""}`);
}

/** Return the form in which to send a value; throw a TypeError if it has none. @param {any} data @returns {Value} */
export function valueOf(data) {
  if (globalThis.Blob && data instanceof Blob) {
    // A cut must not divide a character.
    const name = /** @type {File} */ (data).name?.slice(0, NAME).replace(/[\ud800-\udbff]$/, "");
    const open = () => streamed(data.stream());
    return { kind: "blob", size: data.size, plain: data, open, name, mime: data.type.slice(0, NAME) };
  }
  if (data instanceof ArrayBuffer || ArrayBuffer.isView(data)) {
    const { buffer = data, byteOffset, byteLength } = /** @type {any} */ (data);
    return ofBytes("bytes", data, new Uint8Array(buffer, byteOffset, byteLength));
  }
  const kind = typeof data === "string" ? "text" : "json";
  const text = kind === "text" || typeof data === "bigint" ? data : JSON.stringify(data);
  if (typeof text !== "string") throw new TypeError("Videre.send: data takes a string, bytes, a Blob or a JSON value");
  return ofBytes(kind, text, new TextEncoder().encode(text));
}

/** @param {string} kind @param {any} plain @param {Uint8Array} bytes @returns {Value} */
function ofBytes(kind, plain, bytes) {
  return { kind, size: bytes.length, plain, open: () => ({ read: () => bytes }) };
}

/**
 * Read a stream, reusing one buffer if the browser supports that. Reading a Blob's slices one by one
 * would keep the memory of each until garbage collection.
 * @param {ReadableStream} stream @returns {Source}
 */
function streamed(stream) {
  /** @type {any} */
  let reader;
  let buffer = new ArrayBuffer(BLOCK);
  try {
    reader = stream.getReader({ mode: "byob" });
  } catch {
    reader = stream.getReader();
  }
  const read = async () => {
    const { value } = await reader.read(new Uint8Array(buffer));
    if (value) ({ buffer } = value);
    return value;
  };
  return { read, end: () => void reader.cancel().catch(() => {}) };
}

/** The transfers with one other end, in both directions. */
export class Transfers {
  #channel;
  #user;
  #limit;
  #message = new Uint8Array(PIECE); // reused: the channel copies it
  #piece = PIECE - HEAD;
  #tell;
  #id = 0; // of our last transfer
  /** @type {Sending[]} */ #waiting = [];
  /** @type {Map<number, Sending>} */ #active = new Map();
  #pumping = false;
  #last = 0; // the id of the other's last transfer
  /** @type {Map<number, Coming>} */ #coming = new Map();

  /**
   * @param {RTCDataChannel} channel @param {string} user @param {number} limit bytes of the largest value to accept
   * @param {(type: string, detail: any) => void} tell emits an event
   */
  constructor(channel, user, limit, tell) {
    this.#channel = channel;
    this.#user = user;
    this.#limit = Math.min(limit, LIMIT);
    this.#tell = tell;
    channel.bufferedAmountLowThreshold = BUFFER / 2;
    channel.onmessage = ({ data }) => (typeof data === "string" ? this.#control(data) : this.#take(data));
  }

  /** Send a value. @param {Sending} each @param {number} most bytes of a message, at most */
  send(each, most) {
    this.#piece = Math.min(PIECE, most) - HEAD;
    const acked = each.value.size ? 0 : -1; // so that the 0 of an empty value acknowledges something
    this.#waiting.push(Object.assign(each, { sent: 0, acked, block: new Uint8Array(), from: 0 }));
    this.#pump();
  }

  /** End all transfers. */
  close() {
    for (const each of [...this.#active.values(), ...this.#waiting]) this.fail(each, "gone");
    for (const id of [...this.#coming.keys()]) this.#lose(id, "gone");
    this.#channel.onbufferedamountlow?.(/** @type {any} */ (undefined));
  }

  // Sending.

  async #pump() {
    if (this.#pumping) return;
    this.#pumping = true;
    for (let busy = true; busy; ) {
      this.#start();
      busy = false;
      for (const each of [...this.#active.values()]) {
        if (each.sent === each.value.size || each.sent - each.acked >= WINDOW) continue;
        busy = true;
        await this.#room();
        await this.#next(each);
      }
    }
    this.#pumping = false;
  }

  #start() {
    let together = 0;
    for (const { value } of this.#active.values()) together += value.size;
    while (this.#waiting.length && this.#active.size < AT_ONCE) {
      const { kind: Kind, size: Size, name: Name, mime: Mime } = this.#waiting[0].value;
      together += Size;
      if (together > TOGETHER) return;
      const each = /** @type {Sending} */ (this.#waiting.shift());
      each.id = ++this.#id;
      this.#active.set(each.id, each);
      this.#say({ Type: "Start", Id: each.id, Kind, Size, Name, Mime: Mime || undefined });
    }
  }

  /** Wait until the channel accepts more. */
  async #room() {
    while (this.#channel.readyState === "open" && this.#channel.bufferedAmount > BUFFER) {
      await new Promise((resolve) => (this.#channel.onbufferedamountlow = resolve));
    }
  }

  /** Send one piece. @param {Sending} each */
  async #next(each) {
    const { value, sent } = each;
    try {
      if (sent >= each.from + each.block.length) {
        each.source ??= value.open();
        each.block = (await each.source.read()) ?? new Uint8Array();
        each.from = sent;
      }
    } catch (error) {
      return this.fail(each, "unreadable", String(error));
    }
    if (!this.#active.has(each.id)) return;
    const most = Math.min(this.#piece, value.size - sent);
    const bytes = each.block.subarray(sent - each.from, sent - each.from + most);
    if (!bytes.length) return this.fail(each, "unreadable"); // the file was truncated
    const head = new DataView(this.#message.buffer);
    head.setUint32(0, each.id);
    head.setUint32(4, sent);
    this.#message.set(bytes, HEAD);
    try {
      this.#channel.send(this.#message.subarray(0, HEAD + bytes.length));
    } catch (error) {
      return this.fail(each, "gone", String(error));
    }
    each.sent += bytes.length;
  }

  /**
   * End a transfer with an error; the `Peer` may still hold it.
   * @param {Sending} each @param {string} code @param {string} [why]
   */
  fail(each, code, why) {
    if (code !== "gone" && this.#active.has(each.id)) this.#say({ Type: "Cancel", Id: each.id });
    this.#over(each);
    each.reject(failure(code, this.#user, why));
  }

  /** @param {Sending} each */
  #over(each) {
    this.#active.delete(each.id);
    this.#waiting = this.#waiting.filter((other) => other !== each);
    each.source?.end?.();
    this.#pump();
  }

  /** @param {any} ack */
  #acked({ Id, Bytes }) {
    const each = this.#active.get(Id);
    if (!each) return this.#foreign(Id, this.#id, "Ack");
    const { size } = each.value;
    if (!Number.isInteger(Bytes) || Bytes <= each.acked || Bytes > each.sent) return this.#ignore("wrong Ack");
    each.acked = Bytes;
    advance(each.options, { user: this.#user, bytes: Bytes, size });
    if (Bytes < size) return void this.#pump();
    this.#over(each);
    each.resolve();
  }

  /** @param {any} refusal */
  #refused({ Id, Code }) {
    const each = this.#active.get(Id);
    if (!each) return this.#foreign(Id, this.#id, "Refuse");
    this.#over(each);
    each.reject(failure(typeof Code === "string" ? Code.slice(0, 40) : "refused", this.#user));
  }

  // Receiving.

  /** @param {string} text */
  #control(text) {
    const said = text.length <= 4_096 ? parsed(text) : null; // characters
    const type = said?.Type;
    if (type === "Start") this.#begin(said);
    else if (type === "Ack") this.#acked(said);
    else if (type === "Refuse") this.#refused(said);
    else if (type === "Cancel") this.#cancelled(said);
    else this.#ignore("wrong text");
  }

  /** @param {any} start */
  #begin({ Id, Kind, Size, Name, Mime }) {
    if (Id !== Id >>> 0 || Id <= this.#last) return this.#ignore("wrong Start"); // it has 32 bits
    this.#last = Id;
    const words = [Name, Mime].every(
      (each) => each === undefined || (Kind === "blob" && typeof each === "string" && each.length <= NAME),
    );
    if (!(words && KINDS.includes(Kind) && Number.isInteger(Size) && Size >= 0)) return this.#refuse(Id, "malformed");
    let together = Size;
    for (const { size } of this.#coming.values()) together += size;
    if (Size > this.#limit) return this.#refuse(Id, "too-large");
    if (this.#coming.size >= AT_ONCE || together > TOGETHER) return this.#refuse(Id, "too-many");
    let whole;
    try {
      // The system provides the memory only when it is written.
      whole = new Uint8Array(Kind === "blob" ? Math.min(Size, PART) : Size);
    } catch {
      return this.#refuse(Id, "too-large");
    }
    /** @type {Coming} */
    const each = {
      id: Id, kind: Kind, size: Size, name: Name, mime: Mime,
      bytes: 0, acked: 0, whole, at: 0, parts: [],
    };
    this.#coming.set(Id, each);
    this.#progress(each);
    if (!Size && this.#coming.has(Id)) this.#finish(each);
  }

  /** @param {ArrayBuffer} data */
  #take(data) {
    if (data.byteLength <= HEAD || data.byteLength > PLAIN) return this.#ignore("wrong piece");
    const head = new DataView(data);
    const id = head.getUint32(0);
    const each = this.#coming.get(id);
    if (!each) return this.#foreign(id, this.#last, "piece");
    if (head.getUint32(4) !== each.bytes) return this.#refuse(id, "out-of-order");
    const length = data.byteLength - HEAD;
    if (each.bytes + length > each.size) return this.#refuse(id, "too-large");
    this.#keep(each, new Uint8Array(data, HEAD));
    each.bytes += length;
    if (each.bytes === each.size) return this.#finish(each);
    if (each.bytes - each.acked < ACK) return;
    each.acked = each.bytes;
    this.#say({ Type: "Ack", Id: id, Bytes: each.bytes });
    this.#progress(each);
  }

  /** Keep a piece. A full part becomes a Blob, which is not in our memory. @param {Coming} each @param {Uint8Array} bytes */
  #keep(each, bytes) {
    while (bytes.length) {
      const piece = bytes.subarray(0, each.whole.length - each.at);
      each.whole.set(piece, each.at);
      each.at += piece.length;
      bytes = bytes.subarray(piece.length);
      if (each.kind === "blob" && each.at === each.whole.length) {
        each.parts.push(new Blob([each.whole]));
        each.at = 0;
      }
    }
  }

  /** @param {Coming} each */
  #finish(each) {
    const { id, kind, name, mime = "", size: Bytes } = each;
    let data;
    try {
      if (kind === "blob") data = blob([...each.parts, each.whole.subarray(0, each.at)], name, mime);
      else if (kind === "bytes") data = each.whole.buffer;
      else {
        data = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(each.whole);
        if (kind === "json") data = JSON.parse(data);
      }
    } catch {
      return this.#refuse(id, "malformed");
    }
    this.#coming.delete(id);
    this.#say({ Type: "Ack", Id: id, Bytes });
    this.#progress(each);
    this.#tell("message", { user: this.#user, data });
  }

  /** @param {any} end */
  #cancelled({ Id }) {
    if (this.#coming.has(Id)) this.#lose(Id, "cancelled");
    else this.#foreign(Id, this.#last, "Cancel");
  }

  /** @param {number} id @param {string} code */
  #lose(id, code) {
    this.#coming.delete(id);
    this.#tell("error", failure(code, this.#user));
  }

  /** @param {number} Id @param {string} Code */
  #refuse(Id, Code) {
    this.#coming.delete(Id);
    this.#say({ Type: "Refuse", Id, Code });
    if (Code !== "cancelled") this.#tell("error", failure(Code, this.#user));
  }

  /** @param {Coming} each */
  #progress({ id, kind, size, name, mime, bytes }) {
    const refuse = () => this.#coming.has(id) && this.#refuse(id, "cancelled");
    this.#tell("progress", { user: this.#user, kind, size, name, mime, bytes, refuse });
  }

  // Both directions.

  /** @param {object} message */
  #say(message) {
    if (this.#channel.readyState === "open") this.#channel.send(JSON.stringify(message));
  }

  /**
   * Report a message that belongs to no transfer, unless its transfer has just ended.
   * @param {any} id @param {number} last @param {string} what */
  #foreign(id, last, what) {
    if (!(Number.isInteger(id) && id > 0 && id <= last)) this.#ignore(`${what} of no transfer`);
  }

  /** @param {string} reason */
  #ignore(reason) {
    this.#tell("ignored", { user: this.#user, reason });
  }
}

/** Report the progress of a value that is sent. @param {SendOptions} options @param {Progress} progress */
export function advance({ onProgress }, progress) {
  if (onProgress) queueMicrotask(() => onProgress(progress));
}

/** Return the value of a JSON text, undefined if it is none. @param {string} text */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** @param {BlobPart[]} parts @param {string | undefined} name @param {string} type */
function blob(parts, name, type) {
  return name === undefined || !globalThis.File ? new Blob(parts, { type }) : new File(parts, name, { type });
}
