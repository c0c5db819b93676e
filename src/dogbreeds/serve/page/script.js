// The page: photos come in, answers come out.

import { outline, setEye, showAnswer, showBusy, showNothing, showPhoto, showTrouble } from "./answer.js";
import { showCard } from "./card.js";
import { listen, prepared } from "./photos.js";
import { ask, read, Refusal, untilReady } from "./server.js";
import { byId, copyOf, percent } from "./words.js";

const AT_ONCE = 2;
const asked = [];
const waiting = [];
let under_way = 0;
let current = null;
let ready = null;

function standing(state, words) {
  byId("standing").className = `standing ${state}`;
  byId("standing").firstElementChild.textContent = words;
}

/** Asks about photos; the first of them is shown. `name` is null for photos of the package. */
function take(files) {
  if (files.length === 0) {
    if (current === null) showTrouble("No photo", "That was no file. Save the picture first, then drop or choose it.");
    return;
  }
  const entries = files.map((file) => ({ file, name: file.name || "pasted photo", url: URL.createObjectURL(file), found: null, trouble: null, item: null }));
  asked.push(...entries);
  waiting.push(...entries);
  for (const button of byId("thumbs").querySelectorAll("[aria-current]")) button.removeAttribute("aria-current");
  list(entries);
  show(entries[0]);
  next();
}

function next() {
  while (under_way < AT_ONCE && waiting.length > 0) {
    under_way += 1;
    answer(waiting.shift()).finally(() => {
      under_way -= 1;
      next();
    });
  }
}

async function answer(entry) {
  try {
    await ready;
    entry.found = await ask(await prepared(entry.file));
  } catch (error) {
    entry.trouble = error instanceof Refusal ? error : new Refusal("No answer", String(error));
  }
  label(entry);
  if (entry === current) show(entry);
}

function show(entry) {
  if (entry !== current) showPhoto(entry.url, entry.name);
  current = entry;
  for (const one of asked) one.item?.firstElementChild.setAttribute("aria-current", String(one === entry));
  showBusy(entry.found === null && entry.trouble === null);
  if (entry.found !== null) showAnswer(entry.found);
  if (entry.trouble !== null) showTrouble(entry.trouble.title, entry.trouble.message);
}

/** Lists photos under "Your photos", which one alone does not need. */
function list(entries) {
  for (const entry of entries) {
    entry.item = copyOf("entry");
    entry.item.querySelector("img").src = entry.url;
    entry.item.querySelector(".file").textContent = entry.name;
    entry.item.querySelector(".said").textContent = "…";
    entry.item.firstElementChild.addEventListener("click", () => {
      show(entry);
      byId("stage").scrollIntoView({ block: "nearest" });
    });
  }
  byId("gallery").prepend(...entries.map((entry) => entry.item));
  byId("yours").hidden = asked.length < 2;
}

function label(entry) {
  const said = entry.item.querySelector(".said");
  entry.item.classList.toggle("bad", entry.trouble !== null);
  if (entry.trouble !== null) {
    said.textContent = entry.trouble.title;
    return;
  }
  const share = document.createElement("b");
  share.textContent = percent(entry.found.answer.probability);
  said.replaceChildren(`${entry.found.answer.breed} `, share);
}

function clear() {
  for (const entry of asked) URL.revokeObjectURL(entry.url);
  asked.length = waiting.length = 0;
  current = null;
  byId("gallery").replaceChildren();
  byId("yours").hidden = true;
  showNothing();
}

/** Shows the photos that the package carries: names, or `{name, breed}`. */
function showExamples(examples) {
  const items = examples.map((example, number) => {
    const { name, breed } = typeof example === "string" ? { name: example, breed: null } : example;
    const item = copyOf("thumb");
    const words = breed ?? `Example ${number + 1}`;
    const path = `examples/${encodeURIComponent(name)}`;
    item.querySelector("img").src = path;
    item.querySelector("span").textContent = words;
    item.firstElementChild.addEventListener("click", async () => {
      try {
        const content = await (await fetch(path)).blob();
        take([new File([content], words, { type: content.type })]);
        item.firstElementChild.setAttribute("aria-current", "true");
        byId("stage").scrollIntoView({ block: "nearest" });
      } catch {
        showTrouble("No answer", "The server does not answer. Is it still running?");
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
for (const [path, shown] of [["examples", showExamples], ["card", (card) => { setEye(card.image); showCard(card); }]]) {
  read(path).then((found) => { if (found !== null) shown(found); }, () => standing("lost", "The server does not answer"));
}
// The engine is known when it runs.
ready.then(async () => {
  const card = await read("card").catch(() => null);
  if (card !== null) showCard(card);
});
