// What is open on the page: a picture, the camera or a video; its poses, and what went wrong on the way to them.

import { fetchPoses, pause } from "./api.js";
import { Camera } from "./camera.js";
import { carriedBoxes, whereIs, withScores } from "./carrying.js";
import { Clip } from "./clip.js";
import { saveClip, saveDocument, savePicture } from "./downloads.js";
import { decode, fetchSample, isVideo, shrink } from "./pictures.js";
import { tellBusy, tellError, tellNobody, tellStopped, tellTooLarge, tooLarge } from "./troubles.js";

const $ = (id) => document.getElementById(id);

const SEARCH_EVERY = 5; // pictures of the camera from one search for people to the next

function peopleWords(count) {
  return count === 0 ? "Nobody found" : count === 1 ? "1 person" : `${count} people`;
}

export class Session {
  #limits;
  #detects;
  #notice;
  #show;
  #camera = new Camera($("video"));
  #clip = new Clip($("video"));
  #task = new AbortController();
  #kind = null; // "picture", "camera" or "clip", once it has frames
  #name = "";
  #file = null; // what the server is sent again when the switch for whole pictures is turned
  #picture = null;
  #size = null;
  #mirror = false;
  #text = null;
  #place = 0; // frame of the clip
  #wanted = null;
  #going = null;
  #playing = false;

  people = [];
  chosen = 0;

