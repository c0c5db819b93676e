// Prepares photos for the server: phones make larger ones than it needs.

const LARGEST_BYTES = 1.5e6;
const SHORTER_SIDE = 1024;
const LONGEST_SIDE = 8192;
const QUALITY = 0.92;
const KNOWN = ["image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif"];

/** Returns the file to send: unchanged, smaller where it is large, or as JPEG where the server cannot read its format. */
export async function prepared(file) {
  if (file.size <= LARGEST_BYTES && KNOWN.includes(file.type)) return file;
  let image;
  try {
    image = await createImageBitmap(file, { imageOrientation: "from-image" });
  } catch {
    // This browser cannot read it; the server says why.
    return file;
  }
  const scale = Math.min(1, SHORTER_SIDE / Math.min(image.width, image.height), LONGEST_SIDE / Math.max(image.width, image.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const context = canvas.getContext("2d");
  // The server also shows transparent parts on white.
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  image.close();
  const small = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
  return small ?? file;
}

/** Calls `take(files)` for photos that are chosen, taken, dropped anywhere, or pasted. */
export function listen(take) {
  for (const input of document.querySelectorAll("input[type=file]")) {
    input.addEventListener("change", () => {
      take([...input.files]);
      // The same photo may be chosen again.
      input.value = "";
    });
  }
  let depth = 0;
  const over = (change) => {
    depth = Math.max(0, depth + change);
    document.body.classList.toggle("dragging", depth > 0);
  };
  document.addEventListener("dragenter", () => over(1));
  document.addEventListener("dragleave", () => over(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    take([...event.dataTransfer.files]);
  });
  document.addEventListener("paste", (event) => {
    if (event.clipboardData.files.length > 0) take([...event.clipboardData.files]);
  });
}
