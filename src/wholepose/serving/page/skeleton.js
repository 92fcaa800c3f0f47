// What the page needs to know of a skeleton: names to read, parts, and lines with their colours.

export const BODY = 0;
export const HEAD = 1;
export const FINE = 2;

// The 68 points of a face by their number; left and right are the person's own.
const FACE_REGIONS = [
  [0, 16, "jaw"], [17, 21, "right brow"], [22, 26, "left brow"], [27, 30, "bridge of the nose"], [31, 35, "nostrils"],
  [36, 41, "right eye rim"], [42, 47, "left eye rim"], [48, 59, "outer lips"], [60, 67, "inner lips"],
];
const OWN_NAMES = { head: "top of the head", hip: "middle of the hips" };
const PART_NAMES = { body: "Body", feet: "Feet", face: "Face", left_hand: "Left hand", right_hand: "Right hand" };

/** A keypoint's name as people say it: "left_forefinger3" is "left forefinger 3". */
function readable(name) {
  const face = /^face-(\d+)$/.exec(name);
  if (face) {
    const index = Number(face[1]);
    const region = FACE_REGIONS.find(([first, last]) => first <= index && index <= last);
    return region ? `${region[2]} ${index - region[0] + 1}` : `face ${index}`;
  }
  return OWN_NAMES[name] ?? name.replaceAll("_", " ").replace(/([a-z])(\d+)$/, "$1 $2");
}

export class Skeleton {
  /** @param described The `skeleton` of a model of `GET v1/models`. */
  constructor(described) {
    this.name = described.name;
    this.keypointNames = described.keypoint_names;
    this.labels = described.keypoint_names.map(readable);
    this.parts = Object.entries(described.parts).map(([name, indices]) => ({
      name,
      label: PART_NAMES[name] ?? readable(name),
      indices,
    }));
    this.partOf = new Array(this.labels.length);
    for (const part of this.parts) for (const index of part.indices) this.partOf[index] = part.name;
    this.colors = described.keypoint_colors.map(([red, green, blue]) => `rgb(${red} ${green} ${blue})`);
    this.levels = this.keypointNames.map((name, index) => this.#level(name, index));
    this.edges = described.edges.map(({ start, end, color: [red, green, blue] }) => ({
      start,
      end,
      color: `rgb(${red} ${green} ${blue})`,
      level: Math.max(this.levels[start], this.levels[end]),
    }));
  }

  /** How fine lines at a keypoint are, by the rules of `wholepose.draw`. */
  #level(name, index) {
    if (["nose", "head", "head_top"].includes(name) || /_(eye|ear)$/.test(name)) return HEAD;
    return this.partOf[index] === "face" || this.partOf[index].endsWith("hand") ? FINE : BODY;
  }

  /** The colour of a keypoint of that name, or null where the skeleton has none. */
  colorOf(name) {
    const index = this.keypointNames.indexOf(name);
    return index < 0 ? null : this.colors[index];
  }
}
