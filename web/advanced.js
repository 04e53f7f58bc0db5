/**
 * Advanced inputs on the classic canvas: behind a button, as Nodes 2.0 has them.
 *
 * Both renderers use the node's own `showAdvanced`, which is saved with the workflow.
 */

import { app } from "../../scripts/app.js";
import { t } from "./i18n.js";

const ALWAYS = "Comfy.Node.AlwaysShowAdvancedWidgets";
const AWAY = -10000; // where a hidden widget lies, so that no wire finds its socket

const isClassic = () => !globalThis.LiteGraph?.vueNodesMode;
const isAlwaysShown = () => Boolean(app.extensionManager?.setting.get(ALWAYS));

/** Let a node hide its advanced widgets until its button shows them; a widget with a wire stays. */
export function foldAdvanced(node) {
  const isAdvanced = (widget) => Boolean(widget.options?.advanced);
  const count = () => (node.widgets ?? []).filter(isAdvanced).length;
  const isLinked = (widget) => node.getSlotFromWidget?.(widget)?.link != null;
  const isFolded = (widget) => {
    if (widget === toggle) return !isClassic() || !count() || isAlwaysShown();
    return isAdvanced(widget) && !node.showAdvanced && !isAlwaysShown() && !isLinked(widget);
  };
  // Nodes 2.0 has a button of its own.
  const options = { canvasOnly: true, serialize: false };
  const toggle = node.addWidget("button", "gdro_advanced", null, () => switchOver(node), options);
  toggle.serialize = false;
  Object.defineProperty(toggle, "label", {
    get: () =>
      node.showAdvanced
        ? t("Hide advanced inputs")
        : t("Show advanced inputs ({count})", { count: count() }),
    set: () => {},
    configurable: true,
  });
  const { isWidgetVisible, getLayoutWidgets } = node;
  node.isWidgetVisible = function (widget) {
    return isWidgetVisible.call(this, widget) && !isFolded(widget);
  };
  if (!getLayoutWidgets) return;
  node.getLayoutWidgets = function () {
    const widgets = getLayoutWidgets.call(this);
    for (const widget of widgets) if (isFolded(widget)) widget.y = AWAY;
    return widgets.filter((widget) => !isFolded(widget));
  };
}

/** Show or hide the advanced widgets; the node grows or shrinks by their height. */
function switchOver(node) {
  app.canvas?.emitBeforeChange?.();
  const before = node.computeSize()[1];
  node.showAdvanced = !node.showAdvanced;
  const [width, after] = node.computeSize();
  node.setSize([Math.max(node.size[0], width), Math.max(after, node.size[1] + after - before)]);
  app.canvas?.emitAfterChange?.();
  node.setDirtyCanvas?.(true, true);
}
