/** The browser client of videre-server. Its reference is docs/browser.md of that project. */

/** What listeners of a class are called with, by the events' names. */
type Listener<Events, Name extends keyof Events> = (detail: Events[Name]) => void;

/** An EventTarget whose events are CustomEvents with typed details. */
declare class Emitter<Events> {
  /** Hear an event; the listener gets the detail alone. */
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

/** What a session may send, with `null` for no limit. */
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
/** A value that JSON can say. */
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

/** An error with the protocol's code: a word, or the number with which a connection was closed. */
export declare class SignallerError extends Error {
  constructor(code: string | number, message: string, retry?: boolean);
  readonly name: "SignallerError";
  code: string | number;
  /** Whether the same may succeed later. */
  retry: boolean;
}

/** A value that did not get from one end of a call to the other. */
export declare class TransferError extends Error {
  constructor(code: string, user: string, message: string);
  readonly name: "TransferError";
  code: string;
  /** The other end. */
  user: string;
}

export interface SignallerOptions {
  /** The prefix of the signaller, relative to the page or absolute; a query goes with every request. */
  url: string | URL;
  /** One's name in the room; random unless given. */
  user?: string | null;
  token?: TokenSource;
  /** Further keys for the header of `connect`, which the others see. */
  header?: (() => object) | null;
  /** Milliseconds: the bounds of the back-off. */
  minDelay?: number;
  maxDelay?: number;
  /** Milliseconds between pings. */
  heartbeat?: number;
}

export interface SignallerEvents {
  joined: { user: string; header: Header };
  left: { user: string };
  /** A broadcast. Its payload may be anything: another member wrote it. */
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

/** A seat in a room, which is kept when the connection is lost. */
export declare class Signaller extends Emitter<SignallerEvents> {
  constructor(options: SignallerOptions);
  room: string | null;
  user: string;
  /** Who is in the room, in joining order. */
  users: string[];
  initiator: string | null;
  readonly isInitiator: boolean;
  iceServers: IceServer[];
  state: State;
  join(room: string): Promise<Welcome>;
  leave(): void;
  broadcast(payload: Json | object, options?: { to?: string | string[] }): void;
  ping(): Promise<string[]>;
  ice(): Promise<IceServer[]>;
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

/** What one direction of a call carries, since the last measurement; null where that is not known. */
export interface Flow {
  /** Bits a second, of sound and pictures. */
  bitRate: number | null;
  /** The share of packets that were lost, from 0 to 1. */
  loss: number | null;
  width: number | null;
  height: number | null;
  /** Pictures a second. */
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
  /** All that it sends. */
  readonly stream: MediaStream;
  readonly connection: RTCPeerConnection;
  /** The data channel of plain messages, and that of transfers; null with an old client. */
  readonly channel: RTCDataChannel | null;
  readonly data: RTCDataChannel | null;
  readonly state: RTCPeerConnectionState;
  /** How loud it is now, from 0 to 1. */
  readonly level: number;
  quality(): Promise<Quality>;
  /** Find a new way to the other. */
  restart(): void;
}

export interface Device {
  kind: Kind | "output";
  id: string;
  /** Empty until the user has allowed the page a device of the kind. */
  label: string;
  group: string;
}

export type Data = Json | object | ArrayBuffer | ArrayBufferView | Blob;

export interface Progress {
  user: string;
  /** Of the value that have arrived. */
  bytes: number;
  size: number;
}

export interface SendOptions {
  onProgress?: (progress: Progress) => void;
  /** Cancels it. */
  signal?: AbortSignal;
}

/** What came of a `send`. */
export interface Sent {
  delivered: string[];
  failed: { user: string; error: TransferError }[];
}

export interface VidereOptions {
  /** The prefix of the signaller, relative to the page or absolute; a query goes with every request. */
  signallerURL: string | URL;
  localVideoElement?: HTMLMediaElement | null;
  remoteVideoElement?: HTMLMediaElement | null;
  initComplete?: (() => void) | null;
  userId?: string | null;
  token?: TokenSource;
  /** What to ask the user for, `false` for nothing; camera and microphone unless given. */
  constraints?: MediaStreamConstraints | false | null;
  configuration?: RTCConfiguration | null;
  /** Milliseconds between `level` events, 0 (the default) for none. */
  levels?: number | null;
  /** The largest value that is taken, 256 MiB unless given. */
  maxTransferBytes?: number | null;
}

export interface VidereEvents {
  call: Peer;
  stream: Peer;
  connection: Peer;
  hangup: Peer;
  /** Bytes are an ArrayBuffer, files a Blob or File; anything may come, from whom you let in. */
  message: { user: string; data: any };
  /** A transfer that comes. */
  progress: Progress & { kind: "text" | "json" | "bytes" | "blob"; name?: string; mime?: string; refuse(): void };
  /** What was no message of ours. */
  ignored: { user: string; reason: string };
  level: { user: string; level: number };
  /** A track of ours has ended by itself. */
  ended: { kind: Kind; track: MediaStreamTrack };
  /** A device is used in place of another. */
  device: { kind: Kind; track: MediaStreamTrack };
  error: Error;
}

/** A call with everybody in a room. */
export declare class Videre extends Emitter<VidereEvents> {
  constructor(options: VidereOptions);
  readonly peers: Map<string, Peer>;
  readonly signaller: Signaller;
  /** May be set before `connect`, which else asks for one. */
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
  /** The welcome, or null where `disconnect` came first. */
  connect(room: string): Promise<Welcome | null>;
  disconnect(): void;
  muteMic(): void;
  unmuteMic(): void;
  muteVideo(): void;
  unmuteVideo(): void;
  send(data: Data, options?: SendOptions & { to?: string | string[] }): Promise<Sent>;
  shareScreen(): Promise<MediaStream>;
  stopSharing(): Promise<void> | undefined;
  devices(): Promise<Device[]>;
  useDevice(kind: Kind, id?: string): Promise<MediaStreamTrack>;
  replaceTrack(kind: Kind, track: MediaStreamTrack | null): Promise<void>;
}

export default Videre;
export {};
