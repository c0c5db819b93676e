// Where the model looked: a picture that the server draws, over the photo.

import { cover, replace } from "./answer.js";
import { prepared } from "./photos.js";
import { explain } from "./server.js";
import { byId } from "./words.js";

let current = null;

/** Shows the switch where the model can tell where it looked. */
export function offer(card) {
  byId("looking").hidden = !card.maps;
}

/** Draws where the model looked in the photo that is on the stage, once it is answered and if the switch is on. */
export async function look(entry) {
  current = entry;
  const wanted = () => entry === current && entry !== null && entry.found !== null && byId("look").checked;
  say("");
  if (!wanted()) return;
  say("Drawing where the model looked");
  try {
    entry.looked ??= prepared(entry.file).then(explain).then(URL.createObjectURL);
    // A photo that this browser cannot show does without.
    const [url] = await Promise.all([entry.looked, byId("image").decode().catch(() => {})]);
    if (!wanted()) return;
    const breed = entry.found.answer.top[0].breed;
    const picture = byId("looked");
    picture.src = url;
    picture.alt = `Where the model looked in the photo ${entry.name}: what speaks most for ${breed} is yellow, the rest dark blue.`;
    cover(picture);
    say(`Yellow is what speaks most for ${breed}, dark blue what does not.`, true);
  } catch (error) {
    entry.looked = null;
    if (wanted()) say(`It cannot be drawn: ${error.message}`);
  }
}

/** Forgets the picture of a photo. */
export function forget(entry) {
  entry.looked?.then(URL.revokeObjectURL, () => {});
}

function say(words, drawn = false) {
  byId("looked").hidden = !drawn;
  replace();
  byId("colours").hidden = words === "";
  byId("colours").classList.toggle("drawn", drawn);
  byId("colours").textContent = words;
}

byId("look").addEventListener("change", () => look(current));
