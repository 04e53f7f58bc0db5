/** The pack's settings, in ComfyUI's settings dialog. */

export const SETTINGS = [
  {
    // nodes/host.py reads it on the server: a key is no part of a workflow.
    id: "GDRO.JudgeKeys",
    category: ["GDRO", "Judges", "Keys"],
    name: "Keys of judging servers",
    tooltip:
      "For GDRO VLM Reward: host=key, several with commas between (api.openai.com=sk-...). A key goes to " +
      "its own host only. Kept as plain text with ComfyUI's settings.",
    type: "text",
    defaultValue: "",
    attrs: { type: "password", autocomplete: "off" },
  },
];
