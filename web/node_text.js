/** The text that the server shows on our nodes: the classic canvas breaks it at any letter, we between words. */

const bare = (text) => text.replace(/\s+/g, "");
const unescape = (text) =>
  text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"').replaceAll("&amp;", "&");

/** Let the lines of a text of ours break between words, wherever the canvas shows it. */
export function breakBetweenWords(text) {
  const wanted = bare(unescape(text));
  if (!wanted) return;
  // The canvas draws it in one of the next frames.
  setTimeout(() => {
    for (const element of document.querySelectorAll(".break-all:not(.gdro-words)")) {
      if (bare(element.textContent) === wanted) element.classList.add("gdro-words");
    }
  }, 100);
}
