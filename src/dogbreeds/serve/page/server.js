// What the page asks of its server, and nothing of any other.

const POLL_MS = 1000;
const MOST_TRIES = 5;
const LONGEST_WAIT_S = 10;

/** A question that got no answer; the message is the server's own where there is one. */
export class Refusal extends Error {
  constructor(title, message) {
    super(message);
    this.title = title;
  }
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Reads JSON; null where there is none at that path. */
export async function read(path) {
  const response = await fetch(path, { headers: { Accept: "application/json" } });
  return response.ok ? response.json() : null;
}

/** Tells `say(state, words)` how the model does until it is ready. */
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
      say("lost", "The server does not answer");
    }
    await pause(POLL_MS);
  }
}

/**
 * Asks for the breeds in a photo, patiently where the server is busy.
 * Returns the answer, the milliseconds it took, and those of the server where it tells them.
 */
export async function ask(photo) {
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
      response = await fetch("invocations", {
        method: "POST",
        body,
        headers: { "Content-Type": typeOf(photo), Accept: "application/json" },
      });
    } catch {
      throw new Refusal("No answer", "The server does not answer. Is it still running?");
    }
    if (response.ok) {
      const answer = await response.json();
      return { answer, total: performance.now() - began, server: serverTime(response) };
    }
    const { message } = await errorOf(response);
    if (![429, 503].includes(response.status) || tries === MOST_TRIES) throw new Refusal(titleOf(response.status), message);
    await pause(1000 * Math.min(Number(response.headers.get("Retry-After")) || 1, LONGEST_WAIT_S));
  }
}

async function errorOf(response) {
  try {
    return (await response.json()).error;
  } catch {
    return { code: "", message: `The server answers with status ${response.status}.` };
  }
}

// Of a file that is no image the server is to say why it cannot be read, whatever the browser calls its type.
const typeOf = (photo) => (photo.type.startsWith("image/") ? photo.type : "application/octet-stream");

function titleOf(status) {
  return { 413: "Too large", 422: "No photo that can be read", 429: "Too many at once", 503: "Busy" }[status] ?? "No answer";
}

function serverTime(response) {
  const duration = /dur=([\d.]+)/.exec(response.headers.get("Server-Timing") ?? "");
  return duration ? Number(duration[1]) : null;
}
