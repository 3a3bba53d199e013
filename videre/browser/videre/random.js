/** Return a random name. Pages without TLS have no randomUUID. */
export const random = () =>
  [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => (byte % 36).toString(36)).join("");
