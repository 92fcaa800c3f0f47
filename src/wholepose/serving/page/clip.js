// A video file, frame by frame. The browser decodes it; the server sees one picture after another.
//
// Browsers tell no frame rate, so it is measured while the first frames play. Frame n is what is shown in the middle of
// its time, which is right for videos of a steady rate; where the rate changes, some frames are seen twice or not at all.

import { pause } from "./api.js";
import { toJpeg } from "./pictures.js";

const USUAL_RATES = [10, 12, 12.5, 15, 20, 24, 24000 / 1001, 25, 30, 30000 / 1001, 48, 50, 60, 60000 / 1001, 120];
const FRAMES_MEASURED = 8;
const MEASURE_MS = 1500;
const SHOWN_MS = 400; // a frame that is not on the screen by then was there before, or the page is out of sight
const QUALITY = 0.92;

export class Clip {
  #video;
  #address = null;
  #known = new Map(); // answers by frame: the server's text, a hundredth of what the parsed document takes

  constructor(video) {
    this.#video = video;
  }

  /**
   * Opens a file.
   * @throws {Error} This browser cannot play it; the message is for people.
   */
  async open(file, signal) {
    this.close();
    this.name = file.name;
    this.#address = URL.createObjectURL(file);
    this.#video.src = this.#address;
    await this.#loaded();
    signal.throwIfAborted();
    this.rate = await this.#measureRate();
    signal.throwIfAborted();
    this.count = Math.max(1, Math.round(this.#video.duration * this.rate));
  }

  close() {
    this.#video.pause();
    this.#video.removeAttribute("src");
    this.#video.load();
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.#address = null;
    this.#known.clear();
  }

  #loaded() {
    const video = this.#video;
    return new Promise((resolve, reject) => {
      const failed = () => reject(new Error("This browser cannot play it; it may know neither the file nor its codec."));
      video.onloadeddata = () => (video.videoWidth && Number.isFinite(video.duration) ? resolve() : failed());
      video.onerror = failed;
    });
  }

  /** Frames a second, from the times of the first frames. */
  async #measureRate() {
    const video = this.#video;
    if (!video.requestVideoFrameCallback) return 25;
    const times = [];
    const enough = new Promise((resolve) => {
      const note = (_, { mediaTime }) => {
        times.push(mediaTime);
        if (times.length >= FRAMES_MEASURED) resolve();
        else video.requestVideoFrameCallback(note);
      };
      video.requestVideoFrameCallback(note);
      video.onended = resolve;
    });
    await video.play();
    await Promise.race([enough, pause(MEASURE_MS)]);
    video.pause();
    const steps = times.slice(1).map((time, index) => time - times[index]);
    const least = Math.min(...steps.filter((step) => step > 0.004)); // the browser may have left out frames, never added
    if (!Number.isFinite(least)) return 25;
    const near = USUAL_RATES.find((rate) => Math.abs(rate * least - 1) < 0.015);
    return near ?? 1 / least;
  }

  /** Waits for the frame of a time: "seeked" may come while the frame before is still what can be drawn. */
  #shown(time) {
    const video = this.#video;
    if (!video.requestVideoFrameCallback) return Promise.resolve();
    return new Promise((resolve) => {
      const look = (_, { mediaTime }) => {
        const late = time - mediaTime;
        if (late > -0.001 && late < 1 / this.rate) resolve();
        else if (Math.abs(video.currentTime - time) < 1e-4) video.requestVideoFrameCallback(look);
      };
      video.requestVideoFrameCallback(look);
    });
  }

  timeOf(index) {
    return index / this.rate;
  }

  get size() {
    return [this.#video.videoWidth, this.#video.videoHeight];
  }

  /** Frame `index` on a canvas of its own. */
  async frame(index, signal) {
    const video = this.#video;
    const time = Math.min((index + 0.5) / this.rate, Math.max(video.duration - 0.001, 0));
    if (Math.abs(video.currentTime - time) > 1e-4 || video.seeking) {
      const there = new Promise((resolve, reject) => {
        video.addEventListener("seeked", resolve, { once: true, signal });
        signal.addEventListener("abort", () => reject(signal.reason), { once: true });
      });
      const shown = this.#shown(time);
      video.currentTime = time;
      await there;
      await Promise.race([shown, pause(SHOWN_MS)]);
    }
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = this.size;
    canvas.getContext("2d").drawImage(video, 0, 0);
    return canvas;
  }

  /** A frame as the server reads it. */
  static toBlob(canvas) {
    return toJpeg(canvas, QUALITY);
  }

  /** The answer for a frame, where there is one. */
  answer(index) {
    return this.#known.get(index);
  }

  remember(index, text) {
    this.#known.set(index, text);
  }

  /** Forgets all answers, when they would now be others. */
  forget() {
    this.#known.clear();
  }

  /** All answers in order of their frames. */
  answers() {
    return [...this.#known]
      .sort(([a], [b]) => a - b)
      .map(([index, text]) => ({ index, timeS: Number(this.timeOf(index).toFixed(6)), text }));
  }
}
