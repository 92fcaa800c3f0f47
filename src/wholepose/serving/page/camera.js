// The camera: one picture after another, as fast as the server answers.

import { toJpeg } from "./pictures.js";

const MOST_SIDE = 960; // a larger picture takes longer and shows the models nothing more
const QUALITY = 0.88;

/** Why the camera cannot be had, in words for people. */
function explain(error) {
  const words = {
    NotAllowedError: "The browser was told not to use the camera. Allow it in the address bar and try again.",
    NotFoundError: "There is no camera here.",
    NotReadableError: "Another program uses the camera.",
  };
  return words[error.name] ?? `The camera could not be started: ${error.message}`;
}

export class Camera {
  #video;
  #stream = null;
  #facing = "user";
  #canvases = [document.createElement("canvas"), document.createElement("canvas")];
  #turn = 0;

  constructor(video) {
    this.#video = video;
  }

  get mirror() {
    return this.#facing === "user";
  }

  /**
   * Starts the camera.
   * @returns How many cameras there are.
   * @throws {Error} There is none, or it may not be used; the message is for people.
   */
  async start() {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("Browsers give the camera only to pages at https:// or on this very machine (localhost).");
    }
    this.stop();
    const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, facingMode: this.#facing };
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      this.#video.srcObject = this.#stream;
      await this.#video.play();
      const devices = await navigator.mediaDevices.enumerateDevices();
      return devices.filter(({ kind }) => kind === "videoinput").length;
    } catch (error) {
      this.stop();
      throw new Error(explain(error));
    }
  }

  /** Takes the camera on the other side of a phone. */
  turnRound() {
    this.#facing = this.#facing === "user" ? "environment" : "user";
    return this.start();
  }

  stop() {
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
    this.#stream = null;
    this.#video.srcObject = null;
  }

  /** Whether pictures still come: not after `stop`, nor when the camera was pulled out. */
  get running() {
    return this.#stream !== null && this.#stream.getVideoTracks().some((track) => track.readyState === "live");
  }

  /**
   * The picture of this moment.
   * @returns {canvas, blob}; the canvas keeps the picture until the call after the next.
   */
  async grab() {
    const { videoWidth, videoHeight } = this.#video;
    const share = Math.min(1, MOST_SIDE / Math.max(videoWidth, videoHeight));
    this.#turn = 1 - this.#turn;
    const canvas = this.#canvases[this.#turn];
    canvas.width = Math.round(videoWidth * share);
    canvas.height = Math.round(videoHeight * share);
    canvas.getContext("2d").drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    return { canvas, blob: await toJpeg(canvas, QUALITY) };
  }
}