  /**
   * @param limits `limits` of `GET v1/models`.
   * @param detects Whether the server finds people; else every picture is of one person.
   * @param notice A Notice.
   * @param show picture(picture, size, {mirror, keep}) and poses({live}) put on the page what this holds;
   *   started() tells that something was opened.
   */
  constructor(limits, detects, notice, show) {
    this.#limits = limits;
    this.#detects = detects;
    $("whole").checked = $("whole").disabled = !detects;
    this.#notice = notice;
    this.#show = show;
    $("whole").addEventListener("change", () => this.#again());
    $("clip-play").addEventListener("click", () => (this.#playing ? this.#halt() : this.#play()));
    $("clip-back").addEventListener("click", () => this.#step(-1));
    $("clip-on").addEventListener("click", () => this.#step(1));
    $("clip-place").addEventListener("input", () => {
      this.#halt();
      this.#goTo(Number($("clip-place").value));
    });
    $("live-stop").addEventListener("click", () => this.stopCamera());
    $("live-switch").addEventListener("click", () => this.openCamera(true));
    $("save-json").addEventListener("click", () => this.#saveJson());
  }

  /** The chosen person, undefined where there are none. */
  get person() {
    return this.people[this.chosen];
  }

  get picture() {
    return this.#picture;
  }

  /** A name and how many people, for those who do not see the canvas. */
  get words() {
    const [width, height] = this.#size ?? [0, 0];
    return `${this.#name}, ${width} by ${height} pixels. ${peopleWords(this.people.length)}.`;
  }

  /** Opens a picture or a video file. */
  open(file) {
    return isVideo(file) ? this.#openClip(file) : this.#openPicture(file);
  }

  /** Opens one of the samples. */
  async openSample(name) {
    const signal = this.#begin("picture", name);
    let file;
    try {
      file = await fetchSample(name);
    } catch (error) {
      if (signal.aborted) return;
      this.#put(null, null);
      this.#show.poses({ live: false });
      return this.#fail(error, () => this.openSample(name));
    }
    if (!signal.aborted) await this.#openPicture(file);
  }

  #begin(kind, name) {
    const signal = this.#renew();
    this.#halt();
    this.#camera.stop();
    this.#clip.close();
    Object.assign(this, { people: [], chosen: 0 });
    [this.#kind, this.#name, this.#text, this.#file, this.#wanted] = [kind, name, null, null, null];
    $("whole").checked = !this.#detects;
    $("clip").hidden = true;
    $("live").hidden = kind !== "camera";
    $("name").textContent = name;
    document.title = `${name} · wholepose`;
    $("status").textContent = "";
    this.#notice.clear();
    this.#busy(false);
    this.#setSavable();
    this.#show.started();
    return signal;
  }

  /** Gives up what is being done; the signal is that of what comes next. */
  #renew() {
    this.#task.abort();
    this.#task = new AbortController();
    return this.#task.signal;
  }

  async #openPicture(file) {
    const signal = this.#begin("picture", file.name || "pasted.png");
    const picture = await decode(file);
    if (signal.aborted) return;
    this.#put(picture, picture && [picture.width, picture.height]);
    this.#show.poses({ live: false });
    await this.#askAboutPicture(file, signal);
  }

  async #askAboutPicture(file, signal) {
    const why = tooLarge(file, this.#size, this.#limits);
    if (why) return tellTooLarge(this.#notice, why, this.#picture && (() => this.#openSmaller()));
    this.#file = file;
    try {
      await this.#ask(file, signal);
      if (this.people.length === 0) tellNobody(this.#notice, () => $("whole").click());
    } catch (error) {
      this.#fail(error, () => this.#askAboutPicture(file, signal));
    }
  }

  /** Asks the server and shows the answer. */
  async #ask(file, signal, { live = false, picture = this.#picture, size = this.#size, carried = [] } = {}) {
    if (!live) this.#busy(true);
    try {
      const whole = $("whole").checked;
      let answer = await fetchPoses(file, {
        name: this.#name,
        whole,
        boxes: carried.map(({ box }) => box),
        signal,
        onWait: (seconds) => this.#tellBusy(seconds),
      });
      signal.throwIfAborted();
      this.#notice.clear();
      const { tookMs } = answer;
      if (carried.length && !whole) answer = withScores(answer, carried);
      const { width, height } = answer.document;
      const right = size && size[0] === width && size[1] === height; // the server has the last word
      const turned = size && !right && size[0] === height && size[1] === width; // by the browser alone: poses would lie
      if (picture !== this.#picture || !right) this.#put(turned ? null : picture, [width, height], live);
      this.#file = file;
      this.#take(answer, live);
      if (this.#kind !== "clip" && !live) this.#tellFound(tookMs);
      return answer;
    } finally {
      if (!signal.aborted) this.#busy(false);
    }
  }

  /** Keeps the answer for what is on the canvas. */
  #take({ text, document: { people } }, live) {
    const before = this.person;
    this.people = people;
    this.#text = text;
    this.chosen = 0;
    if (live && before) this.chosen = whereIs(before, people);
    this.#setSavable();
    this.#show.poses({ live });
  }

  #put(picture, size, keep = false) {
    this.#picture = picture;
    this.#size = size;
    this.#mirror = this.#kind === "camera" && this.#camera.mirror;
    this.#show.picture(picture, size, { mirror: this.#mirror, keep });
  }

  /** Asks anew, after the switch for whole pictures was turned. */
  #again() {
    if (this.#kind === "clip") {
      this.#halt();
      this.#renew(); // an answer on its way would be remembered
      this.#clip.forget();
      this.#text = null;
      this.#setSavable();
      this.#goTo(Math.max(this.#place, 0));
    } else if (this.#file && !this.#camera.running) {
      this.#notice.clear();
      this.#askAboutPicture(this.#file, this.#renew());
    }
  }

  // Camera

  async openCamera(otherSide = false) {
    const signal = this.#begin("camera", "camera.jpg");
    $("name").textContent = "Camera";
    $("live-rate").textContent = "";
    try {
      const cameras = await (otherSide ? this.#camera.turnRound(signal) : this.#camera.start(signal));
      $("live-switch").hidden = cameras < 2;
    } catch (error) {
      if (signal.aborted) return;
      $("live").hidden = true;
      this.#put(null, null);
      this.#show.poses({ live: false });
      this.#notice.show({
        title: "No camera.",
        text: error.message,
        actions: [{ label: "Try again", run: () => this.openCamera() }],
      });
      return;
    }
    if (signal.aborted) return;
    $("status").textContent = "The camera is on.";
    await this.#watch(signal);
  }

  async #watch(signal) {
    let rate = 0;
    try {
      for (let count = 0; !signal.aborted && this.#camera.running; count++) {
        const started = performance.now();
        const { canvas, blob } = await this.#camera.grab();
        if (signal.aborted) return;
        const size = [canvas.width, canvas.height];
        const people = count % SEARCH_EVERY ? carriedBoxes(this.people, size) : [];
        const carried = people.slice(0, this.#limits.max_boxes);
        await this.#ask(blob, signal, { live: true, picture: canvas, size, carried });
        const now = 1000 / (performance.now() - started);
        rate = rate ? 0.85 * rate + 0.15 * now : now;
        $("live-rate").textContent = `${rate.toFixed(rate < 10 ? 1 : 0)} pictures a second`;
        while (document.hidden && !signal.aborted) await pause(300, signal);
      }
      if (!signal.aborted) this.stopCamera();
    } catch (error) {
      if (signal.aborted) return;
      this.stopCamera();
      this.#fail(error, () => this.openCamera());
    }
  }

  /** Stops the camera; the last picture stays. */
  stopCamera() {
    if (this.#kind !== "camera") return;
    this.#renew();
    this.#camera.stop();
    this.#busy(false);
    $("live").hidden = true;
    $("status").textContent = `The camera is off. ${peopleWords(this.people.length)} in the last picture.`;
    this.#show.poses({ live: false });
  }

  // Video

  async #openClip(file) {
    const signal = this.#begin(null, file.name);
    this.#put(null, null);
    this.#show.poses({ live: false });
    this.#busy(true);
    try {
      await this.#clip.open(file, signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#busy(false);
      const text = `${error.message} “wholepose predict ${file.name} --draw” on the command line reads more kinds.`;
      this.#notice.show({ title: "This video cannot be shown here.", text });
      return;
    }
    this.#kind = "clip";
    const { count, rate, size } = this.#clip;
    $("status").textContent = `Video · ${size.join(" × ")} · ${Number(rate.toFixed(2))} frames a second`;
    $("clip").hidden = false;
    $("clip-place").max = String(count - 1);
    this.#place = -1;
    await this.#goTo(0);
  }

  /** Shows a frame; where one calls this before the last frame was there, those between are passed over. */
  #goTo(index) {
    this.#wanted = index;
    this.#going ??= (async () => {
      try {
        while (this.#wanted !== null) {
          const next = this.#wanted;
          this.#wanted = null;
          await this.#showFrame(next, this.#task.signal);
        }
      } finally {
        this.#going = null;
      }
    })();
    return this.#going;
  }

