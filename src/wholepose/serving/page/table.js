// The canvas in words: every keypoint of the chosen person as a row of a table.

import { deviationOf } from "./paint.js";

export class KeypointTable {
  #box;
  #rows = []; // [{element, cells}] by keypoint
  #active = null;
  #latest = null;

  /**
   * @param box The <details> element with the table; rows are filled in while it is open.
   * @param skeleton A Skeleton.
   * @param onPointed Called with a keypoint's index, or null, while one points at its row.
   */
  constructor(box, skeleton, onPointed) {
    this.#box = box;
    const table = box.querySelector("table");
    for (const part of skeleton.parts) {
      const body = document.createElement("tbody");
      const heading = document.createElement("tr");
      const title = document.createElement("th");
      title.scope = "rowgroup";
      title.colSpan = 5;
      title.textContent = part.label;
      heading.append(title);
      body.append(heading);
      for (const index of part.indices) body.append(this.#row(skeleton, index, onPointed));
      table.append(body);
    }
    table.addEventListener("pointerleave", () => onPointed(null));
    box.addEventListener("toggle", () => this.#fill());
  }

  #row(skeleton, index, onPointed) {
    const element = document.createElement("tr");
    const name = document.createElement("th");
    name.scope = "row";
    name.textContent = skeleton.labels[index];
    name.title = skeleton.keypointNames[index];
    const cells = [0, 1, 2, 3].map(() => document.createElement("td"));
    element.append(name, ...cells);
    element.addEventListener("pointerenter", (event) => {
      if (event.pointerType === "mouse") onPointed(index);
    });
    element.addEventListener("click", () => onPointed(index));
    this.#rows[index] = { element, cells };
    return element;
  }

  /** Shows a person, or nobody where `person` is null. */
  update(person, caption, threshold) {
    this.#latest = { person, caption, threshold };
    this.#fill();
  }

  /** Marks the row of a keypoint, and scrolls to it within the table. */
  point(index) {
    if (index === this.#active) return;
    this.#rows[this.#active]?.element.classList.remove("active");
    this.#active = index;
    const row = this.#rows[index]?.element;
    if (!row || !this.#box.open) return;
    row.classList.add("active");
    if (row.matches(":hover")) return;
    const frame = row.closest(".scroll");
    frame.scrollTop += row.getBoundingClientRect().top - frame.getBoundingClientRect().top - frame.clientHeight / 2;
  }

  #fill() {
    if (!this.#box.open || !this.#latest) return;
    const { person, caption, threshold } = this.#latest;
    this.#box.querySelector("caption").textContent = caption;
    this.#rows.forEach(({ element, cells }, index) => {
      const [x, y, score] = person ? person.keypoints[index] : [];
      const deviation = person?.covariances ? deviationOf(person.covariances[index]) : undefined;
      const words = [x?.toFixed(1), y?.toFixed(1), score?.toFixed(2), deviation?.toFixed(1)];
      cells.forEach((cell, column) => (cell.textContent = words[column] ?? ""));
      element.classList.toggle("faint", !(score > threshold));
    });
  }
}
