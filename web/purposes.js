/**
 * Purpose and strength of change of GDRO Train LoRA: two choices that set other widgets.
 *
 * They are no inputs of the node. What they show is read from the values of the other widgets, so a saved
 * workflow has its values and nothing else. The table is gdro_comfy/stages/purposes.py.
 */

import { app } from "../../scripts/app.js";
import { t } from "./i18n.js";

export const CUSTOM = "custom";

/** The names of the purposes and strengths, by their keys in Python. */
const titles = () => ({
  [CUSTOM]: t("custom"),
  "a few minutes": t("a few minutes"),
  "an evening": t("an evening"),
  "an evening, composition": t("an evening, composition"),
  online: t("online"),
  "my ratings": t("my ratings"),
  gentle: t("gentle"),
  normal: t("normal"),
  strong: t("strong"),
});
const titleOf = (key) => titles()[key] ?? key;

const tableOf = (node) => node.constructor.nodeData?.input?.required?.algorithm?.[1]?.gdro_purposes;
const isEqual = (a, b) =>
  a === b || (typeof a === "number" && typeof b === "number" && Math.abs(a - b) < 1e-9);

/** The values of a node's widgets, and which purpose and strength they have. */
export class Purposes {
  /**
   * @param {object} node
   * @param {(words: string) => void} onChange called with what the values are, in words
   */
  constructor(node, onChange) {
    Object.assign(this, { node, onChange, table: tableOf(node), watched: new WeakSet() });
    if (!this.table) return;
    const { purposes, strengths } = this.table;
    this.defaults = this.#read(new Set(purposes.flatMap(({ values }) => Object.keys(values))));
    this.strength = this.#combo(
      "gdro_strength", t("strength of change"), Object.keys(strengths), (key) => this.#setStrength(key),
      t("How far the model may move from its base. Strong learns faster, and may fool the reward."),
    );
    this.purpose = this.#combo(
      "gdro_purpose", t("purpose"), purposes.map(({ key }) => key), (key) => this.#setPurpose(key),
      t("Sets the values of the training together. Changing one of them makes it custom."),
    );
    const { onConnectionsChange } = node;
    node.onConnectionsChange = (...change) => {
      const result = onConnectionsChange?.apply(node, change);
      this.refresh();
      return result;
    };
    this.refresh();
  }

  /** Read the widgets again, and show which purpose and strength they have. */
  refresh() {
    if (!this.table) return;
    this.#watch();
    const { purpose, differences } = this.#nearest();
    this.purpose.value = differences.length ? CUSTOM : purpose.key;
    const input = this.table.strength_inputs[this.#value("algorithm")];
    const normal = purpose.values[input] ?? this.defaults[input];
    const strengths = Object.entries(this.table.strengths);
    const found = strengths.find(([, factor]) => isEqual(this.#value(input), factor * normal));
    this.strength.value = found?.[0] ?? CUSTOM;
    this.node.setDirtyCanvas?.(true, true);
    this.onChange(this.#words(purpose, differences));
  }

  /** Add a choice at the top of the node; it is part of neither the workflow nor the queued graph. */
  #combo(name, label, keys, onChoice, tooltip) {
    const options = { values: [...keys, CUSTOM], getOptionLabel: titleOf, serialize: false };
    const widget = this.node.addWidget("combo", name, CUSTOM, (key) => {
      // The widget may have been drawn as chosen before the values follow, or "custom" was chosen.
      if (key !== CUSTOM) onChoice(key);
      this.refresh();
    }, options);
    Object.assign(widget, { label, tooltip, serialize: false });
    const { widgets } = this.node;
    widgets.unshift(...widgets.splice(widgets.indexOf(widget), 1));
    this.watched.add(widget);
    return widget;
  }

  #widget(name) {
    return this.node.widgets.find((widget) => widget.name === name);
  }

  #value(name) {
    return this.#widget(name)?.value;
  }

  #read(names) {
    return Object.fromEntries([...names].map((name) => [name, this.#value(name)]));
  }

  /** Return the purpose with the fewest other values, and the names of these; the strength is none. */
  #nearest() {
    const strength = this.table.strength_inputs[this.#value("algorithm")];
    const candidates = this.table.purposes.map((purpose) => ({
      purpose,
      differences: Object.entries(purpose.values)
        .filter(([name, value]) => name !== strength && !isEqual(this.#value(name), value))
        .map(([name]) => name),
    }));
    // Two purposes may differ in nothing but the strength: then the value of that one decides.
    const rank = ({ purpose, differences }) =>
      differences.length + (isEqual(this.#value(strength), purpose.values[strength]) ? 0 : 0.5);
    return candidates.reduce((best, one) => (rank(one) < rank(best) ? one : best));
  }

  #words(purpose, differences) {
    const name = titleOf(purpose.key);
    const list = (names) =>
      names
        .filter((one) => this.#widget(one))
        .map((one) => `${this.#label(one)} ${this.#value(one)}`)
        .join(", ");
    if (!differences.length) {
      const set = Object.keys(purpose.values);
      const notable = set.filter((one) => !isEqual(purpose.values[one], this.defaults[one]));
      const words = t("Sets: {values}. The rest is at its default; rate and layers go with the model.", {
        values: list(notable),
      });
      const missing = purpose.needs.filter((input) => this.#isUnlinked(input));
      return missing.length
        ? `${t("Connect {inputs}.", { inputs: missing.join(", ") })} ${words}`
        : words;
    }
    if (differences.includes("algorithm")) {
      return t("Custom: {values}", { values: list(["algorithm", "steps", "groups_per_step"]) });
    }
    return t("Like “{purpose}”, except: {values}", { purpose: name, values: list(differences) });
  }

  #isUnlinked(name) {
    return this.node.inputs?.find((input) => input.name === name)?.link == null;
  }

  #label(name) {
    const { label } = this.#widget(name);
    return (label ?? name).split(".").at(-1);
  }

  #setPurpose(key) {
    const purpose = this.table.purposes.find((one) => one.key === key);
    if (purpose) this.#set(purpose.values);
  }

  #setStrength(key) {
    const input = this.table.strength_inputs[this.#value("algorithm")];
    if (!input) return;
    const { purpose } = this.#nearest();
    const normal = purpose.values[input] ?? this.defaults[input];
    if (Number.isFinite(normal)) this.#set({ [input]: normal * this.table.strengths[key] });
  }

  /** Set widgets by name; the algorithm first, as it decides which others there are. */
  #set(values) {
    app.canvas?.emitBeforeChange?.();
    this.isSetting = true;
    const first = ({ 0: name }) => (name === "algorithm" ? 0 : 1);
    for (const [name, value] of Object.entries(values).sort((a, b) => first(a) - first(b))) {
      const widget = this.#widget(name);
      if (!widget || isEqual(widget.value, value)) continue;
      if (this.node.getSlotFromWidget?.(widget)?.link != null) continue; // it comes over a wire
      widget.value = value;
      widget.callback?.(value);
    }
    this.isSetting = false;
    app.canvas?.emitAfterChange?.();
  }

  /** Notice changes of the widgets, also of those that another algorithm brings. */
  #watch() {
    const { watched } = this;
    for (const widget of this.node.widgets) {
      if (watched.has(widget) || widget.serialize === false) continue;
      watched.add(widget);
      const { callback } = widget;
      widget.callback = (...values) => {
        const result = callback?.apply(widget, values);
        if (!this.isSetting) this.refresh();
        return result;
      };
    }
  }
}
