// People for screenshots of the demo: a camera that shows a drawn figure, with colours by name.
{
  const COLOURS = { Ann: ["#f6c28b", "#7a3e2e", "#d8663f"], Bob: ["#9cc9e8", "#2b2f4a", "#2f6f8f"] };
  const OTHERS = ["#b9d8b0", "#51361f", "#5d8a4a"];
  navigator.mediaDevices.getUserMedia = async ({ video, audio }) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 640, height: 480 });
    const context = canvas.getContext("2d");
    const disc = (x, y, width, height, colour) => {
      context.fillStyle = colour;
      context.beginPath();
      context.ellipse(x, y, width, height, 0, 0, 7);
      context.fill();
    };
    const draw = () => {
      const [wall, hair, shirt] = COLOURS[document.getElementById("name").value] ?? OTHERS;
      const nod = 4 * Math.sin(performance.now() / 600);
      const light = context.createRadialGradient(180, 90, 40, 320, 240, 520);
      light.addColorStop(0, "#ffffff");
      light.addColorStop(0.7, wall);
      context.fillStyle = light;
      context.fillRect(0, 0, 640, 480);
      disc(320, 520, 210, 170, shirt);
      disc(320, 195 + nod, 112, 128, hair);
      context.fillStyle = "#e8b896";
      context.fillRect(280, 290, 80, 90);
      disc(320, 225 + nod, 88, 108, "#f1c7a6");
      disc(285, 215 + nod, 9, 11, "#2a2a33");
      disc(355, 215 + nod, 9, 11, "#2a2a33");
      context.strokeStyle = "#a5553f";
      context.lineWidth = 6;
      context.beginPath();
      context.arc(320, 255 + nod, 34, 0.4, 2.74);
      context.stroke();
    };
    setInterval(draw, 50);
    draw();
    const stream = video ? canvas.captureStream(20) : new MediaStream();
    if (audio) stream.addTrack(new AudioContext().createMediaStreamDestination().stream.getTracks()[0]);
    return stream;
  };
}
