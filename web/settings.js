/** The pack's settings in ComfyUI's settings dialog. */

export const SETTINGS = [
  {
    // The server reads it (nodes/host.py): a key must never be part of a workflow.
    id: "GDRO.JudgeKeys",
    category: ["GDRO", "Judges", "Keys"],
    name: "API keys of judge servers",
    tooltip:
      "For GDRO VLM Reward: host=key, several separated by commas (api.openai.com=sk-...). A key is sent " +
      "to its own host only. Keys are stored as plain text with ComfyUI's settings.",
    type: "text",
    defaultValue: "",
    attrs: { type: "password", autocomplete: "off" },
  },
];
