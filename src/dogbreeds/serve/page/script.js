// The page: takes photos and shows predictions.

import { outline, setModel, showAnswer, showBusy, showNothing, showPhoto, showTrouble } from "./answer.js";
import { showCard } from "./card.js";
import { forget, look, offer } from "./explain.js";
import { listen, prepared } from "./photos.js";
import { ask, read, Refusal, untilReady } from "./server.js";
import { byId, copyOf, percent } from "./words.js";

const AT_ONCE = 2;
const EMPTY = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg'/%3E";
const photos = [];
const waiting = [];
let running = 0;
let current = null;
let ready = null;

function standing(state, words) {
  byId("standing").className = `standing ${state}`;
  byId("standing").firstElementChild.textContent = words;
}

/** Sends photos to the server, and shows the first. */
function take(files) {
  if (files.length === 0) {
    if (current === null) showTrouble("No photo", "That was not a file. Save the picture first, then drop or choose it.");
    return;
  }
  const entries = files.map((file) => ({ file, name: file.name || "pasted photo", url: URL.createObjectURL(file), found: null, trouble: null, looked: null, item: null }));
  photos.push(...entries);
  waiting.push(...entries);
  for (const button of byId("thumbs").querySelectorAll("[aria-current]")) button.removeAttribute("aria-current");
  list(entries);
  show(entries[0]);
  next();
}

function next() {
  while (running < AT_ONCE && waiting.length > 0) {
    running += 1;
    answer(waiting.shift()).finally(() => {
      running -= 1;
      next();
    });
  }
}

async function answer(entry) {
  try {
    await ready;
    entry.found = await ask(await prepared(entry.file));
  } catch (error) {
    entry.trouble = error instanceof Refusal ? error : new Refusal("Error", String(error));
    if (entry.trouble.lost) ready = untilReady(standing);
  }
  label(entry);
  if (entry === current) show(entry);
}

function show(entry) {
  if (entry !== current) showPhoto(entry.url, entry.name);
  current = entry;
  for (const one of photos) one.item?.firstElementChild.setAttribute("aria-current", String(one === entry));
  showBusy(entry.found === null && entry.trouble === null);
  if (entry.found !== null) showAnswer(entry.found);
  if (entry.trouble !== null) showTrouble(entry.trouble.title, `${entry.name}: ${entry.trouble.message}`);
  look(entry);
}

/** Lists photos under "Your photos" where there are several. */
function list(entries) {
  for (const entry of entries) {
    entry.item = copyOf("entry");
    const image = entry.item.querySelector("img");
    image.src = entry.url;
    // A file that is no photo leaves its place empty.
    image.addEventListener("error", () => { image.src = EMPTY; }, { once: true });
    entry.item.querySelector(".file").textContent = entry.name;
    entry.item.querySelector(".said").textContent = "…";
    entry.item.firstElementChild.addEventListener("click", () => {
      show(entry);
      byId("stage").scrollIntoView({ block: "nearest" });
    });
  }
  byId("gallery").prepend(...entries.map((entry) => entry.item));
  byId("yours").hidden = photos.length < 2;
}

function label(entry) {
  const said = entry.item.querySelector(".said");
  entry.item.classList.toggle("bad", entry.trouble !== null);
  if (entry.trouble !== null) {
    said.textContent = entry.trouble.title;
    return;
  }
  const { breed, known, probability } = entry.found.answer;
  const share = document.createElement("b");
  share.textContent = percent(probability);
  said.replaceChildren(...(known === false ? ["None of the breeds"] : [`${breed} `, share]));
}

function clear() {
  for (const entry of photos) {
    URL.revokeObjectURL(entry.url);
    forget(entry);
  }
  photos.length = waiting.length = 0;
  current = null;
  byId("gallery").replaceChildren();
  byId("yours").hidden = true;
  showNothing();
  look(null);
}

/** Shows the example photos of the package, `{name, breed}`. */
function showExamples(examples) {
  const items = examples.map(({ name, breed }) => {
    const item = copyOf("thumb");
    const path = `examples/${encodeURIComponent(name)}`;
    item.querySelector("img").src = path;
    item.querySelector("span").textContent = breed;
    item.firstElementChild.addEventListener("click", async () => {
      try {
        const content = await (await fetch(path)).blob();
        take([new File([content], breed, { type: content.type })]);
        item.firstElementChild.setAttribute("aria-current", "true");
        byId("stage").scrollIntoView({ block: "nearest" });
      } catch {
        showTrouble("No connection", "The server does not respond. Is it still running?");
      }
    });
    return item;
  });
  byId("thumbs").replaceChildren(...items);
  byId("examples").hidden = items.length === 0;
}

showNothing();
byId("command").textContent =
  `curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' ${new URL("invocations", location.href).href}`;
byId("crop").addEventListener("click", () => outline(true));
byId("clear").addEventListener("click", clear);
listen(take);
ready = untilReady(standing);
for (const [path, shown] of [["examples", showExamples], ["card", (card) => { setModel(card); showCard(card); offer(card); }]]) {
  read(path).then((found) => { if (found !== null) shown(found); }, () => standing("lost", "The server does not respond"));
}
// The engine is known once it runs.
ready.then(async () => {
  const card = await read("card").catch(() => null);
  if (card !== null) showCard(card);
});