  async #showFrame(index, signal) {
    try {
      const picture = await this.#clip.frame(index, signal);
      signal.throwIfAborted();
      const first = this.#place < 0;
      this.#place = index;
      this.#tellPlace();
      const known = this.#clip.answer(index);
      if (known) {
        this.#put(picture, this.#clip.size, true);
        this.#take({ text: known, document: JSON.parse(known) }, true);
      } else {
        const file = await Clip.toBlob(picture);
        const answer = await this.#ask(file, signal, { live: !first, picture, size: this.#clip.size });
        this.#clip.remember(index, answer.text);
      }
    } catch (error) {
      this.#halt();
      this.#fail(error, () => this.#goTo(index));
    }
  }

  #tellPlace() {
    const { count } = this.#clip;
    $("clip-place").value = String(this.#place);
    $("clip-place").setAttribute("aria-valuetext", `frame ${this.#place + 1} of ${count}`);
    $("clip-time").textContent = `${this.#clip.timeOf(this.#place).toFixed(2)} s · ${this.#place + 1} / ${count}`;
  }

  #step(by) {
    this.#halt();
    const from = this.#wanted ?? this.#place;
    this.#goTo(Math.min(Math.max(from + by, 0), this.#clip.count - 1));
  }

  async #play() {
    const signal = this.#task.signal;
    this.#playing = true;
    $("clip-play").textContent = "Pause";
    let next = this.#place + 1 < this.#clip.count ? this.#place + 1 : 0;
    while (this.#playing && !signal.aborted && next < this.#clip.count) {
      const started = performance.now();
      await this.#goTo(next);
      next = this.#place + 1;
      await pause(Math.max(1000 / this.#clip.rate - (performance.now() - started), 0));
    }
    if (!signal.aborted) this.#halt();
  }

  #halt() {
    this.#playing = false;
    $("clip-play").textContent = "Play";
  }

  // Files to keep

  #setSavable() {
    const nothing = this.#text === null;
    $("save-json").disabled = $("save-png").disabled = nothing;
    $("save-json").title = this.#kind === "clip" ? "Of all frames seen so far" : "";
  }

  #saveJson() {
    if (this.#kind === "clip") saveClip(this.#clip.answers(), this.#name);
    else saveDocument(this.#text, this.#name);
  }

  /** Saves the picture with what the scene shows of its poses. */
  async savePng(scene) {
    const place = this.#kind === "clip" ? `_${String(this.#place).padStart(6, "0")}` : "";
    const name = this.#name.replace(/(\.\w{1,5})?$/, `${place}$1`);
    try {
      await savePicture(this.#picture, this.#size, scene, name);
    } catch (error) {
      this.#notice.show({ title: "The PNG could not be made:", text: `${error.message}.` });
    }
  }

  // Words

  #busy(busy) {
    $("progress").hidden = !busy;
    $("stage").setAttribute("aria-busy", String(busy));
  }

  #tellFound(milliseconds) {
    const [width, height] = this.#size;
    $("status").textContent =
      `${peopleWords(this.people.length)} · ${width} × ${height} · ${Math.round(milliseconds)} ms` +
      (this.#picture ? "" : " · This browser cannot show this kind of picture, only its poses.");
  }

  #tellBusy(seconds) {
    tellBusy(this.#notice, seconds, () => {
      if (this.#camera.running) return this.stopCamera();
      this.#halt();
      this.#renew();
      this.#busy(false);
      tellStopped(this.#notice, () => (this.#kind === "clip" ? this.#goTo(this.#place) : this.#again()));
    });
  }

  async #openSmaller() {
    this.#openPicture(await shrink(this.#picture, this.#name, this.#limits));
  }

  #fail(error, again) {
    if (error.name === "AbortError") return;
    const copy = this.#picture && this.#kind === "picture" ? () => this.#openSmaller() : null;
    tellError(this.#notice, error, { name: this.#name, again, copy });
  }
}
