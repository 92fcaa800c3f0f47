// Puts the page together: where pictures come in, and what pointing, keys and switches do.

import { fetchModels } from "./api.js";
import { Notice } from "./notice.js";
import { Panel } from "./panel.js";
import { deviationOf, shownKeypoints } from "./paint.js";
import { filesOf, SAMPLES } from "./pictures.js";
import { Session } from "./session.js";
import { Skeleton } from "./skeleton.js";
import { KeypointTable } from "./table.js";
import { askForKey } from "./troubles.js";
import { View } from "./view.js";

const $ = (id) => document.getElementById(id);
const notice = new Notice($("notice"), $("view"));

/** Loads what the page must know of the server, then lets people in. */
async function start() {
  let described;
  try {
    described = await fetchModels();
  } catch (error) {
    document.body.dataset.state = "closed";
    $("stage").hidden = false;
    if (error.status === 401) return askForKey(notice, start);
    notice.show({
      title: "The server cannot be used yet.",
      text: error.message,
      actions: [{ label: "Try again", run: start }],
    });
    return;
  }
  if (document.body.dataset.state === "closed") {
    document.body.dataset.state = "intro";
    $("stage").hidden = true;
  }
  const [model] = described.models;
  $("model").textContent = model.name;
  new Page(new Skeleton(model.skeleton), described.limits, model.detector !== null);
  document.body.dataset.ready = "yes";
}

class Page {
  #skeleton;
  #active = null; // {person, keypoint} that one points at
  #emphasised = null;

  constructor(skeleton, limits, detects) {
    this.#skeleton = skeleton;
    this.panel = new Panel(skeleton, {
      changed: () => this.#refresh(),
      chosen: (index) => this.#choose(index),
      emphasised: (index) => {
        this.#emphasised = index;
        this.#refresh();
      },
      zoomed: (part) => this.#zoomTo(part),
    });
    this.table = new KeypointTable($("table-box"), skeleton, (keypoint) =>
      this.#point(keypoint === null || !this.session.person ? null : { person: this.session.chosen, keypoint }),
    );
    this.view = new View($("view"), {
      pointed: (active) => this.#point(active),
      chosen: (index) => this.#choose(index),
      drawn: () => this.#placeTip(),
    });
    this.session = new Session(limits, detects, notice, {
      started: () => this.#openWork(),
      picture: (picture, size, options) => this.view.setPicture(picture, size, options),
      poses: ({ live }) => this.#showPoses(live),
    });
    this.#takePictures();
    this.#takeKeys();
    $("zoom-in").addEventListener("click", () => this.view.zoom(1.6));
    $("zoom-out").addEventListener("click", () => this.view.zoom(1 / 1.6));
    $("zoom-fit").addEventListener("click", () => this.view.fit());
    $("save-png").addEventListener("click", () => this.session.savePng(this.#scene()));
  }

  #scene() {
    const { people, chosen } = this.session;
    const scene = { ...this.panel.settings, skeleton: this.#skeleton, people, chosen };
    return { ...scene, active: this.#active, emphasised: this.#emphasised };
  }

  #showPoses(live) {
    // In a video the keypoint stays the one that is pointed at, on whoever is chosen now.
    this.#active = live && this.#active && this.session.person ? { ...this.#active, person: this.session.chosen } : null;
    if (this.#emphasised !== null && this.#emphasised >= this.session.people.length) this.#emphasised = null;
    this.panel.showPeople(this.session, this.session.picture, live);
    if (!live) $("view").setAttribute("aria-label", this.session.words);
    this.#refresh();
  }

  /** Brings everything in line with what is chosen, pointed at and switched on. */
  #refresh() {
    this.view.scene = this.#scene();
    this.view.redraw();
    this.panel.count(this.session);
    const caption = this.session.person ? `Keypoints of person ${this.session.chosen + 1}` : "Nobody is chosen";
    this.table.update(this.session.person ?? null, caption, this.panel.settings.threshold);
  }

  #choose(index) {
    this.session.chosen = index;
    this.panel.markChosen(index);
    if (this.#active && this.#active.person !== index) this.#active = null;
    this.#refresh();
  }

  #point(active) {
    if (active?.person === this.#active?.person && active?.keypoint === this.#active?.keypoint) return;
    this.#active = active;
    this.view.scene = this.#scene();
    this.view.redraw();
    this.table.point(active?.person === this.session.chosen ? active.keypoint : null);
  }

  #zoomTo(part) {
    const area = this.session.person && this.panel.areaOf(this.session.person, part);
    if (area) this.view.lookAt(area);
  }

  // The keypoint one points at, in words

  #tell({ person, keypoint }) {
    const told = this.session.people[person];
    const [, , score] = told.keypoints[keypoint];
    const deviation = told.covariances ? ` ± ${deviationOf(told.covariances[keypoint]).toFixed(1)} px` : "";
    return [this.#skeleton.labels[keypoint], `score ${score.toFixed(2)}${deviation}`];
  }

  #placeTip() {
    const tip = $("tip");
    tip.hidden = this.#active === null;
    if (!this.#active) return;
    const [name, numbers] = this.#tell(this.#active);
    const strong = document.createElement("strong");
    strong.textContent = name;
    tip.replaceChildren(strong, numbers);
    const [x, y] = this.view.place(...this.session.people[this.#active.person].keypoints[this.#active.keypoint]);
    const { clientWidth, clientHeight } = $("view");
    const left = x + 16 + tip.offsetWidth < clientWidth ? x + 16 : x - 16 - tip.offsetWidth;
    const top = y - 14 - tip.offsetHeight > 0 ? y - 14 - tip.offsetHeight : y + 14;
    tip.style.left = `${Math.min(Math.max(left, 4), Math.max(clientWidth - tip.offsetWidth - 4, 4))}px`;
    tip.style.top = `${Math.min(top, clientHeight - tip.offsetHeight - 4)}px`;
  }

  // Pictures in

  #takePictures() {
    const file = $("file");
    for (const button of document.querySelectorAll("[data-do=file]")) button.addEventListener("click", () => file.click());
    for (const button of document.querySelectorAll("[data-do=camera]")) {
      button.addEventListener("click", () => this.session.openCamera());
    }
    file.addEventListener("change", () => {
      this.#openFirst([...file.files]);
      file.value = ""; // so that the same file can be chosen again
    });
    for (const place of document.querySelectorAll(".thumbs")) {
      for (const sample of SAMPLES) place.append(this.#sampleButton(sample));
    }
    document.addEventListener("paste", (event) => {
      const files = filesOf(event.clipboardData);
      if (files.length) event.preventDefault();
      this.#openFirst(files);
    });
    let depth = 0; // drags enter and leave every element on the way
    const over = (step) => (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      depth = Math.max(depth + step, 0);
      document.body.classList.toggle("dropping", depth > 0);
    };
    document.addEventListener("dragenter", over(1));
    document.addEventListener("dragleave", over(-1));
    document.addEventListener("dragover", over(0));
    document.addEventListener("drop", (event) => {
      event.preventDefault();
      depth = 0;
      document.body.classList.remove("dropping");
      this.#openFirst(filesOf(event.dataTransfer));
    });
  }

  #sampleButton({ file, label }) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-label", label);
    const image = document.createElement("img");
    image.alt = "";
    image.src = `static/samples/${file}`;
    button.append(image);
    button.addEventListener("click", () => this.session.openSample(file));
    return button;
  }

  async #openFirst(files) {
    if (!files.length) return;
    const opened = this.session.open(files[0]);
    if (files.length > 1) $("status").textContent = `The first of ${files.length} files.`;
    await opened;
  }

  /** Makes room for a picture; whoever had the focus on the first page goes on from the picture. */
  #openWork() {
    if (document.body.dataset.state === "work") return;
    const inIntro = $("intro").contains(document.activeElement);
    document.body.dataset.state = "work";
    $("intro").hidden = true;
    $("stage").hidden = $("panel").hidden = false;
    if (inIntro) $("view").focus({ preventScroll: true });
  }

