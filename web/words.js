/** The words of the panels, in the language that ComfyUI is set to. */

import { app } from "../../scripts/app.js";
import { panels, tooltips } from "./translations.js";

const language = () => app.extensionManager?.setting.get("Comfy.Locale");

/**
 * An English text in ComfyUI's language, or as it is where there is no translation.
 * @param {string} text written out, so that tools/make_docs.py finds it; {name} stands for `values.name`
 * @param {object} values
 */
export function t(text, values = {}) {
  const said = panels[language()]?.[text] ?? text;
  return said.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/**
 * Translate the tooltips of inputs that come with a choice; those of all others ComfyUI looks up itself.
 * @param {object} definition a node's, as the server gives it
 */
export function translateChoices(definition) {
  const words = tooltips[language()]?.[definition.name];
  if (!words) return;
  const translate = (inputs) => {
    for (const declared of [inputs?.required, inputs?.optional]) {
      for (const [, given] of Object.values(declared ?? {})) {
        if (words[given?.tooltip]) given.tooltip = words[given.tooltip];
        for (const choice of given?.options ?? []) translate(choice.inputs);
      }
    }
  };
  translate(definition.input);
}
