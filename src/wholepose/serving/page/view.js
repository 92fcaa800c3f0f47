// The canvas: a picture with poses on it that one can zoom, move and point at.
//
// Convention: keypoints are (x, y) pixels of the upright picture, and (0, 0) is the centre of its top-left pixel, so the
// picture itself is painted from (-0.5, -0.5) on. The canvas counts in CSS pixels from its top-left corner.

import { paintPeople, shownKeypoints } from "./paint.js";

const MARGIN = 12; // CSS pixels about a picture that is wholly seen
const MOST_FIT = 3; // a tiny picture is not blown up more than so many times
const MOST_SCALE = 24;
const MOST_LOOK = 12; // closer, a face is nothing but pixels
const GLIDE_MS = 220;
const REACH_MOUSE = 14;
const REACH_TOUCH = 26;
const DRAG_FROM = 4;

export class View {
  #context;
  #picture = null; // what drawImage takes; null where the browser cannot show the picture
  #size = null; // [width, height] of the picture in its pixels
  #mirror = false;
  #scale = 1;
  #left = 0; // of the picture's corner on the canvas
  #top = 0;
  #fitted = true;
  #pointers = new Map();
  #dragged = false;
  #frame = 0;
  #glide = 0;

  /**
   * @param canvas The element.
   * @param on pointed(active or null, byHand) when one points at a keypoint or no longer does; chosen(index) when one
   *   picks a person; drawn() after each painting.
   */
  constructor(canvas, on) {
    this.canvas = canvas;
    this.on = on;
    this.scene = null;
    this.#context = canvas.getContext("2d");
    new ResizeObserver(() => {
      if (this.#fitted) this.#fit();
      this.redraw();
    }).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#forget(event));
    canvas.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse") this.on.pointed(null);
    });
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("dblclick", (event) => this.zoom(2, [event.offsetX, event.offsetY]));
  }

  /**
   * Shows a picture.
   * @param picture What `drawImage` takes, or null for an empty one.
   * @param size [width, height] in pixels.
   * @param options mirror (show it as a mirror would), keep (leave zoom and place where they are, if the size allows).
   */
  setPicture(picture, size, { mirror = false, keep = false } = {}) {
    const same = this.#size && size && this.#size[0] === size[0] && this.#size[1] === size[1];
    this.#picture = picture;
    this.#size = size;
    this.#mirror = mirror;
    if (size) this.canvas.style.setProperty("--shape", (size[1] / size[0]).toFixed(4)); // phones give it as much room
    if (!(keep && same)) this.#fit();
    this.redraw();
  }

  get zoomed() {
    return !this.#fitted;
  }

  /** Where a place of the picture is on the canvas. */
  place(x, y) {
    const across = this.#mirror ? this.#size[0] - 1 - x : x;
    return [this.#left + (across + 0.5) * this.#scale, this.#top + (y + 0.5) * this.#scale];
  }

  fit() {
    if (this.#size) this.#glideTo(this.#fitting());
  }

  /** Zooms by a factor about a place on the canvas, its middle by default. */
  zoom(factor, [x, y] = this.#middle()) {
    if (!this.#size) return;
    const scale = this.#limited(this.#scale * factor);
    const share = scale / this.#scale;
    this.#glideTo({ scale, left: x - (x - this.#left) * share, top: y - (y - this.#top) * share });
  }

  /** Moves the picture by CSS pixels. */
  shift(x, y) {
    if (!this.#size) return;
    this.#set({ scale: this.#scale, left: this.#left + x, top: this.#top + y });
  }

  /** Zooms in on [x1, y1, x2, y2] of the picture. */
  lookAt([x1, y1, x2, y2]) {
    const width = Math.max(x2 - x1, 4);
    const height = Math.max(y2 - y1, 4);
    const [middleX, middleY] = this.#middle();
    const closest = Math.max(MOST_LOOK, this.#fitting().scale);
    const scale = this.#limited(Math.min(0.72 * Math.min((2 * middleX) / width, (2 * middleY) / height), closest));
    const across = this.#mirror ? this.#size[0] - 1 - (x1 + x2) / 2 : (x1 + x2) / 2;
    this.#glideTo({ scale, left: middleX - (across + 0.5) * scale, top: middleY - ((y1 + y2) / 2 + 0.5) * scale });
  }

  /** Makes sure that a place of the picture is seen. */
  bringIntoSight(x, y) {
    const [atX, atY] = this.place(x, y);
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (atX < 20 || atY < 20 || atX > width - 20 || atY > height - 20) this.shift(width / 2 - atX, height / 2 - atY);
  }

  redraw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const { canvas } = this;
    const context = this.#context;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
    if (canvas.width !== width || canvas.height !== height) {
      canvas.width = width;
      canvas.height = height;
    }
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, canvas.clientWidth, canvas.clientHeight);
    if (!this.#size) return this.on.drawn();
    const [pictureWidth, pictureHeight] = this.#size;
    context.save();
    context.translate(this.#left, this.#top);
    context.scale(this.#scale, this.#scale);
    if (this.#mirror) {
      context.translate(pictureWidth, 0);
      context.scale(-1, 1);
    }
    if (this.#picture) {
      context.imageSmoothingQuality = "high";
      context.drawImage(this.#picture, 0, 0, pictureWidth, pictureHeight);
    } else {
      context.fillStyle = "rgb(128 128 136 / 0.25)";
      context.fillRect(0, 0, pictureWidth, pictureHeight);
    }
    context.restore();
    if (this.scene) {
      paintPeople(context, this.scene, {
        place: (x, y) => this.place(x, y),
        scale: this.#scale,
        mirror: this.#mirror,
        diagonal: Math.hypot(pictureWidth, pictureHeight),
        keep: false,
      });
    }
    this.on.drawn();
  }

  #middle() {
    return [this.canvas.clientWidth / 2, this.canvas.clientHeight / 2];
  }

  #fitting() {
    const [width, height] = this.#size;
    const { clientWidth, clientHeight } = this.canvas;
    const room = (side) => Math.max(side - 2 * MARGIN, 1);
    const scale = Math.min(room(clientWidth) / width, room(clientHeight) / height, MOST_FIT);
    return { scale, left: (clientWidth - width * scale) / 2, top: (clientHeight - height * scale) / 2 };
  }

  #fit() {
    if (this.#size && this.canvas.clientWidth) this.#set(this.#fitting());
  }

  #limited(scale) {
    return Math.min(Math.max(scale, this.#fitting().scale), Math.max(MOST_SCALE, this.#fitting().scale));
  }

  /** Puts the picture somewhere, so that the canvas's middle stays on it. */
  #set({ scale, left, top }) {
    cancelAnimationFrame(this.#glide);
    const fitting = this.#fitting();
    this.#fitted = scale <= fitting.scale * 1.001;
    const [middleX, middleY] = this.#middle();
    const [width, height] = this.#size;
    this.#scale = scale;
    this.#left = this.#fitted ? fitting.left : Math.min(Math.max(left, middleX - width * scale), middleX);
    this.#top = this.#fitted ? fitting.top : Math.min(Math.max(top, middleY - height * scale), middleY);
    this.canvas.style.touchAction = this.#fitted ? "pan-y" : "none"; // so that a finger scrolls the page past it
    this.canvas.style.cursor = this.#fitted ? "default" : "grab";
    this.redraw();
  }

  #glideTo(goal) {
    cancelAnimationFrame(this.#glide);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) return this.#set(goal);
    const from = { scale: this.#scale, left: this.#left, top: this.#top };
    const started = performance.now();
    const step = (now) => {
      const time = Math.min(Math.max((now - started) / GLIDE_MS, 0), 1);
      const share = 1 - (1 - time) ** 3;
      // Scales multiply and places follow them, so that the picture grows evenly about one point.
      const scale = from.scale * (goal.scale / from.scale) ** share;
      const part = goal.scale === from.scale ? share : (scale - from.scale) / (goal.scale - from.scale);
      const between = (a, b) => a + (b - a) * part;
      this.#set({ scale, left: between(from.left, goal.left), top: between(from.top, goal.top) });
      if (time < 1) this.#glide = requestAnimationFrame(step);
    };
    this.#glide = requestAnimationFrame(step);
  }

  #wheel(event) {
    if (!this.#size) return;
    // Pinching on a touchpad comes as a wheel with ctrl, in smaller steps.
    const factor = Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : event.ctrlKey ? 0.01 : 0.0016));
    if (this.#fitted && factor < 1 && !event.ctrlKey) return; // nothing to zoom out of: the page scrolls
    event.preventDefault();
    const scale = this.#limited(this.#scale * factor);
    const share = scale / this.#scale;
    const [x, y] = [event.offsetX, event.offsetY];
    this.#set({ scale, left: x - (x - this.#left) * share, top: y - (y - this.#top) * share });
  }

  #down(event) {
    if (event.pointerType === "mouse" && event.button !== 0) return;
    this.#pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.#dragged &&= this.#pointers.size > 1;
    this.canvas.setPointerCapture(event.pointerId);
  }

  #move(event) {
    const now = [event.offsetX, event.offsetY];
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") this.on.pointed(this.#nearest(now, REACH_MOUSE));
      return;
    }
    if (!this.#size || (!this.#dragged && Math.hypot(now[0] - before[0], now[1] - before[1]) < DRAG_FROM)) return;
    this.#dragged = true;
    const others = [...this.#pointers].filter(([id]) => id !== event.pointerId);
    this.#pointers.set(event.pointerId, now);
    if (others.length === 0) return this.#fitted ? undefined : this.shift(now[0] - before[0], now[1] - before[1]);
    // Two fingers: the picture grows with their distance, about the one that rests.
    const rest = others[0][1];
    const apart = ([x, y]) => Math.max(Math.hypot(x - rest[0], y - rest[1]), 1);
    const scale = this.#limited((this.#scale * apart(now)) / apart(before));
    const share = scale / this.#scale;
    this.#set({
      scale,
      left: rest[0] - (rest[0] - this.#left) * share,
      top: rest[1] - (rest[1] - this.#top) * share,
    });
  }

  #up(event) {
    const known = this.#pointers.has(event.pointerId);
    if (known && !this.#dragged && this.#size) {
      const now = [event.offsetX, event.offsetY];
      const found = this.#nearest(now, event.pointerType === "mouse" ? REACH_MOUSE : REACH_TOUCH);
      const person = found ? found.person : this.#personAt(now);
      if (person !== null) this.on.chosen(person);
      this.on.pointed(found);
    }
    this.#forget(event);
  }

  #forget(event) {
    this.#pointers.delete(event.pointerId);
    if (this.#pointers.size === 0) this.#dragged = false;
  }

  /** The shown keypoint nearest to a place on the canvas, within a reach; of those as near, the chosen person's. */
  #nearest([x, y], reach) {
    if (!this.scene) return null;
    let best = null;
    let least = reach;
    this.scene.people.forEach((person, index) => {
      const handicap = index === this.scene.chosen ? 0 : 2;
      shownKeypoints(person, this.scene.skeleton, this.scene).forEach((visible, keypoint) => {
        if (!visible) return;
        const [atX, atY] = this.place(...person.keypoints[keypoint]);
        const distance = Math.hypot(atX - x, atY - y) + handicap;
        if (distance < least) [least, best] = [distance, { person: index, keypoint }];
      });
    });
    return best;
  }

  /** The person with the smallest box about a place on the canvas, or null. */
  #personAt([x, y]) {
    let best = null;
    let least = Infinity;
    this.scene?.people.forEach(({ box }, index) => {
      const [ax, ay] = this.place(box[0], box[1]);
      const [bx, by] = this.place(box[2], box[3]);
      const inside = Math.min(ax, bx) <= x && x <= Math.max(ax, bx) && ay <= y && y <= by;
      const area = Math.abs((bx - ax) * (by - ay));
      if (inside && area < least) [least, best] = [area, index];
    });
    return best;
  }
}