  // Keys on the canvas

  #takeKeys() {
    const { view } = this;
    const ofPicture = {
      "+": () => view.zoom(1.6),
      "=": () => view.zoom(1.6),
      "-": () => view.zoom(1 / 1.6),
      0: () => view.fit(),
    };
    const ofPerson = {
      ArrowRight: () => this.#stepKeypoint(1),
      ArrowLeft: () => this.#stepKeypoint(-1),
      ArrowDown: () => this.#stepPerson(1),
      ArrowUp: () => this.#stepPerson(-1),
      f: () => this.#zoomTo("face"),
      l: () => this.#zoomTo("left_hand"),
      r: () => this.#zoomTo("right_hand"),
      Escape: () => this.#point(null),
    };
    const moves = { ArrowRight: [-60, 0], ArrowLeft: [60, 0], ArrowDown: [0, -60], ArrowUp: [0, 60] };
    $("view").addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const name = event.key.length === 1 ? event.key.toLowerCase() : event.key;
      const parts = { f: "face", l: "left_hand", r: "right_hand" };
      if (parts[name] && !this.#skeleton.parts.some((part) => part.name === parts[name])) return;
      if (event.shiftKey && moves[name]) view.shift(...moves[name]);
      else if (ofPicture[name]) ofPicture[name]();
      else if (ofPerson[name] && this.session.person) ofPerson[name]();
      else return;
      event.preventDefault();
    });
  }

  #stepKeypoint(by) {
    const { person, chosen } = this.session;
    const shown = shownKeypoints(person, this.#skeleton, this.panel.settings);
    const indices = [...shown.keys()].filter((index) => shown[index]);
    if (!indices.length) return this.#say("No keypoint is above the threshold.");
    const at = this.#active?.person === chosen ? indices.indexOf(this.#active.keypoint) : -1;
    const next = at < 0 ? (by > 0 ? 0 : indices.length - 1) : (at + by + indices.length) % indices.length;
    this.#point({ person: chosen, keypoint: indices[next] });
    this.view.bringIntoSight(...person.keypoints[indices[next]]);
    this.#say(this.#tell(this.#active).join(", "));
  }

  #stepPerson(by) {
    const count = this.session.people.length;
    this.#choose((this.session.chosen + by + count) % count);
    this.#say(`Person ${this.session.chosen + 1} of ${count}, score ${this.session.person.score.toFixed(2)}`);
  }

  #say(words) {
    $("said").textContent = words;
  }
}

start();
