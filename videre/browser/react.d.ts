import type { Kind, Peer, State, Videre, VidereEvents, VidereOptions } from "./videre.js";

type Settings = Omit<VidereOptions, "signallerURL" | "localVideoElement" | "remoteVideoElement" | "initComplete">;

/** Options but `url`, `room`, `userId` and `enabled` are those of the moment in which the call begins. */
export interface CallOptions extends Settings {
  /** The prefix of the signaller. */
  url: string;
  /** The room; without one there is no call. */
  room: string | null | undefined;
  /** False for no call, and no camera, yet. True unless given. */
  enabled?: boolean;
  onMessage?: (message: VidereEvents["message"]) => void;
}

export interface CallPeer {
  user: string;
  /** All that it sends: empty at first. */
  stream: MediaStream;
  state: RTCPeerConnectionState;
  peer: Peer;
}

type Action<Name extends "send" | "shareScreen" | "stopSharing" | "devices" | "useDevice" | "replaceTrack"> = (
  ...given: Parameters<Videre[Name]>
) => Promise<Awaited<ReturnType<Videre[Name]>> | undefined>;

export interface Call {
  /** That of the seat in the room. */
  state: State;
  localStream: MediaStream | null;
  peers: CallPeer[];
  /** The last thing that went wrong. */
  error: Error | null;
  /** The call itself; null where there is none. */
  videre: Videre | null;
  /** What is not sent; it holds for the next room as well. */
  muted: { audio: boolean; video: boolean };

  // The same functions in each render. Without a call they do nothing.
  setMuted(kind: Kind, muted: boolean): void;
  send: Action<"send">;
  shareScreen: Action<"shareScreen">;
  stopSharing: Action<"stopSharing">;
  devices: Action<"devices">;
  useDevice: Action<"useDevice">;
  replaceTrack: Action<"replaceTrack">;
}

/** Be in a call as long as the component is there. */
export declare function useCall(options: CallOptions): Call;
export {};
