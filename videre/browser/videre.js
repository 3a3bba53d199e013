/**
 * The browser client of videre-server: calls (`Videre`), and rooms only (`Signaller`).
 *
 * The modules have no dependencies and are served as they are. docs/browser.md is their reference,
 * docs/protocol.md the wire protocol.
 */
import { Videre } from "./videre/call.js";

export { Videre };
export default Videre;
export { SignallerError, TransferError } from "./videre/errors.js";
export { Peer } from "./videre/peer.js";
export { Signaller } from "./videre/signaller.js";
