// The camera: one picture after another, as fast as the server answers.

import { toJpeg } from "./pictures.js";

const MOST_SIDE = 960; // a larger picture takes longer and shows the models nothing more
const QUALITY = 0.88;
const FRONT = { facingMode: "user" };
const OTHER_SIDE = { user: "environment", environment: "user" };

/** Why the camera cannot be had, in words for people. */
function explain(error) {
  const words = {
    NotAllowedError: "The browser was told not to use the camera. Allow it in the address bar and try again.",
    NotFoundError: "There is no camera here.",
    NotReadableError: "Another program uses the camera.",
  };
  return words[error.name] ?? `The camera could not be started: ${error.message}`;
}

/** Turns off the camera of a stream, if there is one. */
function end(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

export class Camera {
  #video;
  #stream = null;
  #which = FRONT; // constraints that say which camera
  #settings = {}; // of the camera that was started last
  #ids = []; // of all cameras
  #canvases = [document.createElement("canvas"), document.createElement("canvas")];
  #turn = 0;

  constructor(video) {
    this.#video = video;
  }

  get mirror() {
    return this.#settings.facingMode !== "environment";
  }

  /**
   * Starts the camera.
   * @param signal Aborted when something else is opened, or the camera once more.
   * @returns How many cameras there are.
   * @throws {Error} There is none, or it may not be used; the message is for people.
   */
  async start(signal) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("Browsers give the camera only to pages at https:// or on this very machine (localhost).");
    }
    this.stop();
    const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, ...this.#which };
    let stream = null;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
      signal.throwIfAborted();
      this.#stream = this.#video.srcObject = stream;
      this.#settings = stream.getVideoTracks()[0].getSettings();
      await this.#video.play();
      const devices = await navigator.mediaDevices.enumerateDevices();
      signal.throwIfAborted();
      this.#ids = devices.filter(({ kind }) => kind === "videoinput").map(({ deviceId }) => deviceId);
      return this.#ids.length;
    } catch (error) {
      end(stream);
      if (signal.aborted) throw signal.reason; // what is on by now is of a later call
      this.stop();
      this.#which = FRONT; // the next try takes what there is
      throw new Error(explain(error));
    }
  }

  /** Takes the camera on the other side of a phone, or the next one where sides are not told or not obeyed. */
  turnRound(signal) {
    const { facingMode, deviceId } = this.#settings;
    const next = this.#ids[(this.#ids.indexOf(deviceId) + 1) % this.#ids.length];
    const sided = facingMode && facingMode === this.#which.facingMode;
    this.#which = sided ? { facingMode: OTHER_SIDE[facingMode] } : { deviceId: { exact: next } };
    return this.start(signal);
  }

  stop() {
    end(this.#stream);
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
