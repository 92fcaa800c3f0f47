// The server's answers, and its refusals as errors that say what to do.

const KEY_NAME = "wholepose-key";
const MOST_TRIES = 12;
const SENDABLE = /^[\x20-\x7e]+$/; // all that a server's key may hold; beyond it `fetch` throws
const UNPRINTABLE = /[\p{Cc}\p{Cs}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069]/gu;

/** What the server, or the way to it, refused. */
export class ApiError extends Error {
  /**
   * @param code The server's own code, "unreachable", or "changed" where the file can no longer be read.
   * @param message For people.
   * @param status HTTP status, 0 where no answer came.
   * @param retryAfterS When to try again, with status 503.
   */
  constructor(code, message, status = 0, retryAfterS = 1) {
    super(message);
    this.code = code;
    this.status = status;
    this.retryAfterS = retryAfterS;
  }
}

/** Remembers the server's key until the tab is closed. */
export function setKey(key) {
  sessionStorage.setItem(KEY_NAME, key);
}

/** Whether a key was given. */
export function hasKey() {
  return sessionStorage.getItem(KEY_NAME) !== null;
}

/** The models and limits of the server. */
export async function fetchModels() {
  return (await request("v1/models")).json();
}

/**
 * Asks for the poses of a picture, and asks again while the server is busy.
 * @param picture A Blob with the picture as the file holds it.
 * @param options name, whole (one person fills the picture), boxes (where people are, where that is known), signal,
 *   onWait(seconds) before each wait.
 * @returns {text, document, tookMs}: the answer as it came, and parsed, and how long it took the last time.
 */
export async function fetchPoses(picture, { name, whole, boxes = [], signal, onWait }) {
  const query = new URLSearchParams({ uncertainty: "true", name: plain(name) });
  if (whole) query.set("whole_image", "true");
  else if (boxes.length) query.set("boxes", boxes.map((box) => box.join(",")).join(";"));
  const type = picture.type.startsWith("image/") ? picture.type : "application/octet-stream";
  for (let attempt = 1; ; attempt++) {
    const started = performance.now();
    try {
      const response = await request(`v1/poses?${query}`, {
        method: "POST",
        body: picture,
        headers: { "Content-Type": type },
        signal,
      });
      const text = await response.text();
      return { text, document: JSON.parse(text), tookMs: performance.now() - started };
    } catch (error) {
      if (error.status !== 503 || attempt === MOST_TRIES) throw error;
      signal?.throwIfAborted(); // it may have been stopped while the refusal was read
      onWait?.(error.retryAfterS);
      // A little later than told, each page by another bit, so that those who wait do not all come at once.
      await pause(1000 * error.retryAfterS * (1 + 0.2 * Math.random()), signal);
    }
  }
}

/** A file's name as the server takes it: 200 characters at most, none that cannot be printed. */
function plain(name) {
  return name.slice(-200).replace(UNPRINTABLE, " ");
}

/** Whether a file is still what was opened: browsers read it when it is sent, and then only as it was. */
function unchanged(file) {
  return file.slice(0, 1).arrayBuffer().then(() => true, () => false);
}

/**
 * Fetches something of this server, with the key that was given.
 * @throws {ApiError} It did not come.
 */
export async function request(path, { headers = {}, ...options } = {}) {
  const key = sessionStorage.getItem(KEY_NAME) ?? "";
  const all = SENDABLE.test(key) ? { ...headers, Authorization: `Bearer ${key}` } : headers;
  let response;
  try {
    response = await fetch(path, { ...options, headers: all });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (options.body && !(await unchanged(options.body))) {
      throw new ApiError("changed", "The file was changed or moved; open it again.");
    }
    throw new ApiError("unreachable", "The server does not answer. Is “wholepose serve” still running?");
  }
  if (response.ok) return response;
  let told = {};
  try {
    told = (await response.json()).error ?? {};
  } catch {
    // A proxy's own page, which says nothing to people here.
  }
  throw new ApiError(
    told.code ?? "unknown",
    told.message ?? `The server answered with status ${response.status}.`,
    response.status,
    Number(response.headers.get("Retry-After")) || 1,
  );
}

/** Waits, unless the signal is aborted first. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const stopped = () => reject(new DOMException("stopped", "AbortError"));
    if (signal?.aborted) return stopped();
    const end = () => {
      clearTimeout(timer);
      stopped();
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", end);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", end, { once: true });
  });
}
