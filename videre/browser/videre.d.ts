/** The browser client of videre-server. Its reference is docs/browser.md of that project. */

/** A listener for one of a class's events. */
type Listener<Events, Name extends keyof Events> = (detail: Events[Name]) => void;

/** An EventTarget whose events have a typed `detail`, but are no instances of CustomEvent. */
declare class Emitter<Events> {
  /** Listen to an event; the listener gets only the detail. */
  on<Name extends keyof Events>(type: Name, listener: Listener<Events, Name>): this;
  addEventListener<Name extends keyof Events>(
    type: Name,
    listener: ((event: CustomEvent<Events[Name]>) => void) | { handleEvent(event: CustomEvent<Events[Name]>): void } | null,
    options?: boolean | AddEventListenerOptions,
  ): void;
  removeEventListener<Name extends keyof Events>(
    type: Name,
    listener: ((event: CustomEvent<Events[Name]>) => void) | { handleEvent(event: CustomEvent<Events[Name]>): void } | null,
    options?: boolean | EventListenerOptions,
  ): void;
  dispatchEvent(event: Event): boolean;
}

export interface IceServer {
  urls: string | string[];
  username?: string;
  credential?: string;
}

/** The rates at which a session may send; null for no limit. */
export interface Limits {
  PacketsPerSecond?: number | null;
  PacketBurst?: number | null;
  BytesPerSecond?: number | null;
  ByteBurst?: number | null;
}

/** The server's welcome: docs/protocol.md, 3.1. */
export interface Welcome {
  Initiator: string;
  Users: string[];
  Resume: string | null;
  Grace: number;
  Resumed?: boolean;
  LastId?: number | null;
  IceServers: IceServer[];
  IceTtl: number | null;
  Limits?: Limits;
}

export type State = "closed" | "connecting" | "joined" | "waiting";
export type Token = string | null | undefined;
export type TokenSource = Token | ((who: { room: string; user: string }) => Token | Promise<Token>);
export type Kind = "audio" | "video";
/** A value that JSON can represent. */
export type Json = string | number | boolean | null | readonly Json[] | { readonly [key: string]: Json | undefined };

/** A packet's header; members may add keys of their own. */
export interface Header {
  Event: string;
  UserId: string;
  RoomId: string;
  Id?: string | number;
  To?: string | string[];
  [key: string]: unknown;
}

/** An error with a code of the protocol: a word, or the number of a close. */
export declare class SignallerError extends Error {
  constructor(code: string | number, message: string, retry?: boolean);
  readonly name: "SignallerError";
  code: string | number;
  /** Whether trying again later may help. */
  retry: boolean;
}

/** A value did not arrive at the other end of a call. */
export declare class TransferError extends Error {
  constructor(code: string, user: string, message: string);
  readonly name: "TransferError";
  code: string;
  /** The other end. */
  user: string;
}

export interface SignallerOptions {
  /** The server's prefix, absolute or relative to the page; a query goes with every request. */
  url: string | URL;
  /** The user's name in the room; random by default. */
  user?: string | null;
  token?: TokenSource;
  /** Returns additional keys for the header of `connect`, which the others see. */
  header?: (() => object) | null;
  /** Milliseconds: the longest random wait before the first attempt to reconnect, and before any. */
  minDelay?: number;
  maxDelay?: number;
  /** Milliseconds between pings. */
  heartbeat?: number;
}

export interface SignallerEvents {
  joined: { user: string; header: Header };
  left: { user: string };
  /** A broadcast. Do not trust its payload: another member wrote it. */
  message: { user: string; payload: any; header: Header };
  role: { user: string; isInitiator: boolean };
  state: State;
  resumed: Welcome;
  rejoined: Welcome;
  error: SignallerError;
  /** Null after `leave`. */
  closed: SignallerError | null;
  packet: { sent: boolean; size: number; Header: Header; Payload: any };
}

/** A seat in a room, which the client resumes after a lost connection. */
export declare class Signaller extends Emitter<SignallerEvents> {
  constructor(options: SignallerOptions);
  room: string | null;
  user: string;
  /** The users in the room, in joining order. */
  users: string[];
  initiator: string | null;
  readonly isInitiator: boolean;
  iceServers: IceServer[];
  state: State;
  /** Enter a room, and leave any other. Rejects with the server's refusal, a SignallerError. */
  join(room: string): Promise<Welcome>;
  /** Leave the room and close the connection. */
  leave(): void;
  /** Send to all other members, or to those in `to`, now or on the next connection. Throws a SignallerError if in no room. */
  broadcast(payload: Json | object, options?: { to?: string | string[] }): void;
  /** Resolves to the users in the room, in joining order; rejects with a SignallerError without a connection. */
  ping(): Promise<string[]>;
  /** Resolves to fresh ICE servers; rejects with a SignallerError without a connection. */
  ice(): Promise<IceServer[]>;
  /** Check at once whether the connection is alive; without one, reconnect at once. */
  wake(): void;
}

/** A signal of a call: docs/browser.md, "On the wire". */
export interface Signal {
  Type: string;
  IcePacket?: any;
  Call?: string;
  Offer?: number;
  Turn?: number;
  Data?: number;
  candidate?: string;
  sdpMid?: string | null;
  sdpMLineIndex?: number | null;
}

