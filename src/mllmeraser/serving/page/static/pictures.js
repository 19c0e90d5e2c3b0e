// Choosing pictures by file button, drag and drop, or paste, with previews and buttons to remove them.

import { announce, byId, el } from "./dom.js";

const LARGEST = 10_000_000;
const KINDS = ["image/png", "image/jpeg", "image/webp", "image/gif", "image/bmp"];

/** The chosen pictures of the form with `prefix`-file and `prefix`-thumbs. */
export class Pictures {
  /** `say` shows why a file was not accepted. */
  constructor(prefix, { drop, say }) {
    this.input = byId(`${prefix}-file`);
    this.list = byId(`${prefix}-thumbs`);
    this.say = say;
    this.chosen = [];
    this.input.addEventListener("change", () => {
      this.add(this.input.files);
      this.input.value = "";
    });
    this.#dropping(drop);
    this.#show();
  }

  get files() {
    return this.chosen.map((picture) => picture.file);
  }

  /** Add these files. */
  add(files) {
    const all = [...files];
    const good = all.filter((file) => KINDS.includes(file.type) && file.size <= LARGEST);
    if (good.length < all.length) this.say("Only pictures (PNG, JPEG, WebP, GIF, BMP) of up to 10 MB can be added.");
    else this.say("");
    if (!good.length) return;
    this.chosen.push(...good.map((file) => ({ file, url: URL.createObjectURL(file) })));
    this.#show();
    announce(good.length === 1 ? `Added ${good[0].name}` : `Added ${good.length} pictures`);
  }

  clear() {
    this.chosen.forEach((picture) => URL.revokeObjectURL(picture.url));
    this.chosen = [];
    this.#show();
  }

  /** Read all pictures, so that each has its `data` URL. */
  async read() {
    await Promise.all(this.chosen.map(async (picture) => { picture.data ??= await dataUrl(picture.file); }));
  }

  /** Mark these pictures as sent: they stay attached to the conversation. */
  keep(sent) {
    sent.forEach((picture) => { picture.sent = true; });
    this.#show();
  }

  #remove(picture) {
    URL.revokeObjectURL(picture.url);
    this.chosen = this.chosen.filter((other) => other !== picture);
    this.#show();
    this.input.focus();
    announce(`Removed ${picture.file.name}`);
  }

  #show() {
    this.list.hidden = !this.chosen.length;
    this.list.replaceChildren(...this.chosen.map((picture) => {
      const name = picture.file.name || "picture";
      const cross = el("button", { type: "button", class: "cross", "aria-label": `Remove ${name}`, click: () => this.#remove(picture) }, "×");
      return el("li", {}, el("img", { src: picture.url, alt: name, title: name }), cross, picture.sent && el("span", { class: "still" }, "still attached"));
    }));
  }

  #dropping(area) {
    let depth = 0;
    const over = (change) => area.classList.toggle("over", (depth = Math.max(0, depth + change)) > 0);
    const carries = (event) => event.dataTransfer?.types.includes("Files");
    area.addEventListener("dragenter", (event) => carries(event) && over(1));
    area.addEventListener("dragleave", (event) => carries(event) && over(-1));
    area.addEventListener("dragover", (event) => carries(event) && event.preventDefault());
    area.addEventListener("drop", (event) => {
      if (!carries(event)) return;
      event.preventDefault();
      over(-depth);
      this.add(event.dataTransfer.files);
    });
    area.addEventListener("paste", (event) => {
      if (event.clipboardData?.files.length) this.add(event.clipboardData.files);
    });
  }
}

function dataUrl(file) {
  const reader = new FileReader();
  return new Promise((resolve, reject) => {
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The picture could not be read."));
    reader.readAsDataURL(file);
  });
}

/** One turn of the user in the format of the chat route; `pictures` have been read. */
export function turn(text, pictures) {
  if (!pictures.length) return { role: "user", content: text };
  const parts = pictures.map((picture) => ({ type: "image_url", image_url: { url: picture.data } }));
  return { role: "user", content: [...parts, { type: "text", text }] };
}
