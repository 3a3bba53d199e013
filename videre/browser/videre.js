/**
 * The browser client of videre-server: calls (`Videre`), and rooms alone (`Signaller`).
 *
 * Modules without dependencies, as they are served. docs/browser.md is their reference, and
 * docs/protocol.md what goes over the wire.
 */
import { Videre } from "./videre/call.js";

export { Videre };
export default Videre;
export { SignallerError, TransferError } from "./videre/errors.js";
export { Peer } from "./videre/peer.js";
export { Signaller } from "./videre/signaller.js";
