import type { Kind, Peer, State, Videre, VidereEvents, VidereOptions } from "./videre.js";

type Settings = Omit<VidereOptions, "signallerURL" | "localVideoElement" | "remoteVideoElement" | "initComplete">;

/**
 * `url`, `room`, `userId` and `enabled` start a new call when they change. The latest `onMessage`
 * and the latest `token` function are always used; the other options are read when a call begins.
 */
export interface CallOptions extends Settings {
  /** The server's prefix. */
  url: string;
  /** The room; null for no call. */
  room: string | null | undefined;
  /** False for no call, and no camera, yet. True by default. */
  enabled?: boolean;
  onMessage?: (message: VidereEvents["message"]) => void;
}

export interface CallPeer {
  user: string;
  /** Everything it sends: empty at first. */
  stream: MediaStream;
  state: RTCPeerConnectionState;
  peer: Peer;
}

type Action<Name extends "send" | "shareScreen" | "stopSharing" | "devices" | "useDevice" | "replaceTrack"> = (
  ...given: Parameters<Videre[Name]>
) => Promise<Awaited<ReturnType<Videre[Name]>> | undefined>;

export interface Call {
  /** The state of the `Signaller`. */
  state: State;
  localStream: MediaStream | null;
  peers: CallPeer[];
  /** The latest error. */
  error: Error | null;
  /** The call itself; null if there is none. */
  videre: Videre | null;
  /** What is muted; kept for the next room. */
  muted: { audio: boolean; video: boolean };

  // These are the same functions in each render. Without a call they do nothing.
  setMuted(kind: Kind, muted: boolean): void;
  send: Action<"send">;
  shareScreen: Action<"shareScreen">;
  stopSharing: Action<"stopSharing">;
  devices: Action<"devices">;
  useDevice: Action<"useDevice">;
  replaceTrack: Action<"replaceTrack">;
}

/** Take part in a call while the component is mounted. */
export declare function useCall(options: CallOptions): Call;
export {};
