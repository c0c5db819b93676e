// One photo and its prediction.

import { byId, copyOf, counted, milliseconds, percent } from "./words.js";

const SURE = 0.5;
const GHOSTS = [0.82, 0.46, 0.3, 0.2, 0.12];
let eye = null;
let breeds = "the breeds";

/** Takes from the model card how the model sees photos, `{resize, crop}`: a square in their middle; and its breeds. */
export function setModel({ image, classes }) {
  eye = image;
  breeds = `the ${counted(classes.length, "breed")}`;
  outline();
}

/** Shows bars without numbers, for a page without a photo. */
export function showNothing() {
  byId("verdict").replaceChildren(named("Waiting for a photo"));
  byId("meaning").textContent =
    "The five most likely breeds will appear here, with calibrated percentages.";
  byId("bars").classList.add("empty");
  byId("bars").setAttribute("aria-hidden", "true");
  byId("bars").replaceChildren(...GHOSTS.map((share) => bar({ breed: "", index: "", probability: share }, "")));
  byId("timing").textContent = "";
  byId("answer").className = "waiting";
  byId("answer").hidden = false;
  byId("trouble").hidden = true;
  fillStage(false);
  byId("asking").classList.remove("busy");
}

/** Puts a photo on the stage. */
export function showPhoto(url, name) {
  const image = byId("image");
  image.onload = outline;
  image.onerror = replace;
  image.src = url;
  image.alt = `The photo ${name}`;
  fillStage(true);
}

/** Shows where the model looked, if that is drawn, alone: of a photo in a format that this browser cannot show. */
export function replace() {
  const image = byId("image");
  if (!image.complete || image.naturalWidth) return;
  byId("frame").style.setProperty("--ratio", 1);
  fillStage(!byId("looked").hidden);
  byId("crop").hidden = true;
}

function fillStage(filled) {
  byId("stage").classList.toggle("filled", filled);
  byId("photo").hidden = byId("crop").hidden = !filled;
}

/** Shows that a request is running. */
export function showBusy(busy, words = "Working") {
  byId("asking").classList.toggle("busy", busy);
  if (busy) byId("spoken").textContent = words;
}

/** Shows an answer: `{answer, total, server}`. */
export function showAnswer({ answer, total, server }) {
  const [best, second] = answer.top;
  const unknown = answer.known === false;
  byId("answer").hidden = false;
  byId("trouble").hidden = true;
  byId("answer").className = unknown || best.probability < SURE ? "unsure" : "";
  const share = document.createElement("span");
  share.className = "percent";
  share.textContent = percent(best.probability);
  byId("verdict").replaceChildren(...(unknown ? [named(`This looks like none of ${breeds}.`)] : [named(best.breed), share]));
  byId("meaning").textContent = unknown
    ? `The nearest is ${best.breed}. The percentages only weigh ${breeds} against each other, and say little here.`
    : meaning(best, second);
  const bars = byId("bars");
  if (bars.classList.contains("empty") || bars.children.length !== answer.top.length) {
    bars.replaceChildren(...answer.top.map((one) => bar(one, percent(one.probability, 1))));
    bars.classList.remove("empty");
    bars.removeAttribute("aria-hidden");
  } else {
    answer.top.forEach((one, place) => fill(bars.children[place], one, percent(one.probability, 1)));
  }
  const times = [`${milliseconds(total)} in all`];
  if (server !== null) times.push(`${milliseconds(server)} of it on the server`);
  byId("timing").textContent = `Answered in ${times.join(", ")}.`;
  const verdict = unknown ? byId("verdict").textContent : `${best.breed}, ${percent(best.probability)}.`;
  byId("spoken").textContent = `${verdict} ${byId("meaning").textContent}`;
}

/** Shows an error. */
export function showTrouble(title, message) {
  const heading = document.createElement("b");
  heading.textContent = title;
  byId("trouble").replaceChildren(heading, message);
  byId("trouble").hidden = false;
  byId("answer").hidden = true;
  byId("spoken").textContent = "";
}

/** Draws or hides the square that the model sees. */
export function outline(toggle = false) {
  const button = byId("crop");
  const on = (button.getAttribute("aria-pressed") === "true") !== (toggle === true);
  button.setAttribute("aria-pressed", String(on));
  const { naturalWidth: width, naturalHeight: height } = byId("image");
  if (width) byId("frame").style.setProperty("--ratio", width / height);
  const seen = byId("seen");
  seen.hidden = !on || !eye || !width;
  if (!seen.hidden) cover(seen);
}

/** Puts an element over the square that the model sees; over the frame where there is no photo in it. */
export function cover({ style }) {
  const { naturalWidth, naturalHeight } = byId("image");
  const [width, height] = naturalWidth ? [naturalWidth, naturalHeight] : [1, 1];
  const side = naturalWidth ? Math.min(width, height) * Math.min(1, eye.crop / eye.resize) : 1;
  style.width = `${(100 * side) / width}%`;
  style.height = `${(100 * side) / height}%`;
  style.left = `${(50 * (width - side)) / width}%`;
  style.top = `${(50 * (height - side)) / height}%`;
}

function meaning(best, second) {
  const right = Math.round(100 * best.probability);
  if (right >= 100) return "Very sure: about one in a hundred such answers is wrong, or fewer.";
  const share = `Of 100 answers as sure as this one, about ${right} are correct.`;
  return best.probability < SURE && second ? `Not sure: it could also be ${second.breed}. ${share}` : share;
}

function named(text) {
  const name = document.createElement("span");
  name.className = "name";
  name.textContent = text;
  return name;
}

function bar(one, text) {
  const element = copyOf("bar");
  fill(element, { ...one, probability: 0 }, text);
  // Grows from zero, once it is in the page.
  requestAnimationFrame(() => requestAnimationFrame(() => length(element, one.probability)));
  return element;
}

function fill(element, one, text) {
  element.querySelector(".breed").textContent = one.breed;
  element.querySelector(".index").textContent = one.index === "" ? "" : `class ${one.index}`;
  element.querySelector(".share").textContent = text;
  length(element, one.probability);
}

function length(element, share) {
  element.querySelector("i").style.width = `${100 * share}%`;
}
