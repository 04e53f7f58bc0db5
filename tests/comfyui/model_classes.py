"""Print, for every class of ComfyUI's models, how it samples and what the pack says to it, as JSON.

Run by ComfyUI's Python in its checkout: python model_classes.py PACK
"""

import json
import logging

import inside_comfyui  # noqa: F401  # isort: skip

import comfy.model_sampling
import comfy.supported_models as known
from gdro_pack.gdro_comfy.errors import InputError
from gdro_pack.nodes.wires import checks, families

FLOWS = (comfy.model_sampling.CONST, comfy.model_sampling.COSMOS_RFLOW)
SETTINGS = {"in_channels": 4, "out_channels": 16, "model_channels": 320, "hidden_size": 128}
"""Those without which some classes cannot be described."""


class Patcher:
    """As much of a MODEL as the checks look at, without a network."""

    def __init__(self, config, model):
        self.model, self.model_options = model, {}
        self.model.model_config = config

    def get_model_object(self, name):
        return getattr(self.model, name)


def described(family, **settings):
    """Return a MODEL of a class without its network; None if the class needs a file for that."""
    config = family({**SETTINGS, **family.unet_config, **settings})
    config.unet_config["disable_unet_model_creation"] = True
    try:
        return Patcher(config, config.get_model({}, device="cpu"))
    except (KeyError, RuntimeError):  # it looks for weights
        return None


def said(family, **settings):
    """Return how the pack refuses a class, "" if it does not, and what it logs."""
    patcher = described(family, **settings)
    config = family({**SETTINGS, **family.unet_config, **settings})
    if patcher is None:
        refused = families.refusal(family.__name__, config.unet_config)
        return {"flow": True, "refusal": refused[0] if refused else "", "logged": []}
    logged = []
    handler = logging.Handler()
    handler.emit = lambda record: logged.append(f"{record.levelname}: {record.getMessage()}")
    checks.log.addHandler(handler)
    checks.log.setLevel(logging.INFO)
    refusal = ""
    try:
        checks.check_model(patcher)
        checks.tell_variants(patcher)
    except InputError as error:
        refusal = str(error)
    checks.log.removeHandler(handler)
    flow = isinstance(patcher.get_model_object("model_sampling"), FLOWS)
    return {"flow": flow, "refusal": refusal, "logged": logged}


class ModelOfAPack(known.Flux):
    """A class that no ComfyUI has."""


class AsksForMore(known.Flux):
    """A class of a pack whose network is given more than a text."""

    def get_model(self, state_dict, prefix="", device=None):
        model = super().get_model(state_dict, prefix, device)
        model.concat_cond = lambda **given: given["face"]
        return model


rows = {family.__name__: said(family) for family in known.models}
variants = {
    "layers": said(known.QwenImage, use_additional_t_cond=True),
    "mean flow": said(known.HunyuanImage21, meanflow=True),
    "schnell": said(known.FluxSchnell, vec_in_dim=768),
    "ovis": said(known.FluxSchnell, vec_in_dim=None),
    "klein": said(known.Flux2, guidance_embed=False),
    "flux2": said(known.Flux2, guidance_embed=True),
    "depth": said(known.Flux, in_channels=32),
    "of a pack": said(ModelOfAPack),
    "asks for more": said(AsksForMore),
}
report = {
    "classes": rows,
    "variants": variants,
    "table": sorted(families.IMAGES),
    "refused": sorted(name for entry in families.REFUSALS for name in entry.families),
}
print("GDRO " + json.dumps(report))
