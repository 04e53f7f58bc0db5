/** Titles of groups and nodes in the workflows that come with the pack, in the language of the page. */

import { app } from "../../scripts/app.js";
import { t } from "./i18n.js";

const titles = () => ({
  "1  Model and prompts": t("1  Model and prompts"),
  "2  Groups of pictures and their reward": t("2  Groups of pictures and their reward"),
  "2  Pictures and your ratings": t("2  Pictures and your ratings"),
  "2  Pictures out, numbers in": t("2  Pictures out, numbers in"),
  "3  Train": t("3  Train"),
  "4  Is it better?": t("4  Is it better?"),
  "4  What has changed?": t("4  What has changed?"),
  "Model and prompt": t("Model and prompt"),
  "Without the LoRA and with it": t("Without the LoRA and with it"),
  "Aligned model": t("Aligned model"),
  "Aligned: how colourful": t("Aligned: how colourful"),
  "Base model": t("Base model"),
  "Base: how colourful": t("Base: how colourful"),
  "Do they follow the prompt?": t("Do they follow the prompt?"),
  Negative: t("Negative"),
  Prompt: t("Prompt"),
  "Prompts it has not seen": t("Prompts it has not seen"),
  "Prompts to learn on": t("Prompts to learn on"),
  "Put your own nodes here": t("Put your own nodes here"),
  "Rate here": t("Rate here"),
  "Read me": t("Read me"),
  "The same nodes again": t("The same nodes again"),
  "What I want more of": t("What I want more of"),
  "With the LoRA": t("With the LoRA"),
  "Without the LoRA": t("Without the LoRA"),
});

/** Translate the titles of the graph that was just opened, if a node of ours is in it. */
export function translateTitles() {
  const graph = app.rootGraph ?? app.graph;
  if (!graph?.nodes?.some((node) => node.comfyClass?.startsWith("GDRO_"))) return;
  const known = titles();
  for (const one of [...graph.nodes, ...(graph.groups ?? [])]) {
    if (known[one.title] && known[one.title] !== one.title) one.title = known[one.title];
  }
}
