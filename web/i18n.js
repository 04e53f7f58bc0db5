/** The panels' texts in the language that ComfyUI is set to. */

import { app } from "../../scripts/app.js";
import { panels, tooltips } from "./translations.js";

const language = () => app.extensionManager?.setting.get("Comfy.Locale");

/**
 * Translate an English text; without a translation it stays English.
 * @param {string} text a literal, so that tools/make_docs.py finds it; {name} stands for `values.name`
 * @param {object} values
 */
export function t(text, values = {}) {
  const translation = panels[language()]?.[text] ?? text;
  return translation.replace(/\{(\w+)\}/g, (placeholder, name) => values[name] ?? placeholder);
}

/**
 * Translate the tooltips of inputs inside choices, which ComfyUI does not translate itself.
 * @param {object} definition of a node, as the server sends it
 */
export function translateChoices(definition) {
  const translations = tooltips[language()]?.[definition.name];
  if (!translations) return;
  const translate = (inputs) => {
    for (const group of [inputs?.required, inputs?.optional]) {
      for (const [, options] of Object.values(group ?? {})) {
        if (translations[options?.tooltip]) options.tooltip = translations[options.tooltip];
        for (const choice of options?.options ?? []) translate(choice.inputs);
      }
    }
  };
  translate(definition.input);
}
