/**
 * Keys pressed inside our panels and windows stay there.
 *
 * ComfyUI listens for keys on the whole page: Delete there deletes the node that is selected, Ctrl+Z undoes
 * the last change of the graph, and the arrows move nodes.
 */

const ROOTS = ".gdro-panel, .gdro-tab, .gdro-window";
const PASSED_ON = new Set(["Enter", "s", "o"]); // with Ctrl or Cmd: run, save and open the workflow

/** Return whether a key is meant for ComfyUI also where one of our elements has the focus. */
function isForComfy({ key, ctrlKey, metaKey }) {
  if (key === "Escape" || /^F\d+$/.test(key)) return true;
  return (ctrlKey || metaKey) && PASSED_ON.has(key.length === 1 ? key.toLowerCase() : key);
}

/** Keep the keys of an element from the page; call once for each root of ours. */
export function keepKeys(root) {
  root.addEventListener("keydown", (event) => {
    if (!isForComfy(event)) event.stopPropagation();
  });
}

/**
 * Keep undo and redo of the graph from our elements, which get a "gdro-undo" instead.
 *
 * ComfyUI's listener is asked before any of ours, but looks at the event only in the next frame: until then
 * the event has lost its Ctrl.
 */
export function keepUndo() {
  const listener = (event) => {
    const isUndo = (event.ctrlKey || event.metaKey) && ["z", "y"].includes(event.key.toLowerCase());
    if (!isUndo || !event.target.closest?.(ROOTS)) return;
    if (event.target.matches("input:not([type=range], [type=checkbox]), textarea")) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    for (const name of ["ctrlKey", "metaKey"]) Object.defineProperty(event, name, { value: false });
    if (event.key.toLowerCase() === "y" || event.shiftKey) return; // there is nothing to redo
    event.target.dispatchEvent(new CustomEvent("gdro-undo", { bubbles: true }));
  };
  globalThis.addEventListener("keydown", listener, true);
}
