// Formatting of numbers, and access to elements.

export const byId = (id) => document.getElementById(id);

/** A fresh copy of what a template holds. */
export const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** A share as a percentage; null is a dash. Only exactly 1 becomes 100 %. */
export function percent(share, digits = 0) {
  if (share === null || share === undefined) return "–";
  const text = (100 * share).toFixed(digits);
  if (share < 1 && Number(text) === 100) return `> ${(100 - 10 ** -digits).toFixed(digits)}\u00a0%`;
  if (share > 0 && Number(text) === 0) return `< ${(10 ** -digits).toFixed(digits)}\u00a0%`;
  return `${text}\u00a0%`;
}

export const counted = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

export function milliseconds(value) {
  return value < 1000 ? `${value < 10 ? value.toFixed(1) : Math.round(value)} ms` : `${(value / 1000).toFixed(1)} s`;
}
