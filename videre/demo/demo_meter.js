/** A meter of a microphone's volume. */

/** Reports the volume of the sound since the last look, so that no sound falls between two looks. */
export class Meter {
  #context = new AudioContext();
  #looking;

  /**
   * @param {MediaStream} stream with sound @param {number} ms between two looks, up to 600
   * @param {(level: number) => void} heard called with each volume, from 0 to 1
   */
  constructor(stream, ms, heard) {
    const { sampleRate } = this.#context;
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 2 ** Math.ceil(Math.log2((sampleRate * ms) / 1_000)); // at least `ms` of sound
    try {
      this.#context.createMediaStreamSource(stream).connect(analyser);
    } catch (error) {
      console.warn(error); // Firefox refuses a microphone with another sample rate than the loudspeaker's
    }
    const samples = new Float32Array(analyser.fftSize);
    this.#looking = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, each) => sum + each * each, 0) / samples.length;
      heard(Math.sqrt(power));
    }, ms);
    // In a page without a click, as after a reload, the browser starts no context.
    addEventListener("click", this.#resume);
  }

  #resume = () => this.#context.resume();

  stop() {
    clearInterval(this.#looking);
    removeEventListener("click", this.#resume);
    this.#context.close();
  }
}
