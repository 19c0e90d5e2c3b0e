// The menus of models.

import { call } from "./api.js";
import { byId, el } from "./dom.js";

/** Fill every model menu. */
export async function loadModels() {
  const models = (await call("v1/models")).data.map((model) => model.id);
  for (const id of ["ask-model", "compare-model"]) {
    const kept = byId(id).value;
    byId(id).replaceChildren(...models.map((name) => el("option", { value: name }, name)));
    if (models.includes(kept)) byId(id).value = kept;
  }
}
