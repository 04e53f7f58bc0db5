"""Write the velocities of a transformer with and without a LoRA, as ComfyUI's own loaders apply it.

Run by ComfyUI's Python in its checkout: python velocities.py TRANSFORMER LORA INPUTS OUTPUT, all of them
safetensors. The output has "base", "aligned" (strength 1) and "half" (strength 0.5), and the numbers of
"modules" in the LoRA and of "patches" applied.
"""

import os
import sys

transformer, lora_file, inputs_file, output_file = sys.argv[1:5]
sys.argv = [sys.argv[0], "--cpu"]
sys.path.insert(0, os.getcwd())

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()

import comfy.model_management  # noqa: E402
import comfy.sd  # noqa: E402
import comfy.utils  # noqa: E402
import safetensors.torch  # noqa: E402
import torch  # noqa: E402

inputs = safetensors.torch.load_file(inputs_file)
extra = {"guidance": inputs["guidance"]} if "guidance" in inputs else {}
model = comfy.sd.load_diffusion_model(transformer, model_options={"dtype": torch.float32})


def velocity(patcher):
    comfy.model_management.load_models_gpu([patcher])
    x, sigma = inputs["x"], inputs["sigma"]
    with torch.no_grad():
        denoised = patcher.model.apply_model(
            x, sigma, c_crossattn=inputs["hidden"], y=inputs["pooled"], **extra
        )
    return ((x - denoised) / sigma.reshape(-1, 1, 1, 1)).contiguous()


base = velocity(model)
lora = comfy.utils.load_torch_file(lora_file, safe_load=True)
patched, _ = comfy.sd.load_lora_for_models(model, None, lora, 1.0, 0)
half, _ = comfy.sd.load_lora_for_models(model, None, lora, 0.5, 0)
modules = {key.rsplit(".lora_A", 1)[0] for key in lora if ".lora_A" in key}
result = {"base": base, "aligned": velocity(patched), "half": velocity(half)}
result["modules"] = torch.tensor(len(modules))
result["patches"] = torch.tensor(sum(len(p) for p in patched.patches.values()))
safetensors.torch.save_file(result, output_file)
