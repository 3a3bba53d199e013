/** Return a random name. Not by randomUUID, which pages without TLS do not have. */
export const random = () =>
  Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => (byte % 36).toString(36)).join("");
