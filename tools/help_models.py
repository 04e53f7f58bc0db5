"""Help pages of models and their LoRAs, the hand-written part; see ``help_text.py``."""

from __future__ import annotations

ADVICE = {
    "GDRO_LoadBaseModel": """The first node of a GDRO graph. Start with the bundled model to learn how the
nodes work. For a model of your own, use a diffusers folder: a folder in `models/diffusers` with
`model_index.json` next to `transformer/`, `vae/`, `text_encoder/` and so on.

With *single files*, use the same files as ComfyUI's own workflows. For FLUX.1-dev: `flux1-dev.safetensors` in
`models/diffusion_models`, `clip_l.safetensors` and `t5xxl_fp8_e4m3fn.safetensors` (or `t5xxl_fp16`) in
`models/text_encoders`, and `ae.safetensors` in `models/vae`. For SD3.5: `sd3.5_medium.safetensors`, which
contains its VAE, with `clip_l`, `clip_g` and `t5xxl`. Files are recognised by their headers; if you pick a
wrong one, the message says what it is and where it belongs.

With `loras`, you train on the model as you use it: one or two LoRAs (a style, a character) are merged into
the base first. The run and the trained LoRA record which ones. In ComfyUI, load them together with the
trained LoRA, at the same strengths.

| LoRA file | |
|---|---|
| kohya, OneTrainer, SimpleTuner, diffusers, peft, ComfyUI | read, with any prefix in its keys |
| alpha in tensors, header or an `adapter_config.json` beside the file | read; the log says which |
| no alpha anywhere | scale 1 is assumed, and the log says so |
| layers of text encoders | left out, and the log says so |
| DoRA, LoKr, LoHa, OFT, XLabs, Control LoRA, biases, whole weights | refused as what it is |
| NaN, rank 0, a layer given twice, several adapters | refused |
| for FLUX.1 Kontext, FLUX.2, Chroma or another model | refused, where names, sizes or header tell |

An `adapter_config.json` counts for `adapter_model.safetensors`, or for the only LoRA in its folder.

| Model file | |
|---|---|
| float32, float16, bfloat16 | read |
| fp8, plain or with a scale for the whole, the rows or the blocks of a weight | read |
| nf4, nvfp4, mxfp8, int8, GGUF, SVDQuant | refused; choose another file, and `quantization` here |
| one of several parts (`-00001-of-00003`) | refused; use the whole diffusers folder |
| ControlNet, IP-Adapter, Redux, Fill, Depth, Canny | refused as what it is |
| a whole CLIP | its text part is read |
| FLUX.1 without a guidance input | taken for schnell, and the log says so |
| pickle, web page, Git LFS pointer, cut file | refused as what it is |

*Hugging Face id* is the only choice that downloads anything. The download shows its progress and can be
cancelled; the next Run resumes it. For a gated model, accept the license on its page, then provide your token
with `hf auth login` or in the environment variable `HF_TOKEN`, never in a workflow.""",
    "GDRO_Generate": """For a quick look at one prompt. Use the same seed with and without `aligned`
to see what the LoRA changed.""",
    "GDRO_LoadAlignedLoRA": """For ComfyUI's own samplers. The stock *LoraLoaderModelOnly* loads the
same file, and *Load LoRA Model* takes the `lora` output of GDRO Train LoRA.""",
    "GDRO_AlignedFromFile": """For a LoRA from an earlier session. Connect it to `start_from` of GDRO Train
LoRA to continue training (on other prompts, or with another reward), or to GDRO Evaluate Alignment and GDRO
Generate. If its training is still in `output/gdro`, evaluations are saved there.

Continuing needs the same base, `rank` and `target`; the reference stays the base, not the LoRA.""",
    "GDRO_ModelForComfyUI": """For the bundled model, and for models in diffusers' layout: ComfyUI's samplers
then use exactly the model that was trained. If you have ComfyUI's own files, its loaders (*Load Checkpoint*,
*Load Diffusion Model*) do the same and take less memory, because this node makes a copy of the network.

`clip` works with *CLIP Text Encode*, without weights in brackets and without LoRAs on the text encoder; `vae`
works with *VAE Decode* and *VAE Encode*.""",
    "GDRO_ModelFromWires": """Connect the MODEL, CLIP and VAE of your own graph: single files, fp8 and GGUF
files, with LoRAs and ModelSampling nodes before it. Nothing is loaded a second time, and ComfyUI's memory
management stays in charge. `guidance` on the nodes behind it is the CFG of KSampler, or the guidance of
FluxGuidance where the model has that built in. GDRO Group Rollout then offers ComfyUI's samplers, and draws
what KSampler draws with the same settings and seed.

The trained LoRA has ComfyUI's own names of layers: load it with any LoRA loader, on the same MODEL.

| Model | |
|---|---|
| FLUX.1, FLUX.2, Chroma, SD3, SD3.5, Qwen-Image, Krea 2, Z-Image, Lumina 2, AuraFlow | works |
| HiDream-I1, HunyuanImage 2.1, LongCat-Image, OmniGen2, Boogu-Image, Mage-Flow | works |
| JoyAI-Image, Ideogram 4, Lens, Kandinsky 5 Image, ERNIE-Image, Anima, Cosmos-Predict2 | works |
| FLUX.1-schnell, Turbo, klein | works, but training loosens what was distilled; use the base |
| Wan, HunyuanVideo, LTX, Mochi, Kandinsky 5 Video and others | refused: makes videos |
| Chroma1-Radiance, HiDream-O1, PixelDiT | refused: works on pixels, not on latents |
| for inpainting, Canny, Depth, refining, upscaling | refused: reads an image besides the text |
| SD 1.5, SDXL and their kind | refused: predicts no rectified flow |
| files for bitsandbytes or Nunchaku | refused: no gradients; fp8, int8 and GGUF work |

A model that is missing here is judged by its structure, and the log says so.""",
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
            "The folder belongs in `models/diffusers`. Put it there, press R in ComfyUI to "
            "refresh the lists, and choose it.",
        ),
        (
            "`folder: … holds a …. Choose a folder of: …`",
            "The folder contains another architecture. Only SD3, SD3.5 and FLUX.1 can be trained.",
        ),
        ("`… lacks its part …`", "A download did not finish. Copy the folder again."),
        (
            "`… has no readable model_index.json`",
            "The folder is not in diffusers' layout. For a checkpoint file, choose *single files*.",
        ),
        (
            "`quantization: … needs bitsandbytes, which cannot be used here (…)`",
            "Run `pip install bitsandbytes` with ComfyUI's Python and restart, or choose `8-bit`.",
        ),
        (
            "`repo_id: … is gated: its owner wants to know who downloads it`",
            "Accept the license on the model's page, then run `hf auth login` or set `HF_TOKEN`.",
        ),
        (
            "`repo_id: the hub cannot be reached (…)`",
            "There is no network, or `HF_HUB_OFFLINE` is set. Run again later; the download "
            "resumes.",
        ),
        (
            "`repo_id: … still needs … GB, and the disk of … has … GB free`",
            "Free some space on that disk, or choose single files that you already have.",
        ),
        (
            "`… is …. This input wants …`",
            "The file is not the kind of model that this input takes. The message says what it is "
            "and where it belongs.",
        ),
        (
            "`transformer: no file is chosen`",
            "Choose your model's file. The message lists those that were found; press R to see a "
            "new file.",
        ),
        (
            "`… needs …, and … has none`",
            "The transformer's file does not contain that part. Choose a file at the input that "
            "the message names.",
        ),
        (
            "`… is …, this model is …`",
            "Choose a LoRA for the same model family. The message says what the file is for.",
        ),
        (
            "`… is …, which cannot be merged here`",
            "LoHa, LoKr, DoRA and similar formats are not supported. Choose a plain LoRA, or "
            "convert the file to one.",
        ),
        (
            "`… is incomplete: … bytes of …`",
            "The download did not finish, or the disk was full. Download the file again.",
        ),
        (
            "`… is a pickle, which can run any code when it is opened`",
            "Use the `.safetensors` file of the same model.",
        ),
        (
            "`… is a GGUF file, which is made for inference`",
            "Training needs the `.safetensors` file; with `quantization` it takes as little "
            "memory.",
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
            "The LoRA is for another family (SD3, FLUX.1) or another size. Load the model that it "
            "was trained for.",
        ),
        (
            "The pictures do not change",
            "`strength` is 0, or the sampler is connected to the model before this node.",
        ),
    ],
    "GDRO_AlignedFromFile": [
        (
            "`… is no LoRA that GDRO Train LoRA wrote`",
            "Choose one from `models/loras/gdro`: only their headers say what they were trained "
            "on.",
        ),
        (
            "`aligned: this LoRA was trained for another model`",
            "Load the base that it was trained on, with the same LoRAs merged into it.",
        ),
    ],
    "GDRO_ModelForComfyUI": [
        (
            "`model: it is quantized, which other programs do not read`",
            "Set `quantization` to `none` on GDRO Load Base Model, or use ComfyUI's own loader.",
        ),
        (
            "`model: ComfyUI does not know this network`",
            "ComfyUI knows no network of this size. Generate with GDRO Generate.",
        ),
        (
            "`… has text this model cannot read: …`",
            "The bundled model reads English letters only, and no weights in brackets.",
        ),
    ],
    "GDRO_ModelFromWires": [
        (
            "`model: this is a … model, which predicts no rectified flow`",
            "SD 1.5, SDXL and models like them cannot be aligned with GDRO. Use SD3.5, FLUX, Chroma, "
            "Qwen-Image or Z-Image.",
        ),
        (
            "`model: this … model …`, such as: makes videos",
            "The model belongs to a kind that cannot be aligned: see the table above.",
        ),
        (
            "`gradients cannot pass through its layer …`",
            "The file stores weights in a way that only its own loader reads. Load the same model as bf16, "
            "fp8, int8 or GGUF.",
        ),
        (
            "`a node before this one changes layers while they run …`",
            "Apply LoRAs with the plain LoRA loader, not with one that bypasses the weights.",
        ),
        (
            "`model: a node before this one put … onto the MODEL …`",
            "Connect the MODEL from before the IP-Adapter, ControlNet or caching node; LoRAs may stay.",
        ),
        (
            "`vae: its latents have … channels, and the MODEL's …`",
            "Connect the VAE that belongs to the model.",
        ),
        (
            "`clip: it encodes text into … numbers a token, and the MODEL reads …`",
            "Connect the CLIP that belongs to the model, with all of its text encoders.",
        ),
    ],
}
