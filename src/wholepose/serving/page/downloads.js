// Files to keep: the server's document, and the picture with its poses.

import { paintPeople } from "./paint.js";
import { toBlob } from "./pictures.js";

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

function stem(name) {
  return name.replace(/\.\w{1,5}$/, "") || "picture";
}

/** The document of one picture, byte for byte as the server sent it. */
export function saveDocument(text, name) {
  save(new Blob([text], { type: "application/json" }), `${stem(name)}.json`);
}

/**
 * The frames of a video as one document of the `json` format (docs/formats.md).
 * @param frames [{index, timeS, text}] in order; each text is the server's document of the frame.
 */
export function saveClip(frames, name) {
  const lines = frames.map(({ index, timeS, text }) => {
    const { image, ...rest } = JSON.parse(text);
    return { frame: index, time_s: timeS, image, ...rest };
  });
  const { skeleton, model } = lines[0];
  const document = { skeleton, model, frames: lines };
  save(new Blob([JSON.stringify(document), "\n"], { type: "application/json" }), `${stem(name)}.json`);
}

/**
 * The picture with its poses, at its own size, in the looks of `wholepose predict --draw`.
 * @param scene What the canvas shows of the poses.
 */
export async function savePicture(picture, [width, height], scene, name) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d");
  if (picture) context.drawImage(picture, 0, 0, width, height);
  paintPeople(
    context,
    { ...scene, active: null, emphasised: null },
    {
      place: (x, y) => [x + 0.5, y + 0.5], // a canvas counts from the corner of a pixel, keypoints from its centre
      scale: 1,
      mirror: false,
      diagonal: Math.hypot(width, height),
      keep: true,
    },
  );
  save(await toBlob(canvas, "image/png"), `${stem(name)}_poses.png`);
}
