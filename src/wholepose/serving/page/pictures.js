// Pictures in: from files, the clipboard and the samples, to what the canvas shows and the server reads.

import { request } from "./api.js";

const VIDEO_ENDINGS = /\.(mp4|m4v|mov|webm|mkv|avi|ogv|mpe?g)$/i;
const SHRUNK_SIDE = 2048;
const LEAST_SIDE = 64; // no use in a smaller one

/** The samples that come with the page: pictures of made-up people. */
export const SAMPLES = [
  { file: "one.jpg", label: "Sample: one person" },
  { file: "two.jpg", label: "Sample: two people" },
];

export function isVideo(file) {
  return file.type.startsWith("video/") || (!file.type.startsWith("image/") && VIDEO_ENDINGS.test(file.name));
}

/** The upright picture for the canvas, or null where this browser cannot read it. */
export async function decode(file) {
  try {
    return await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    return null;
  }
}

export async function fetchSample(file) {
  const response = await request(`static/samples/${file}`);
  return new File([await response.blob()], file, { type: "image/jpeg" });
}

/** The pictures and videos of a drop or a paste. */
export function filesOf(transfer) {
  return [...(transfer?.files ?? [])].filter((file) => file.size > 0 || file.type);
}

/** A JPEG of a picture that the server takes: its longer side 2048 pixels at most, and less where that is too large. */
export async function shrink(picture, name, limits) {
  const { width, height } = picture;
  let share = Math.min(1, SHRUNK_SIDE / Math.max(width, height), Math.sqrt(limits.max_pixels / (width * height)));
  for (;;) {
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.floor(width * share));
    canvas.height = Math.max(1, Math.floor(height * share));
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, canvas.width, canvas.height);
    const blob = await toJpeg(canvas, 0.92);
    if (blob.size <= limits.max_body_bytes || Math.max(canvas.width, canvas.height) < LEAST_SIDE) {
      return new File([blob], `${name.replace(/\.\w+$/, "")}_small.jpg`, { type: "image/jpeg" });
    }
    share *= 0.8;
  }
}

/** What a canvas holds, as JPEG. */
export function toJpeg(canvas, quality) {
  return toBlob(canvas, "image/jpeg", quality);
}

export function toBlob(canvas, type, quality) {
  return new Promise((resolve, reject) => {
    canvas.toBlob(
      (blob) => (blob ? resolve(blob) : reject(new Error("the picture is larger than this browser can write"))),
      type,
      quality,
    );
  });
}

/** "3.1 MB" for a number of bytes. */
export function megabytes(bytes) {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}
