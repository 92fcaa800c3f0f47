// Poses painted onto a 2D canvas: the looks of `wholepose.draw`, on the screen and in pictures to keep.

import { BODY, FINE, HEAD } from "./skeleton.js";

// Line widths and joint radii as a share of the longer side of a person's box, for body, head, and face and hands.
const LINE_SHARES = [0.011, 0.006, 0.0035];
const RADIUS_SHARES = [0.01, 0.006, 0.0035];
const LEAST_RADII = [1, 0.8, 0.6];
// On the screen lines stop growing when one zooms in, so that they do not hide what one looks at.
const SCREEN_LINES = [6, 4, 2];
const SCREEN_RADII = [5.5, 4.5, 3];
const OPENCV_SOFT = 2; // its lines reach so much beyond the width one asks for
const OUTLINE = "rgb(25 25 30)";
const HALO = "rgb(25 25 30 / 0.45)";
const SIGMAS_SHOWN = 2;

/**
 * Half axes, in pixels, and angle of the ellipse of one standard deviation.
 * @param covariance [xx, xy, yy] px^2.
 */
export function ellipseOf([xx, xy, yy]) {
  const middle = (xx + yy) / 2;
  const spread = Math.hypot((xx - yy) / 2, xy);
  return {
    major: Math.sqrt(Math.max(middle + spread, 0)),
    minor: Math.sqrt(Math.max(middle - spread, 0)),
    angle: Math.atan2(2 * xy, xx - yy) / 2,
  };
}

/** One standard deviation along an axis, in pixels: the mean of the two axes' variances, rooted. */
export function deviationOf([xx, , yy]) {
  return Math.sqrt(Math.max((xx + yy) / 2, 0));
}

/** Whether each keypoint of a person is shown: it scores above the threshold, and its part is not switched off. */
export function shownKeypoints(person, skeleton, { threshold, hidden }) {
  return person.keypoints.map(([, , score], index) => score > threshold && !hidden.has(skeleton.partOf[index]));
}

/**
 * Paints people, the first on top.
 * @param context A 2D context whose units are pixels of the screen, or of the picture where `scale` is 1.
 * @param scene skeleton, people, threshold, hidden (names of parts), boxes, ellipses (whether to show), chosen (index),
 *   active ({person, keypoint} or null), emphasised (index of a person beside whom others fade, or null).
 * @param camera place(x, y) -> [x, y] on the canvas; scale, canvas pixels a picture pixel; mirror; diagonal of the
 *   picture in its pixels; keep: whether this is a picture to keep and not the screen.
 */
export function paintPeople(context, scene, camera) {
  context.lineCap = "round";
  context.lineJoin = "round";
  for (let index = scene.people.length - 1; index >= 0; index--) {
    const faded = scene.emphasised !== null && scene.emphasised !== index;
    context.globalAlpha = faded ? 0.2 : 1;
    paintPerson(context, scene, camera, index);
  }
  context.globalAlpha = 1;
  if (!camera.keep && scene.people.length > 1) paintCorners(context, scene.people[scene.chosen], camera);
  if (scene.active) paintActive(context, scene, camera);
}

