/**
 * The old videre-client as others see it, with a real RTCPeerConnection: it has one call, starts it at
 * the next connect (or ping) if it is initiator, answers any offer, and hangs up at any disconnect.
 */
const PING_MS = 500; // two seconds, in the original

export class OldPage {
  initiator = false;
  started = false;
  signals = [];
  errors = [];

  constructor(url, user, room, stream, video) {
    Object.assign(this, { user, room });
    this.connection = new RTCPeerConnection();
    for (const track of stream.getTracks()) this.connection.addTrack(track, stream);
    this.connection.onicecandidate = ({ candidate }) => {
      if (!candidate) return;
      const { sdpMLineIndex, sdpMid } = candidate;
      this.#broadcast({ Type: "Ice Candidate", sdpMLineIndex, candidate: candidate.candidate, sdpMid });
    };
    this.connection.onaddstream = ({ stream }) => (video.srcObject = stream);
    this.socket = new WebSocket(`${url.replace("http", "ws")}/websocket`);
    this.socket.onopen = () => {
      this.#send("connect", "{}");
      this.pings = setInterval(() => this.#send("ping", "{}"), PING_MS);
    };
    this.socket.onmessage = ({ data }) => this.#hear(JSON.parse(data));
  }

  hangUp() {
    clearInterval(this.pings);
    this.ended = true;
    this.connection.close();
    this.socket.close();
  }

  #send(Event, Payload) {
    const Header = { Event, UserId: this.user, RoomId: this.room };
    this.socket.send(JSON.stringify({ Header, Payload }));
  }

  #broadcast(payload) {
    this.#send("broadcast", payload);
  }

  #hear({ Header: { Event, UserId }, Payload }) {
    const own = UserId === this.user;
    if (own && Event === "connect") this.initiator = JSON.parse(Payload);
    else if (own && Event === "ping") JSON.parse(Payload).length > 1 && this.#start();
    else if (own) return;
    else if (Event === "connect") this.#start();
    else if (Event === "broadcast") this.#signal(Payload).catch((error) => this.errors.push(`${error}`));
    else if (Event === "disconnect") this.hangUp();
  }

  async #start() {
    if (!this.initiator || this.started) return;
    this.started = true;
    await this.#describe("Ice Offer", await this.connection.createOffer());
  }

  async #describe(Type, description) {
    await this.connection.setLocalDescription(description);
    this.#broadcast({ Type, IcePacket: description });
  }

  async #signal(signal) {
    const { Type, IcePacket } = signal;
    this.signals.push(Type);
    if (Type === "Ice Candidate") {
      const { sdpMLineIndex, sdpMid, candidate } = signal;
      await this.connection.addIceCandidate({ sdpMLineIndex, sdpMid, candidate });
      return;
    }
    await this.connection.setRemoteDescription({ type: IcePacket.type, sdp: IcePacket.sdp });
    if (Type === "Ice Offer") {
      await this.#describe("Ice Answer", await this.connection.createAnswer());
    }
  }
}

globalThis.OldPage = OldPage;
