/** The form of a call's signals: docs/browser.md, "On the wire". */

const TYPES = ["Ice Offer", "Ice Answer", "Ice Candidate", "Ice Ask", "Ice Turn"];

/** Tell whether a payload is a well-formed signal; null if it is not a signal at all. @param {any} payload @returns {boolean | null} */
export function isSignal(payload) {
  const type = payload?.Type;
  if (!TYPES.includes(type)) return null;
  const { Call, Offer, Turn, Data, IcePacket } = payload;
  // The name of a call has up to 128 characters.
  if (Call !== undefined && !(typeof Call === "string" && Call && Call.length <= 128)) return false;
  if (![Offer, Turn, Data].every((each = 0) => Number.isInteger(each) && each >= 0)) return false;
  if (/Offer|Answer/.test(type)) {
    return IcePacket?.type === type.slice(4).toLowerCase() && typeof IcePacket.sdp === "string";
  }
  return type !== "Ice Candidate" || typeof (IcePacket ?? payload).candidate === "string";
}