function paintPerson(context, scene, camera, index) {
  const { skeleton } = scene;
  const person = scene.people[index];
  const [x1, y1, x2, y2] = person.box;
  const size = Math.min(Math.max(Math.abs(x2 - x1), Math.abs(y2 - y1), 1), camera.diagonal);
  const limit = (value, most) => (camera.keep ? value : Math.min(value, most));
  const whole = (value) => (camera.keep ? Math.round(value) : value);
  const widths = LINE_SHARES.map((share, level) =>
    limit(Math.max(1, whole(share * size * camera.scale)), SCREEN_LINES[level]),
  );
  const radii = RADIUS_SHARES.map((share, level) =>
    limit(Math.max(LEAST_RADII[level], share * size * camera.scale), SCREEN_RADII[level]),
  );
  const shown = shownKeypoints(person, skeleton, scene);
  const places = person.keypoints.map(([x, y]) => camera.place(x, y));
  const edges = skeleton.edges.filter(({ start, end }) => shown[start] && shown[end]);

  if (scene.boxes) paintBox(context, person, camera, limit(Math.max(1, LINE_SHARES[FINE] * size * camera.scale), 1.5));
  if (scene.ellipses && person.covariances) {
    context.lineWidth = 1;
    shown.forEach((visible, keypoint) => {
      if (!visible) return;
      traceEllipse(context, places[keypoint], person.covariances[keypoint], camera);
      context.strokeStyle = skeleton.colors[keypoint];
      context.stroke();
    });
  }

  const rim = Math.floor((Math.round(widths[BODY]) + 2) / 4); // none about lines of one pixel
  const soft = camera.keep ? OPENCV_SOFT : 0;
  for (const levels of [[BODY, HEAD], [FINE]]) {
    const extra = levels[0] === BODY ? rim : !camera.keep && widths[FINE] >= 1.5 ? 0.75 : 0;
    for (const outline of extra ? [true, false] : [false]) {
      const more = outline ? extra : 0;
      const under = levels[0] === BODY ? OUTLINE : HALO;
      for (const { start, end, color, level } of edges) {
        if (!levels.includes(level)) continue;
        context.beginPath();
        context.moveTo(...places[start]);
        context.lineTo(...places[end]);
        context.strokeStyle = outline ? under : color;
        context.lineWidth = widths[level] + 2 * more + soft;
        context.stroke();
      }
      places.forEach(([x, y], keypoint) => {
        const level = skeleton.levels[keypoint];
        if (!shown[keypoint] || !levels.includes(level)) return;
        context.beginPath();
        context.arc(x, y, radii[level] + more, 0, 2 * Math.PI);
        context.fillStyle = outline ? under : skeleton.colors[keypoint];
        context.fill();
      });
    }
  }
}

function paintBox(context, person, camera, width) {
  const [left, top] = camera.place(person.box[0], person.box[1]);
  const [right, bottom] = camera.place(person.box[2], person.box[3]);
  const sides = [Math.min(left, right), top, Math.abs(right - left), bottom - top];
  context.lineWidth = width + 2;
  context.strokeStyle = HALO;
  context.strokeRect(...sides);
  context.lineWidth = width;
  context.strokeStyle = "white";
  context.strokeRect(...sides);
}

/** The corners of the chosen person's box, so that one sees whom the buttons and the table are about. */
function paintCorners(context, person, camera) {
  const [ax, ay] = camera.place(person.box[0], person.box[1]);
  const [bx, by] = camera.place(person.box[2], person.box[3]);
  const length = Math.min(14, Math.abs(bx - ax) / 4, Math.abs(by - ay) / 4);
  context.beginPath();
  for (const [x, towards] of [[ax, Math.sign(bx - ax)], [bx, Math.sign(ax - bx)]]) {
    for (const [y, down] of [[ay, 1], [by, -1]]) {
      context.moveTo(x + towards * length, y);
      context.lineTo(x, y);
      context.lineTo(x, y + down * length);
    }
  }
  context.lineWidth = 3.5;
  context.strokeStyle = HALO;
  context.stroke();
  context.lineWidth = 1.5;
  context.strokeStyle = "white";
  context.stroke();
}

/** The path of the ellipse of two standard deviations. */
function traceEllipse(context, [x, y], covariance, { scale, mirror }) {
  const { major, minor, angle } = ellipseOf(covariance);
  const reach = SIGMAS_SHOWN * scale;
  context.beginPath();
  context.ellipse(x, y, major * reach, minor * reach, mirror ? -angle : angle, 0, 2 * Math.PI);
}

/** The keypoint one points at: its ellipse, and a ring about it. */
function paintActive(context, { skeleton, people, active }, camera) {
  const person = people[active.person];
  const [x, y] = person.keypoints[active.keypoint];
  const place = camera.place(x, y);
  const color = skeleton.colors[active.keypoint];
  if (person.covariances) {
    traceEllipse(context, place, person.covariances[active.keypoint], camera);
    context.globalAlpha = 0.14;
    context.fillStyle = color;
    context.fill();
    context.globalAlpha = 1;
    context.lineWidth = 3;
    context.strokeStyle = HALO;
    context.stroke();
    context.lineWidth = 1.5;
    context.strokeStyle = color;
    context.stroke();
  }
  context.beginPath();
  context.arc(...place, 7, 0, 2 * Math.PI);
  context.lineWidth = 4;
  context.strokeStyle = OUTLINE;
  context.stroke();
  context.lineWidth = 2;
  context.strokeStyle = "white";
  context.stroke();
}
