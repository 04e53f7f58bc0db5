/** Numbers as text. */

const MISSING = "–";

/** Format a number with three or four significant digits. */
export function formatNumber(value) {
  if (value == null || !Number.isFinite(value)) return MISSING;
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e5)) return value.toExponential(2);
  return String(Number(value.toPrecision(size >= 1 ? 4 : 3)));
}

/** Format a difference with its sign and three decimals, as the evaluation's report does. */
export function formatDifference(value) {
  return (value > 0 ? "+" : "") + value.toFixed(3);
}

/**
 * Format a fraction as whole percent, without the sign.
 *
 * Halves are rounded to the even number, as Python does, so that 62.5 % reads the same here and in the
 * table that the server writes.
 */
export function formatPercent(fraction) {
  const percent = 100 * fraction;
  const floor = Math.floor(percent);
  const isHalf = percent - floor === 0.5;
  return String(isHalf ? floor + (floor % 2) : Math.round(percent));
}

/** Format a time in seconds since 1970 as date and time, in the language of the browser. */
export function formatDate(seconds) {
  return new Date(1000 * seconds).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** Format bytes, for example as "12 MB". */
export function formatBytes(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; bytes >= 1000 && unit < units.length - 1; unit++) bytes /= 1000;
  return `${bytes < 10 && unit ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}
