// The model card and the list of breeds.

import { byId, copyOf, counted, percent } from "./words.js";

/** Fills in the model card. */
export function showCard(card) {
  const { scores, photos } = card;
  byId("backbone").textContent = card.backbone;
  byId("lede").textContent =
    `Upload a photo of a dog. The model knows ${counted(card.classes.length, "breed")} and names the most likely ones, ` +
    "with a probability for each.";
  byId("tiles").replaceChildren(
    tile("Accuracy", percent(scores.accuracy, 1), tested(photos.test)),
    tile("Top-5 accuracy", percent(scores.top5_accuracy, 1), "have the right breed among the five most likely"),
    tile("Calibration error", percent(scores.calibration_error, 1), calibration(card)),
    tile("Trained on", photos.train === undefined ? "–" : photos.train.toLocaleString("en"), learned(photos)),
  );
  byId("facts").replaceChildren(
    ...Object.entries({
      Backbone: `${card.backbone}, ${card.pretrained ? weights(card) : "not pretrained: expect poor predictions"}`,
      Trained: trained(card),
      Input: input(card.image),
      Engine: `${card.engine} in ${card.precision}`,
      Created: card.made,
      Versions: Object.entries(card.versions).map(([name, version]) => `${name} ${version.split("+")[0]}`).join(", "),
    }).filter(([, text]) => text).map(([name, text]) => fact(name, text)),
  );
  showBreeds(card.classes);
  byId("readme").hidden = !card.readme;
  byId("card").hidden = byId("breeds").hidden = false;
}

function weights({ weights, licence }) {
  return weights ? `pretrained: ${weights} (licence: ${licence})` : "pretrained";
}

function input({ resize, crop, mirror }) {
  const size = `shorter side resized to ${resize} pixels, middle ${crop} × ${crop}`;
  return mirror ? `${size}, and its mirror image` : size;
}

function showBreeds(classes) {
  const items = classes.map((one) => {
    const item = copyOf("class");
    item.querySelector(".index").textContent = one.index;
    item.querySelector(".breed").textContent = one.breed;
    item.querySelector(".share").textContent = percent(one.accuracy);
    item.querySelector("i").style.width = `${100 * (one.accuracy ?? 0)}%`;
    return [item, one.breed.toLowerCase()];
  });
  byId("classes").replaceChildren(...items.map(([item]) => item));
  const filter = () => {
    const wanted = byId("filter").value.trim().toLowerCase();
    let shown = 0;
    for (const [item, name] of items) {
      item.hidden = !name.includes(wanted);
      shown += !item.hidden;
    }
    byId("counted").textContent = wanted ? `${shown} of ${counted(classes.length, "breed")}.` : `${counted(classes.length, "breed")}.`;
  };
  byId("filter").addEventListener("input", filter);
  filter();
}

const tested = (test) => (test === undefined ? "of its test photos" : `of ${counted(test, "test photo")}`);

const learned = (photos) =>
  photos.valid === undefined ? "photos" : `photos; ${photos.valid.toLocaleString("en")} more for validation`;

function calibration({ scores, temperature }) {
  const before = scores.calibration_error_uncalibrated;
  const text = "average error of its percentages";
  return before === null ? text : `${text}; ${percent(before, 1)} without the temperature of ${temperature.toFixed(2)}`;
}

function trained({ head, unfreeze }) {
  const kind = head.kind === "linear" ? "a linear head" : `a head with hidden layers of ${head.hidden.join(", ")}`;
  return unfreeze === null ? `${kind} on the frozen backbone` : `${kind}, and the backbone from ${unfreeze}`;
}

function tile(name, value, note) {
  const element = copyOf("tile");
  element.querySelector("dt").textContent = name;
  element.querySelector("b").textContent = value;
  element.querySelector("dd span").textContent = note;
  return element;
}

function fact(name, text) {
  const element = copyOf("fact");
  element.querySelector("dt").textContent = name;
  element.querySelector("dd").textContent = text;
  return element;
}
