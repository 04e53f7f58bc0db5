"""The hand-written part of the help pages of models and their LoRAs; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_LoadBaseModel": """The first node of a GDRO graph. Use the bundled model to learn how
the nodes work, and a diffusers folder for a model of your own: a folder in `models/diffusers` that
has `model_index.json` beside `transformer/`, `vae/`, `text_encoder/` and so on.

With *single files* you use the files that ComfyUI's own workflows use. For FLUX.1-dev:
`flux1-dev.safetensors` in `models/diffusion_models`, `clip_l.safetensors` and
`t5xxl_fp8_e4m3fn.safetensors` (or `t5xxl_fp16`) in `models/text_encoders`, `ae.safetensors` in
`models/vae`. For SD3.5: `sd3.5_medium.safetensors`, which holds its VAE, beside `clip_l`, `clip_g` and
`t5xxl`. A file is told by its header; a wrong pick says what it is and where it belongs.

With `loras` you train on the model as you use it: one or two LoRAs (a style, a character) are merged into
the base first. The run and the trained LoRA say which. In ComfyUI, load them beside the trained one, with
the same strengths.

*Hugging Face id* is the only choice that downloads. It shows its progress, you may cancel, and the next
Run goes on where it stopped. For a model behind a license, accept that on its page, then give your
token with `hf auth login` or in the environment variable `HF_TOKEN`, never in a workflow.""",
    "GDRO_Generate": """For a quick look at one prompt. Use the same seed with and without `aligned`
to see what the LoRA changed.""",
    "GDRO_LoadAlignedLoRA": """For ComfyUI's own samplers. The stock *LoraLoaderModelOnly* loads the
same file, and *Load LoRA Model* takes the `lora` output of GDRO Train LoRA.""",
    "GDRO_AlignedFromFile": """For a LoRA of an earlier session. Connect it to `start_from` of GDRO Train LoRA
to go on from it (on other prompts, or with another reward), or to GDRO Evaluate Alignment and GDRO Generate.
Where its training is still in `output/gdro`, evaluations are written there.

Training on from it needs the same base, `rank` and `target`; the reference stays the base, not the LoRA.""",
    "GDRO_ModelForComfyUI": """For the bundled model, and for models in diffusers' layout: with it, ComfyUI's
samplers draw with the very model that was trained. Where you have ComfyUI's own files, its own loaders
(*Load Checkpoint*, *Load Diffusion Model*) do the same and take less memory: this node makes a copy of the
network.

`clip` knows *CLIP Text Encode*, without weights in brackets and without LoRAs on the text encoder; `vae`
knows *VAE Decode* and *VAE Encode*.""",
}
TYPICAL = {
    "GDRO_LoadBaseModel": {
        "source.transformer": "`flux1-dev.safetensors`, `sd3.5_medium.safetensors`",
        "source.clip_l": "`clip_l.safetensors`",
        "source.clip_g": "`clip_g.safetensors` with SD3",
        "source.t5": "`t5xxl_fp8_e4m3fn.safetensors`",
        "source.vae": "`ae.safetensors` with FLUX.1, `none` with SD3",
        "quantization": "`nf4` or `8-bit` for FLUX.1 on 24 GB, `none` for SD3.5-medium",
    },
    "GDRO_LoadAlignedLoRA": {"strength": "1; less for a weaker effect"},
}
MISTAKES = {
    "GDRO_LoadBaseModel": [
        (
            "`folder: … is not among the diffusers folders`",
            "The folder belongs in `models/diffusers`. Put it there, press R in ComfyUI to read the lists "
            "again, and choose it.",
        ),
        (
            "`folder: … holds a …. Choose a folder of: …`",
            "The folder holds another architecture. SD3, SD3.5 and FLUX.1 can be trained.",
        ),
        ("`… lacks its part …`", "A download was not finished. Copy the folder again."),
        (
            "`… has no readable model_index.json`",
            "That is no folder in diffusers' layout. For a checkpoint file choose *single files*.",
        ),
        (
            "`quantization: … needs bitsandbytes, which cannot be used here (…)`",
            "`pip install bitsandbytes` with ComfyUI's Python, then restart; or choose `none`.",
        ),
        (
            "`repo_id: … is gated: its owner wants to know who downloads it`",
            "Accept the license on the model's page, then `hf auth login`, or set `HF_TOKEN`.",
        ),
        (
            "`repo_id: the hub cannot be reached (…)`",
            "There is no network, or `HF_HUB_OFFLINE` is set. Run again later: it goes on where it stopped.",
        ),
        (
            "`repo_id: … still needs … GB, and the disk of … has … GB free`",
            "Make room on that disk, or choose single files that you have already.",
        ),
        (
            "`… is …. This input wants …`",
            "The file is another model than this input takes. The message says what it is, and where it "
            "belongs.",
        ),
        (
            "`transformer: no file is chosen`",
            "Choose your model's file. The message names those that are there; a new file shows after R.",
        ),
        (
            "`… needs …, and … has none`",
            "Choose a file at the input that the message names: the transformer's file does not hold that "
            "part.",
        ),
        (
            "`… is …, this model is …`",
            "Choose a LoRA of the model's own family. The message says what the file is for.",
        ),
        (
            "`… is …, which cannot be merged here`",
            "LoHa, LoKr, DoRA and the like: choose a plain LoRA, or convert the file to one.",
        ),
        (
            "`… is incomplete: … bytes of …`",
            "The download was not finished, or the disk was full. Download the file again.",
        ),
        (
            "`… is a pickle, which can run any code when it is opened`",
            "Use the `.safetensors` file of the same model.",
        ),
        (
            "`… is a GGUF file, which is made for inference`",
            "Training needs the `.safetensors` file; `quantization` makes it as small in memory.",
        ),
    ],
    "GDRO_LoadAlignedLoRA": [
        (
            "`no file is chosen`",
            "Choose your LoRA, or connect `aligned`.",
        ),
        (
            "`… is not among the LoRA files`",
            "Connect `aligned`, or choose a file from the list. Press R if the file is new.",
        ),
        (
            "`model: none of the layers in … exists in this model`",
            "Load the model that the LoRA was trained for.",
        ),
        (
            "`model: … was trained for another model …`",
            "The LoRA is of another family (SD3, FLUX.1) or of another size. Load the model that it was "
            "trained for.",
        ),
        (
            "The pictures do not change",
            "`strength` is 0, or the sampler is connected to the model before this node.",
        ),
    ],
    "GDRO_AlignedFromFile": [
        (
            "`… is no LoRA that GDRO Train LoRA wrote`",
            "Choose one from `models/loras/gdro`: only their headers say what they were trained on.",
        ),
        (
            "`aligned: this LoRA was trained for another model`",
            "Load the base that it was trained on, with the same LoRAs merged.",
        ),
    ],
    "GDRO_ModelForComfyUI": [
        (
            "`model: it is quantized, which other programs do not read`",
            "Set `quantization` to `none` on GDRO Load Base Model, or use ComfyUI's own loader.",
        ),
        (
            "`model: ComfyUI does not know this network`",
            "The sizes of the network are none that ComfyUI knows. GDRO Generate draws with it.",
        ),
        (
            "`… has text this model cannot read: …`",
            "The bundled model knows English letters only, and no weights in brackets.",
        ),
    ],
}
