/** An error with the protocol's code: a word, or the number with which a connection was closed. */
export class SignallerError extends Error {
  /**
   * @param {string | number} code
   * @param {string} message
   * @param {boolean} retry whether the same may succeed later
   */
  constructor(code, message, retry = false) {
    super(message);
    this.name = "SignallerError";
    this.code = code;
    this.retry = retry;
  }
}

/** A value that did not get from one end of a call to the other. */
export class TransferError extends Error {
  /** @param {string} code @param {string} user the other end @param {string} message */
  constructor(code, user, message) {
    super(message);
    this.name = "TransferError";
    this.code = code;
    this.user = user;
  }
}
