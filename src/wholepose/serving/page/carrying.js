// Between two searches for people, the camera's people are looked for where their keypoints just were, as
// `wholepose predict` does with videos: the search takes most of the time.

const SCORE_FLOOR = 0.2;
const BOX_MARGIN = 0.1; // of the keypoints' extent, on each side
const FEWEST_KEYPOINTS = 4;
const LARGEST_CHANGE = 1.25; // of a box's side from one picture to the next

const limited = (value, least, most) => Math.min(Math.max(value, least), most);

/** [low, high] of a person along an axis in the next picture, 0 for x and 1 for y. */
function carriedSide({ box, keypoints }, axis, length) {
  const seen = keypoints.filter(([, , score]) => score > SCORE_FLOOR).map((place) => place[axis]);
  let [low, high] = [box[axis], box[axis + 2]];
  if (seen.length >= FEWEST_KEYPOINTS) {
    const [least, most] = [Math.min(...seen), Math.max(...seen)];
    const before = high - low;
    const side = limited((most - least) * (1 + 2 * BOX_MARGIN), before / LARGEST_CHANGE, before * LARGEST_CHANGE);
    [low, high] = [(least + most - side) / 2, (least + most + side) / 2];
  }
  return [limited(low, 0, length), limited(high, 0, length)];
}

/**
 * Where to look for people in the next picture.
 * @param people Of the picture before.
 * @param size [width, height] of the next one.
 * @returns [{box: [x1, y1, x2, y2], score}], without those who have left.
 */
export function carriedBoxes(people, [width, height]) {
  return people
    .map((person) => {
      const [[x1, x2], [y1, y2]] = [carriedSide(person, 0, width), carriedSide(person, 1, height)];
      return { box: [x1, y1, x2, y2].map((value) => Number(value.toFixed(3))), score: person.box_score };
    })
    .filter(({ box: [x1, y1, x2, y2] }) => x2 - x1 >= 1 && y2 - y1 >= 1);
}

/** The answer about carried boxes, with the scores that the search gave them; the server takes given boxes for sure. */
export function withScores({ document }, carried) {
  document.people.forEach((person, index) => {
    person.box_score = carried[index].score;
    person.score = Number((person.score * person.box_score).toFixed(5));
  });
  return { document, text: `${JSON.stringify(document)}\n` };
}

/** How much two boxes [x1, y1, x2, y2] share, 0 to 1. */
function overlap(a, b) {
  const shared =
    Math.max(Math.min(a[2], b[2]) - Math.max(a[0], b[0]), 0) * Math.max(Math.min(a[3], b[3]) - Math.max(a[1], b[1]), 0);
  const area = ([x1, y1, x2, y2]) => (x2 - x1) * (y2 - y1);
  return shared ? shared / (area(a) + area(b) - shared) : 0;
}

/** The index of a person in the next picture, whoever comes first there; 0 where they are gone. */
export function whereIs(person, people) {
  const shares = people.map(({ box }) => overlap(box, person.box));
  return Math.max(shares.indexOf(Math.max(...shares)), 0);
}
