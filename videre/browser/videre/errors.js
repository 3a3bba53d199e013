/** An error with a code of the protocol: a word, or the number of a close. */
export class SignallerError extends Error {
  /**
   * @param {string | number} code
   * @param {string} message
   * @param {boolean} retry whether trying again later may help
   */
  constructor(code, message, retry = false) {
    super(message);
    this.name = "SignallerError";
    this.code = code;
    this.retry = retry;
  }
}

export function unwanted() {
  return new SignallerError("left", "No longer wanted");
}

/** A value did not arrive at the other end of a call. */
export class TransferError extends Error {
  /** @param {string} code @param {string} user the other end @param {string} message */
  constructor(code, user, message) {
    super(message);
    this.name = "TransferError";
    this.code = code;
    this.user = user;
  }
}
