/**
 * The values of a saved node, put back by their names. ComfyUI goes by their places: an input that came
 * with a newer version of this pack would move all values behind it to the wrong widgets.
 */

/** @param {object} node with its widgets @param {object} saved as it stands in the workflow */
export function restore(node, saved) {
  const named = saved.widgets_values_named;
  const declared = node.constructor.nodeData?.input;
  if (named && declared) put(node, declared, named, "");
}

function put(node, declared, named, prefix) {
  for (const inputs of [declared.required, declared.optional]) {
    for (const [name, [, given = {}]] of Object.entries(inputs ?? {})) {
      const path = prefix + name;
      const widget = node.widgets?.find((one) => one.name === path);
      if (!widget) continue;
      const choices = given.options;
      const value = named[path] ?? given.default ?? choices?.[0]?.key ?? choices?.[0];
      if (value !== undefined && widget.value !== value) {
        widget.value = value;
        widget.callback?.(value);
      }
      const choice = choices?.find?.((one) => one?.key === widget.value);
      if (choice) put(node, choice.inputs, named, `${path}.`);
    }
  }
}
