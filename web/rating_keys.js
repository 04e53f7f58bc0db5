/** The keys of the rating panel. */

const COMMON = {
  ArrowLeft: ["image", -1],
  ArrowRight: ["image", 1],
  ArrowUp: ["group", -1],
  ArrowDown: ["group", 1],
  Enter: ["group", 1],
  s: ["group", 1],
  u: ["undo"],
  z: ["enlarge"],
};
const CLEAR = ["star", null];
const BY_MODE = {
  stars: {
    ...Object.fromEntries([1, 2, 3, 4, 5].map((star) => [star, ["star", star]])),
    0: CLEAR,
    Delete: CLEAR,
    Backspace: CLEAR,
  },
  extremes: { b: ["pick", "best"], w: ["pick", "worst"] },
  order: {
    Enter: ["keepOrder"],
    "Shift+ArrowLeft": ["move", -1],
    "Shift+ArrowRight": ["move", 1],
  },
};

/**
 * Return what a key does in a mode: the name of a command and its argument, or null.
 * @param {KeyboardEvent} event
 * @param {"stars"|"extremes"|"order"} mode
 */
export function keyCommand(event, mode) {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const shifted = event.shiftKey ? BY_MODE[mode][`Shift+${key}`] : null;
  return shifted ?? BY_MODE[mode][key] ?? COMMON[key] ?? null;
}
