import { useEffect, useRef, useState } from "react";
import { useCall } from "videre-client/react";

// The room is in the address, after the #, which browsers do not send to the server.
location.hash ||= crypto.randomUUID();
const room = location.hash.slice(1);

function Video({ stream, muted = false }: { stream: MediaStream | null; muted?: boolean }) {
  const video = useRef<HTMLVideoElement>(null);
  useEffect(() => {
    if (video.current) video.current.srcObject = stream;
  }, [stream]);
  return <video ref={video} muted={muted} width={320} autoPlay playsInline />;
}

export function App() {
  const [messages, setMessages] = useState<string[]>([]);
  const call = useCall({
    url: "/echo",
    room,
    onMessage: ({ user, data }) => setMessages((all) => [...all, `${user}: ${data}`]),
  });
  return (
    <main>
      <p role="status">{call.error ? call.error.message : call.state}</p>
      <Video stream={call.localStream} muted />
      {call.peers.map(({ user, stream }) => (
        <Video key={user} stream={stream} />
      ))}
      <p>
        <button onClick={() => call.setMuted("audio", !call.muted.audio)}>
          {call.muted.audio ? "Unmute" : "Mute"}
        </button>
        <button onClick={() => call.send("Hello")}>Say hello</button>
      </p>
      <ul>
        {messages.map((each, index) => (
          <li key={index}>{each}</li>
        ))}
      </ul>
    </main>
  );
}
