// What can go wrong with a picture, in plain words, each with a way on.

import { hasKey, setKey } from "./api.js";
import { megabytes } from "./pictures.js";

function megapixels(pixels) {
  return `${(pixels / 1e6).toFixed(0)} million pixels`;
}

/** The server's words, which begin small and end without a full stop. */
function sentence(words) {
  return `${words.charAt(0).toUpperCase()}${words.slice(1)}${/[.!?]$/.test(words) ? "" : "."}`;
}

/** Why the server would refuse a picture, or null. `size` is [width, height], or null where it is not known. */
export function tooLarge(file, size, limits) {
  if (file.size > limits.max_body_bytes) {
    return `It has ${megabytes(file.size)}; the server takes ${megabytes(limits.max_body_bytes)}.`;
  }
  const pixels = size ? size[0] * size[1] : 0;
  if (pixels > limits.max_pixels) {
    return `It has ${megapixels(pixels)}; the server takes ${megapixels(limits.max_pixels)}.`;
  }
  return null;
}

/** @param smaller What makes and sends a smaller copy, or null where the browser cannot read the picture either. */
export function tellTooLarge(notice, why, smaller) {
  const actions = smaller ? [{ label: "Send a smaller copy", run: smaller }] : [];
  notice.show({ title: "This picture is too large.", text: why, actions });
}

export function tellNobody(notice, whole) {
  notice.show({
    title: "Nobody found in this picture.",
    text: "If one person fills it:",
    alert: false,
    actions: [{ label: "Treat the whole picture as one person", run: whole }],
  });
}

export function tellBusy(notice, seconds, stop) {
  notice.show({
    title: "The server is busy.",
    text: `Trying again in ${Math.max(1, Math.round(seconds))} s.`,
    alert: false,
    actions: [{ label: "Stop", run: stop }],
  });
}

export function tellStopped(notice, again) {
  notice.show({ title: "Stopped waiting.", alert: false, actions: [{ label: "Try again", run: again }] });
}

/**
 * Tells of an error of `fetchPoses` or of this page.
 * @param ways name of the picture; again, what tries once more; copy, what sends a copy of the picture that the browser
 *   makes, or null.
 */
export function tellError(notice, error, { name, again, copy }) {
  const retry = { label: "Try again", run: again };
  if (error.status === 401) {
    askForKey(notice, again);
  } else if (error.status === 413) {
    tellTooLarge(notice, sentence(error.message), copy);
  } else if (error.status === 422 || error.status === 415) {
    const actions = copy ? [{ label: "Send a JPEG copy", run: copy }] : [];
    notice.show({ title: `${name} cannot be read as a picture.`, text: sentence(error.message), actions });
  } else if (error.status === 503) {
    notice.show({ title: "The server is still busy.", text: sentence(error.message), actions: [retry] });
  } else {
    if (!("status" in error)) console.error(error);
    const title = error.code === "unreachable" ? "No answer." : "That did not work.";
    notice.show({ title, text: sentence(error.message), actions: [retry] });
  }
}

/** Asks for the server's key, and goes on with it. */
export function askForKey(notice, again) {
  const form = document.createElement("form");
  const label = document.createElement("label");
  const field = document.createElement("input");
  field.type = "password";
  field.autocomplete = "current-password";
  field.required = true;
  label.append("Key ", field);
  const button = document.createElement("button");
  button.textContent = "Go on";
  form.className = "row start";
  form.append(label, button);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    setKey(field.value.trim());
    notice.clear();
    again();
  });
  const title = hasKey() ? "That is not the key of this server." : "This server asks for a key.";
  notice.show({ title, text: "Whoever runs it has it.", field: form });
  field.focus();
}