/** What one direction of a call carried since the last measurement; null if unknown. */
export interface Flow {
  /** Bits per second, of sound and pictures. */
  bitRate: number | null;
  /** The share of packets lost, from 0 to 1. */
  loss: number | null;
  width: number | null;
  height: number | null;
  /** Pictures per second. */
  frames: number | null;
}

export interface Quality {
  /** Milliseconds. */
  roundTrip: number | null;
  /** The kinds of candidate ("host", "srflx", "prflx", "relay"), and "udp" or "tcp". */
  path: { local: string | null; remote: string | null; protocol: string | null; relayed: boolean } | null;
  sent: Flow;
  received: Flow;
}

/** The call with one other member, in `videre.peers`. */
export declare class Peer {
  private constructor();
  readonly user: string;
  /** Everything it sends. */
  readonly stream: MediaStream;
  readonly connection: RTCPeerConnection;
  /** The data channels for plain messages and for transfers; null with an old client. */
  readonly channel: RTCDataChannel | null;
  readonly data: RTCDataChannel | null;
  readonly state: RTCPeerConnectionState;
  /** Its current volume, from 0 to 1. */
  readonly level: number;
  /** Measure the call since the previous call of this. */
  quality(): Promise<Quality>;
  /** Restart ICE, to find another route. */
  restart(): void;
}

export interface Device {
  kind: Kind | "output";
  id: string;
  /** Empty until the user has allowed the page a device of this kind. */
  label: string;
  group: string;
}

export type Data = Json | object | ArrayBuffer | ArrayBufferView | Blob;

export interface Progress {
  user: string;
  /** The bytes of the value that have arrived. */
  bytes: number;
  size: number;
}

export interface SendOptions {
  onProgress?: (progress: Progress) => void;
  /** Cancels the transfer. */
  signal?: AbortSignal;
}

/** The outcome of a `send`. */
export interface Sent {
  delivered: string[];
  failed: { user: string; error: TransferError }[];
}

export interface VidereOptions {
  /** The server's prefix, absolute or relative to the page; a query goes with every request. */
  signallerURL: string | URL;
  localVideoElement?: HTMLMediaElement | null;
  remoteVideoElement?: HTMLMediaElement | null;
  initComplete?: (() => void) | null;
  userId?: string | null;
  token?: TokenSource;
  /** The media to request, `false` for none; camera and microphone by default. */
  constraints?: MediaStreamConstraints | false | null;
  configuration?: RTCConfiguration | null;
  /** Milliseconds between `level` events; 0, the default, for none. */
  levels?: number | null;
  /** Bytes of the largest value to accept; 256 MiB by default. */
  maxTransferBytes?: number | null;
}

export interface VidereEvents {
  call: Peer;
  stream: Peer;
  connection: Peer;
  hangup: Peer;
  /** Bytes are an ArrayBuffer, files a Blob or File. Do not trust the data: another member sent it. */
  message: { user: string; data: any };
  /** An incoming transfer. */
  progress: Progress & { kind: "text" | "json" | "bytes" | "blob"; name?: string; mime?: string; refuse(): void };
  /** A malformed signal or message of a transfer, or a signal too many. */
  ignored: { user: string; reason: string };
  level: { user: string; level: number };
  /** One of our tracks ended by itself. */
  ended: { kind: Kind; track: MediaStreamTrack };
  /** The client switched to another device. */
  device: { kind: Kind; track: MediaStreamTrack };
  error: Error;
}

/** A call with everybody in a room. */
export declare class Videre extends Emitter<VidereEvents> {
  constructor(options: VidereOptions);
  readonly peers: Map<string, Peer>;
  readonly signaller: Signaller;
  /** Set it before `connect`, and no camera or microphone is requested. */
  localStream: MediaStream | null;
  readonly remoteStream: MediaStream | null;
  roomId: string | null;
  readonly userId: string;
  readonly isInitiator: boolean;
  muted: boolean;
  videoMuted: boolean;
  onLocalStream: (stream: MediaStream) => void;
  onRemoteStream: (stream: MediaStream, user: string) => void;
  onVideoError: (error: any) => void;
  onAudioError: (error: any) => void;
  /** Resolves to the welcome, or to null if `disconnect` is called first. */
  connect(room: string): Promise<Welcome | null>;
  /** Leave the room, hang up, and stop camera and microphone. */
  disconnect(): void;
  muteMic(): void;
  unmuteMic(): void;
  muteVideo(): void;
  unmuteVideo(): void;
  /**
   * Send a value of up to 256 MiB to everybody, or to those in `to`. Resolves once each of them has
   * it or has failed. A string or bytes of up to 64 KiB count as delivered once they are sent.
   */
  send(data: Data, options?: SendOptions & { to?: string | string[] }): Promise<Sent>;
  /** Show the screen instead of the camera. Rejects if the user denies it. */
  shareScreen(): Promise<MediaStream>;
  stopSharing(): Promise<void> | undefined;
  devices(): Promise<Device[]>;
  /** Switch to another device, or to the default one without `id`, also for later calls. */
  useDevice(kind: Kind, id?: string): Promise<MediaStreamTrack>;
  /** Send this track instead of the device's until it is replaced by null. The caller stops it. */
  replaceTrack(kind: Kind, track: MediaStreamTrack | null): Promise<void>;
}

export default Videre;
export {};
