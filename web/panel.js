/** A view inside a node, with a choice of instance where the node's subgraph is used more than once. */

import { app } from "../../scripts/app.js";
import { el } from "./dom.js";
import { t } from "./i18n.js";
import { keepKeys } from "./keys.js";
import { locationsOf } from "./location.js";

const MARGIN = 10;
const SERVER_TEXT = "$$node-text-preview"; // ComfyUI's widget with what the server says of a node

export class Panel {
  /**
   * @param {object} node
   * @param {Function} View a class with `element`, `height`, `show(location)`, `receive(event, message)`
   *   and, if the end of its work is worth a message, `outcome`
   */
  constructor(node, View) {
    this.node = node;
    this.view = new View({
      onResize: () => this.#resize(),
      onChange: () => this.#removeServerText(),
      queue: () => app.queuePrompt(0),
      neededGroups: () => this.#widget("least_groups")?.value ?? null,
    });
    this.instance = el("select", {
      "aria-label": t("Subgraph instance"), hidden: true, change: () => this.#show(),
    });
    this.element = el("div", { class: "gdro-panel" }, this.instance, this.view.element);
    keepKeys(this.element);
    const widget = node.addDOMWidget("gdro_panel", "gdro", this.element, {
      serialize: false,
      hideOnZoom: false,
      margin: MARGIN,
      getMinHeight: () => this.view.height + 2 * MARGIN,
      getValue: () => "",
      setValue: () => {},
    });
    widget.serialize = false;
    this.messages = Promise.resolve(); // settles once all messages so far are worked on
    this.#resize();
  }

  /** Show what the node stands for; `instance` is the execution id of one of its instances. */
  async refresh(instance = this.instance.value) {
    const locations = locationsOf(this.node);
    const ids = [...locations.keys()];
    this.instance.hidden = ids.length < 2;
    this.instance.replaceChildren(
      ...ids.map((id) => el("option", { value: id, text: t("Node {key}", { key: id }) })),
    );
    if (!ids.length) return;
    this.instance.value = locations.has(instance) ? instance : ids[0];
    await this.#show();
  }

  /** Take a message about an instance, which is shown from now on; messages are worked on in turn. */
  receive(event, message) {
    this.messages = this.messages
      .then(() => this.refresh(String(message.node)))
      .then(() => this.view.receive(event, message))
      .catch((error) => console.error("GDRO", error));
  }

  async #show() {
    const location = locationsOf(this.node).get(this.instance.value);
    const key = JSON.stringify(location);
    if (!location || key === this.shown) return;
    this.shown = key;
    await this.view.show(location);
  }

  #resize() {
    const height = `${this.view.height}px`;
    if (this.element.style.minHeight === height) return;
    this.element.style.minHeight = height;
    const { node } = this;
    const minimum = node.computeSize?.();
    if (minimum && node.size[1] < minimum[1]) node.setSize([node.size[0], minimum[1]]);
    node.setDirtyCanvas?.(true, true);
  }

  #widget(name) {
    return this.node.widgets?.find((widget) => widget.name === name);
  }

  /** Remove what the server said of the node: what was changed in the panel since contradicts it. */
  #removeServerText() {
    const text = this.#widget(SERVER_TEXT);
    if (!text) return;
    text.value = ""; // ComfyUI's panel at the right goes on showing the widget that is removed here
    this.node.removeWidget(text);
  }
}
