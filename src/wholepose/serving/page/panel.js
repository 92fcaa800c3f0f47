// What stands beside the picture: the people, what to show of them, and how sure the model must be.

import { shownKeypoints } from "./paint.js";

const THUMB = 44; // CSS pixels
const PORTRAIT_MS = 1000;

/** An element with a class and a text. */
function make(tag, className = "", text = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = text;
  return element;
}

/** The square [left, top, side] about a person's head, if it is seen, else at the top of their box. */
function portraitBox(person, skeleton) {
  const [x1, y1, x2, y2] = person.box;
  const seen = skeleton.keypointNames
    .map((name, index) => [name, person.keypoints[index]])
    .filter(([name, [, , score]]) => score > 0.25 && /^(nose|head|face-\d+|(left|right)_(eye|ear))$/.test(name))
    .map(([, place]) => place);
  const [left, right] = [Math.min(...seen.map(([x]) => x)), Math.max(...seen.map(([x]) => x))];
  const [top, bottom] = [Math.min(...seen.map(([, y]) => y)), Math.max(...seen.map(([, y]) => y))];
  const side = 1.7 * Math.max(right - left, bottom - top, 8);
  if (seen.length < 3 || side > Math.max(x2 - x1, y2 - y1)) {
    const least = Math.min(x2 - x1, y2 - y1);
    return [(x1 + x2 - least) / 2, y1, least];
  }
  return [(left + right - side) / 2, (top + bottom - side) / 2, side];
}

export class Panel {
  #skeleton;
  #on;
  #find;
  #zooms = new Map();
  #drawn = 0; // when the small pictures of people were

  /**
   * Fills in what depends on the skeleton, and listens.
   * @param skeleton A Skeleton.
   * @param on changed(settings) when what to show changes; chosen(index) when a person is picked; emphasised(index or
   *   null) while one points at a person in the list; zoomed(part name).
   */
  constructor(skeleton, on) {
    this.#skeleton = skeleton;
    this.#on = on;
    this.#find = (id) => document.getElementById(id);
    this.settings = { threshold: 0.3, hidden: new Set(), boxes: false, ellipses: false };
    for (const part of skeleton.parts) this.#addPart(part);
    this.#addLegend();
    const threshold = this.#find("threshold");
    threshold.addEventListener("input", () => this.#change({ threshold: Number(threshold.value) }));
    for (const name of ["boxes", "ellipses"]) {
      const box = this.#find(`show-${name}`);
      box.checked = false; // browsers put back what was checked before a reload
      box.addEventListener("change", () => this.#change({ [name]: box.checked }));
    }
    threshold.value = String(this.settings.threshold);
    this.#find("people").addEventListener("pointerleave", () => on.emphasised(null));
  }

  #change(settings) {
    Object.assign(this.settings, settings);
    this.#find("threshold-value").textContent = this.settings.threshold.toFixed(2);
    this.#on.changed();
  }

  #addPart(part) {
    const label = make("label");
    const box = document.createElement("input");
    box.type = "checkbox";
    box.checked = true;
    box.name = part.name;
    box.addEventListener("change", () => {
      this.settings.hidden[box.checked ? "delete" : "add"](part.name);
      this.#change({});
    });
    label.append(box, make("span", "", part.label));
    this.#find("parts").append(label);
    if (part.name !== "face" && !part.name.endsWith("hand")) return;
    const button = make("button", "", part.label);
    button.type = "button";
    button.title = `Zoom in on the ${part.label.toLowerCase()} (${part.label[0]})`;
    button.addEventListener("click", () => this.#on.zoomed(part.name));
    this.#find("zoom-parts").append(button);
    this.#zooms.set(part.name, button);
  }

  #addLegend() {
    for (const [name, word] of [["left_elbow", "left"], ["right_elbow", "right"]]) {
      const color = this.#skeleton.colorOf(name);
      if (!color) continue;
      const dot = make("span", "dot");
      dot.style.background = color;
      this.#find("legend").append(dot, ` ${word}  `);
    }
    this.#find("legend").append("of the person");
  }

  /**
   * Lists people.
   * @param scene people, chosen.
   * @param picture What `drawImage` takes, for small pictures of the people, or null.
   * @param live Whether this is one of many frames: those small pictures are then renewed once a second.
   */
  showPeople({ people, chosen }, picture, live) {
    const list = this.#find("people");
    const renew = !live || people.length !== list.children.length || performance.now() - this.#drawn > PORTRAIT_MS;
    if (renew) this.#drawn = performance.now();
    while (list.children.length > people.length) list.lastElementChild.remove();
    people.forEach((person, index) => {
      const button = list.children[index]?.firstElementChild ?? this.#addPerson(index);
      button.setAttribute("aria-pressed", String(index === chosen));
      button.querySelector(".score").textContent = `score ${person.score.toFixed(2)}`;
      if (renew) this.#drawPortrait(button.firstElementChild, person, picture);
    });
    this.markChosen(chosen);
  }

  markChosen(chosen) {
    [...this.#find("people").children].forEach((item, index) =>
      item.firstElementChild.setAttribute("aria-pressed", String(index === chosen)),
    );
  }

  #addPerson(index) {
    const button = make("button");
    button.type = "button";
    const portrait = document.createElement("canvas");
    portrait.setAttribute("aria-hidden", "true");
    button.append(portrait, make("span", "", `Person ${index + 1}`), " ", make("span", "score"));
    button.addEventListener("click", () => this.#on.chosen(index));
    button.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") this.#on.emphasised(index);
    });
    button.addEventListener("focus", () => button.matches(":focus-visible") && this.#on.emphasised(index));
    button.addEventListener("blur", () => this.#on.emphasised(null));
    const item = make("li");
    item.append(button);
    this.#find("people").append(item);
    return button;
  }

  #drawPortrait(canvas, person, picture) {
    const side = Math.round(THUMB * (window.devicePixelRatio || 1));
    canvas.width = canvas.height = side;
    if (!picture) return;
    const [left, top, size] = portraitBox(person, this.#skeleton);
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.scale(side / size, side / size);
    context.drawImage(picture, -left, -top);
  }

  /** Says how many keypoints of the chosen person are shown, and which parts one can zoom in on. */
  count({ people, chosen }) {
    const person = people[chosen];
    const shown = person ? shownKeypoints(person, this.#skeleton, this.settings) : [];
    const count = shown.filter(Boolean).length;
    this.#find("shown").textContent = person
      ? `Shows ${count} of ${shown.length} keypoints of person ${chosen + 1}.`
      : "";
    for (const [part, button] of this.#zooms) button.disabled = !person || this.areaOf(person, part) === null;
  }

  /** [x1, y1, x2, y2] about a part of a person, from its keypoints above the threshold, or null with fewer than 4. */
  areaOf(person, partName) {
    const { indices } = this.#skeleton.parts.find(({ name }) => name === partName);
    const places = indices.map((index) => person.keypoints[index]).filter(([, , score]) => score > this.settings.threshold);
    if (places.length < 4) return null;
    const [xs, ys] = [places.map(([x]) => x), places.map(([, y]) => y)];
    return [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  }
}
