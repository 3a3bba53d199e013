/** A call as a React hook: docs/browser.md, "In React". */
import { useEffect, useMemo, useRef, useState } from "react";
import { Videre } from "./videre.js";

const START = { state: "closed", localStream: null, peers: [], error: null, videre: null };

export function useCall({ url, room, enabled = true, onMessage, ...options }) {
  const [shown, show] = useState(START);
  const [muted, mute] = useState({ audio: false, video: false });
  const call = useRef(null);
  const latest = useRef(null);
  latest.current = { onMessage, options, muted };
  const { audio, video } = muted;

  useEffect(() => {
    if (!enabled || !room) return;
    const { token, ...rest } = latest.current.options;
    const ask = typeof token === "function" ? (who) => latest.current.options.token(who) : token;
    const videre = (call.current = new Videre({ ...rest, token: ask, signallerURL: url }));
    const set = (more) => call.current === videre && show((before) => ({ ...before, ...more }));
    const people = () =>
      set({ peers: [...videre.peers.values()].map((peer) => ({ user: peer.user, stream: peer.stream, state: peer.state, peer })) });
    const error = (error) => set({ error });
    videre.onLocalStream = (localStream) => set({ localStream });
    videre.onAudioError = videre.onVideoError = error;
    for (const type of ["call", "stream", "connection", "hangup"]) videre.on(type, people);
    videre.on("error", error).on("message", (message) => latest.current.onMessage?.(message));
    videre.signaller
      .on("state", (state) => set({ state }))
      .on("closed", (reason) => set({ localStream: null, ...(reason && { error: reason }) }));
    if (latest.current.muted.audio) videre.muteMic();
    if (latest.current.muted.video) videre.muteVideo();
    show({ ...START, videre });
    videre.connect(room).catch(error);
    return () => {
      call.current = null;
      videre.disconnect();
      show(START);
    };
  }, [url, room, enabled, options.userId]);

  useEffect(() => {
    audio ? shown.videre?.muteMic() : shown.videre?.unmuteMic();
    video ? shown.videre?.muteVideo() : shown.videre?.unmuteVideo();
  }, [shown.videre, audio, video]);

  const actions = useMemo(() => {
    const act = (name) => async (...given) => call.current?.[name](...given);
    const names = ["send", "shareScreen", "stopSharing", "devices", "useDevice", "replaceTrack"];
    const setMuted = (kind, value) => mute((before) => ({ ...before, [kind]: value }));
    return { ...Object.fromEntries(names.map((name) => [name, act(name)])), setMuted };
  }, []);
  return { ...shown, muted, ...actions };
}
