// Requests to the page's own server.

const POLL_MS = 1000;
const MAX_TRIES = 5;
const MAX_WAIT_S = 10;

/** A failed request, with the server's own message where there is one. `lost`: the server is gone. */
export class Refusal extends Error {
  constructor(title, message, lost = false) {
    super(message);
    this.title = title;
    this.lost = lost;
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Returns JSON; null where the path has none. */
export async function read(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  return response.ok ? response.json() : null;
}

/** Calls `say(state, words)` until the model is ready. */
export async function untilReady(say) {
  for (;;) {
    try {
      const response = await fetch("ping", { cache: "no-store" });
      if (response.ok) {
        say("ready", "Ready");
        return;
      }
      const { code, message } = await errorOf(response);
      say(code === "loading" ? "loading" : "lost", code === "loading" ? "The model is starting" : message);
    } catch {
      say("lost", "The server does not respond");
    }
    await pause(POLL_MS);
  }
}

/** Returns the answer to a photo, the milliseconds it took, and those of the server where known. */
export async function ask(photo) {
  const { response, began } = await post("invocations", photo);
  const answer = await response.json();
  return { answer, total: performance.now() - began, server: serverTime(response) };
}

/** Returns a picture of where the model looked in a photo. */
export async function explain(photo) {
  return (await post("explain", photo)).response.blob();
}

/** Sends a photo, with retries where the server is busy. */
async function post(path, photo) {
  let body;
  try {
    body = await photo.arrayBuffer();
  } catch {
    throw new Refusal("No photo", "The browser cannot read that file. A folder cannot be dropped, the photos in it can.");
  }
  for (let tries = 1; ; tries += 1) {
    const began = performance.now();
    let response;
    try {
      response = await fetch(path, {
        method: "POST",
        body,
        headers: { "Content-Type": typeOf(photo) },
      });
    } catch {
      throw new Refusal("No connection", "The server does not respond. Is it still running?", true);
    }
    if (response.ok) return { response, began };
    const { message } = await errorOf(response);
    if (![429, 503].includes(response.status) || tries === MAX_TRIES) throw new Refusal(titleOf(response.status), message);
    await pause(1000 * Math.min(Number(response.headers.get("Retry-After")) || 1, MAX_WAIT_S));
  }
}

async function errorOf(response) {
  try {
    return (await response.json()).error;
  } catch {
    return { code: "", message: `The server responds with status ${response.status}.` };
  }
}

// For a file that is not an image, the server says why it cannot be read.
const typeOf = (photo) => (photo.type.startsWith("image/") ? photo.type : "application/octet-stream");

function titleOf(status) {
  return { 413: "Too large", 422: "Unreadable photo", 429: "Too many requests", 503: "Busy" }[status] ?? "Error";
}

function serverTime(response) {
  const duration = /dur=([\d.]+)/.exec(response.headers.get("Server-Timing") ?? "");
  return duration ? Number(duration[1]) : null;
}
