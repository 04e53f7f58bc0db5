/**
 * Restore the widget values of a saved node by name.
 *
 * ComfyUI restores them by position: an input that a newer version of this pack added would move all
 * values after it to the wrong widgets.
 */

/** @param {object} node with its widgets @param {object} saved the node as the workflow stores it */
export function restoreValues(node, saved) {
  const values = saved.widgets_values_named;
  const inputs = node.constructor.nodeData?.input;
  if (values && inputs) restoreInputs(node, inputs, values, "");
}

/**
 * Save the values of a node without gaps.
 *
 * ComfyUI leaves a gap for each widget that is not saved, and does not expect one when it reads them.
 */
export function saveWithoutGaps(node) {
  const { onSerialize } = node;
  node.onSerialize = function (saved, ...rest) {
    onSerialize?.call(this, saved, ...rest);
    // `filter` passes over gaps.
    if (saved.widgets_values) saved.widgets_values = saved.widgets_values.filter(() => true);
  };
}

function restoreInputs(node, inputs, values, prefix) {
  for (const group of [inputs.required, inputs.optional]) {
    for (const [name, [, options = {}]] of Object.entries(group ?? {})) {
      const path = prefix + name;
      const widget = node.widgets?.find((candidate) => candidate.name === path);
      if (!widget) continue;
      const choices = options.options;
      const value = values[path] ?? options.default ?? choices?.[0]?.key ?? choices?.[0];
      if (value !== undefined && widget.value !== value) {
        widget.value = value;
        widget.callback?.(value);
      }
      const choice = choices?.find?.((option) => option?.key === widget.value);
      if (choice) restoreInputs(node, choice.inputs, values, `${path}.`);
    }
  }
}
