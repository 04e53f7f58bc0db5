"""The prompt in the graph that ComfyUI stores in an image: the text that the sampler saw, or a refusal."""

import json

import pytest
from PIL import Image

from gdro_comfy.importing import image_files, sources
from gdro_comfy.importing.png_prompt import positive_prompt


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


def encode(text):
    return node("CLIPTextEncode", text=text, clip=["4", 1])


def graph(positive=("6", 0), text="a fox", latent=("5", 0), denoise=1.0, **more):
    """A usual graph: the sampler is "3", its prompt "6", its negative "7"."""
    sampler = node("KSampler", positive=list(positive), negative=["7", 0], latent_image=list(latent),
                   model=["4", 0], denoise=denoise)  # fmt: skip
    return {
        "3": sampler, "4": node("CheckpointLoaderSimple", ckpt_name="x"), "5": node("EmptyLatentImage"),
        "6": encode(text), "7": encode("ugly"), "8": node("VAEDecode", samples=["3", 0]),
        "9": node("SaveImage", images=["8", 0]), **more,
    }  # fmt: skip


def read(graph):
    return positive_prompt(json.dumps(graph))


READ = {
    "a sampler": graph(),
    "a guider": graph(positive=("7", 0)) | {
        "3": node("SamplerCustomAdvanced", guider=["20", 0], latent_image=["5", 0]),
        "20": node("BasicGuider", conditioning=["21", 0]),
        "21": node("FluxGuidance", conditioning=["6", 0], guidance=3.5),
    },
    "DualCFG": graph(positive=("7", 0)) | {
        "3": node("SamplerCustomAdvanced", guider=["20", 0], latent_image=["5", 0]),
        "20": node("DualCFGGuider", cond1=["6", 0], cond2=["6", 0], negative=["7", 0]),
    },
    "SDXL": graph(**{"6": node("CLIPTextEncodeSDXL", text_g="a fox", text_l="a fox")}),
    "SD3": graph(**{"6": node("CLIPTextEncodeSD3", clip_l="", clip_g="", t5xxl="a fox")}),
    "HiDream": graph(**{"6": node("CLIPTextEncodeHiDream", clip_l="a fox", llama="a fox")}),
    "a subgraph": graph(positive=("12:6", 0), **{"12:6": encode("a fox"), "6": encode("a cat")}),
    "a text node": graph(**{"6": encode(["50", 0]), "50": node("PrimitiveString", value="a fox")}),
    "two texts": graph(**{
        "6": encode(["50", 0]),
        "50": node("StringConcatenate", string_a="a", string_b=["51", 0], delimiter=" "),
        "51": node("PrimitiveStringMultiline", value="fox"),
    }),
    "a ControlNet": graph(("30", 0), **{
        "30": node("ControlNetApplyAdvanced", positive=["6", 0], negative=["7", 0], strength=1),
    }),
    "the negative branch": graph(("30", 1), **{
        "30": node("ControlNetApplyAdvanced", positive=["7", 0], negative=["6", 0], strength=1),
    }),
    "a switch": graph(("30", 0), **{
        "30": node("ComfySwitchNode", switch=["31", 0], on_true=["6", 0], on_false=["7", 0]),
        "31": node("PrimitiveBoolean", value=True),
    }),
    "a switch of texts": graph(**{
        "6": encode(["50", 0]),
        "50": node("CR Text Input Switch", Input=2, text1="a cat", text2="a fox"),
    }),
    "two samplers of one prompt": graph(latent=("33", 0), denoise=0.4, **{
        "33": node("KSampler", positive=["6", 0], latent_image=["5", 0], denoise=1),
    }),
    "another image, shown but not saved": graph(**{
        "33": node("KSampler", positive=["34", 0]), "34": encode("a cat"),
        "35": node("VAEDecode", samples=["33", 0]), "36": node("PreviewImage", images=["35", 0]),
    }),
    "a picture that is all noise": graph(latent=("60", 0), **{
        "60": node("VAEEncode", pixels=["61", 0]), "61": node("LoadImage", image="x.png"),
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_the_text_that_the_sampler_saw_is_read(name):
    assert read(READ[name] | {"4": node("CheckpointLoaderSimple", ckpt_name="x")}) == "a fox"


def from_text(kind, **inputs):
    return graph(
        **{"6": encode(["50", 0]), "50": node(kind, **inputs), "51": node("LoadImage", image="x")}
    )


def via(kind):
    """A graph whose conditioning passes through a node."""
    return graph(("30", 0), **{"30": node(kind, conditioning=["6", 0], conditioning_1=["6", 0])})


def encoded(kind, **texts):
    return graph(**{"6": node(kind, **texts)})


PICTURE = {"60": node("VAEEncode", pixels=["61", 0]), "61": node("LoadImage", image="x.png")}
REFUSED = {
    "a caption node": (from_text("ImageCaption", image=["51", 0]), "comes from a ImageCaption"),
    "a random line": (from_text("Text Random Line", text="a fox\na cat", seed=7), "a Text Random Line"),
    "a path": (from_text("LoadTextFile", file_path="C:\\foxes.txt"), "a LoadTextFile"),
    "a template": (from_text("DPRandomGenerator", text="a {red|blue} fox"), "a DPRandomGenerator"),
    "a language model": (from_text("PromptEnhancer", prompt="fox"), "a PromptEnhancer"),
    "a switch of unknown state": (from_text("Any Switch (rgthree)", any_01=["6", 0], any_02=["7", 0]),
                                  "a Any Switch"),
    "two texts": (encoded("CLIPTextEncodeFlux", clip_l="fox", t5xxl="a fox in snow"), "several texts"),
    "a system prompt": (encoded("CLIPTextEncodeLumina2", user_prompt="a fox"), "CLIPTextEncodeLumina2"),
    "emptied": (via("ConditioningZeroOut"), "emptied by"),
    "combined": (via("ConditioningCombine"), "ConditioningCombine"),
    "a style": (via("StyleModelApply"), "mixed with a picture"),
    "an edit": (via("ReferenceLatent"), "mixed with a picture"),
    "img2img": (graph(latent=("60", 0), denoise=0.3, **PICTURE), "starts from a picture"),
    "img2img with a guider": (graph() | PICTURE | {
        "3": node("SamplerCustomAdvanced", guider=["20", 0], latent_image=["60", 0], sigmas=["62", 0]),
        "20": node("BasicGuider", conditioning=["6", 0]), "62": node("BasicScheduler", denoise=0.5),
    }, "starts from a picture"),
    "inpainting": (graph(latent=("60", 0), **{"60": node("VAEEncodeForInpaint", pixels=["61", 0])}),
                   "starts from a picture"),
    "a detailer": (graph(**{
        "40": node("FaceDetailer", image=["8", 0], positive=["41", 0]), "41": encode("a face"),
        "9": node("SaveImage", images=["40", 0])}), "several prompts: 'a fox', 'a face'"),
    "two savers": (graph(**{
        "33": node("KSampler", positive=["7", 0]), "36": node("My Saver", images=["33", 0])}),
        "several prompts"),
    "a comment": (graph(text="a fox // was a cat"), "a comment after //"),
    "a choice": (graph(text="a {red|blue} fox"), "a choice as"),
    "nothing": (graph(text=" "), "empty"),
    "a missing node": ({"3": node("KSampler", positive=["99", 0])}, "not supported"),
    "a circle": (graph(**{"6": node("FluxGuidance", conditioning=["6", 0])}), "not supported"),
    "a workflow": ({"nodes": [], "links": []}, "no sampler"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused_with_the_node(name):
    found, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        read(found)


@pytest.mark.parametrize("text", ["null", "[1]", "{", "[" * 100_000])
def test_metadata_that_is_no_graph_is_refused(text):
    with pytest.raises(ValueError, match="its metadata is not"):
        positive_prompt(text)


@pytest.mark.parametrize("suffix", ["webp", "jpg", "png"])
def test_exif_carries_the_graph_as_comfyui_writes_it(tmp_path, suffix):
    exif = Image.Exif()
    exif[0x0110], exif[0x010F] = "prompt:" + json.dumps(graph(text="a fox, 狐狸")), "workflow:{}"
    for name, color in (("a", "red"), ("b", "blue")):
        Image.new("RGB", (64, 64), color).save(tmp_path / f"{name}.{suffix}", exif=exif)
    source = sources.from_folder(tmp_path, "PNG metadata")
    assert ([group.prompt for group in source.groups], source.problems) == (["a fox, 狐狸"], [])


def test_metadata_of_other_programs_is_named(tmp_path):
    from PIL import PngImagePlugin

    for key, words in image_files._OTHER_METADATA.items():
        info = PngImagePlugin.PngInfo()
        info.add_text(key, "{}")
        Image.new("RGB", (64, 64)).save(tmp_path / "a.png", pnginfo=info)
        source = sources.from_folder(tmp_path, "PNG metadata")
        assert source.problems == [f"a.png: it has no ComfyUI metadata, only {words}"]
