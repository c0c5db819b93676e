// What there is to say of the model, and the list of its breeds.

import { byId, copyOf, counted, percent } from "./words.js";

/** Fills in the model card. */
export function showCard(card) {
  const { scores, photos } = card;
  byId("backbone").textContent = card.backbone;
  byId("lede").textContent =
    `Show the model a dog. It knows ${counted(card.classes.length, "breed")}, names those that it sees in the photo, ` +
    "and says how sure it is of each.";
  byId("tiles").replaceChildren(
    tile("Right answers", percent(scores.accuracy, 1), tested(photos.test)),
    tile("Among its best five", percent(scores.top5_accuracy, 1), "of its answers name the right breed"),
    tile("Calibration error", percent(scores.calibration_error, 1), calibration(card)),
    tile("Learned from", photos.train === undefined ? "–" : photos.train.toLocaleString("en"), learned(photos)),
  );
  byId("facts").replaceChildren(
    ...Object.entries({
      Backbone: `${card.backbone}, ${card.pretrained ? "pretrained" : "not pretrained: its answers will be poor"}`,
      Trained: trained(card),
      Sees: `the middle ${card.image.crop} × ${card.image.crop} pixels of a photo with a shorter side of ${card.image.resize}`,
      Engine: `${card.engine} in ${card.precision}`,
      Made: card.made,
      With: Object.entries(card.versions).map(([name, version]) => `${name} ${version.split("+")[0]}`).join(", "),
    }).filter(([, text]) => text).map(([name, text]) => fact(name, text)),
  );
  showBreeds(card.classes);
  byId("card").hidden = byId("breeds").hidden = false;
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

const tested = (test) => (test === undefined ? "of its test photos" : `of ${counted(test, "photo")} that it had not seen before`);

const learned = (photos) =>
  photos.valid === undefined ? "photos" : `photos; ${photos.valid.toLocaleString("en")} others decided when to stop`;

function calibration({ scores, temperature }) {
  const before = scores.calibration_error_uncalibrated;
  const text = "is how far its percentages are off on average";
  return before === null ? text : `${text}; ${percent(before, 1)} before a temperature of ${temperature.toFixed(2)}`;
}

function trained({ head, unfreeze }) {
  const kind = head.kind === "linear" ? "a linear head" : `a head with hidden layers of ${head.hidden.join(", ")}`;
  return unfreeze === null ? `${kind} on the frozen backbone` : `${kind}, and the backbone from ${unfreeze} on`;
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
