"""Everything that reads what others wrote, with inputs that nearly fit; each may raise our errors only."""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

from gdro_comfy.data import aligned, files, lora_file, prompts, ratings, scores
from gdro_comfy.data import verify as verifying
from gdro_comfy.data.conditioning import Conditioning
from gdro_comfy.data.groups import Group
from gdro_comfy.data.prompt_syntax import read_by_comfyui
from gdro_comfy.data.quotes import quoted
from gdro_comfy.data.safetensors_files import UnreadableFile, read, read_header
from gdro_comfy.data.trainings import Training
from gdro_comfy.errors import InputError
from gdro_comfy.evaluation import result
from gdro_comfy.headless import workflow
from gdro_comfy.importing import image_files, png_prompt, sources
from gdro_comfy.lora import files as lora_files
from gdro_comfy.rewards import openai_wire, rubric
from gdro_comfy.rewards.combine import read_weights
from gdro_comfy.rewards.formula import Formula
from gdro_comfy.rewards.http_call import CallError
from gdro_comfy.rewards.installed import read_settings
from gdro_comfy.rewards.rubric import Answer, Refusal, UnreadableAnswer
from gdro_comfy.viewer import evaluations, groups, ratings_csv, runs

OURS = (InputError, UnreadableFile, CallError, Refusal, UnreadableAnswer, runs.UnknownName)

LONGEST = 2000
"""Letters of a message: it lists at most some lines, and quotes at most a line of each."""


@dataclass(frozen=True)
class Reader:
    """A reader and its inputs.

    Args:
        inputs: what is written or given.
        read: reads an input, in an empty folder.
        errors: that it may raise besides ``OURS``.
    """

    inputs: st.SearchStrategy[Any]
    read: Callable[[Path, Any], object]
    errors: tuple[type[Exception], ...] = ()


def _deep(opening: str, closing: str) -> st.SearchStrategy[str]:
    depths = st.sampled_from([3, 200, 900, 5000, 100_000])
    return st.builds(
        lambda n, whole: opening * n + (closing * n if whole else ""), depths, st.booleans()
    )


WORDS = st.sampled_from(
    [
        "text", "prompt", "include", "class", "count", "red circle", 'a sign "OPEN"', "nodes", "links",
        "class_type", "inputs", "KSampler", "CLIPTextEncode", "SaveImage", "positive", "group", "rating",
        "ratings", "ranks", "rank", "image", "value", "step", "validation", "size", "model", "name",
        "widgets_values", "GDRO_PromptSet", "GDRO_GroupRollout", "__value__", "definitions", "subgraphs",
        "format", "structure", "results", "pairs", "rollouts", "lora", "steps", "\ud800", "\x00", "\u2028",
        "1", "-1", "1e999", "NaN", "0.5", "Score: 4", "{", "}", "[", '"', ",", "\t", "\n", "=", "#", "(", ")",
    ]
)  # fmt: skip
TEXT = st.one_of(
    WORDS, st.text(max_size=30), st.lists(WORDS, max_size=12).map("".join),
    st.text(alphabet="ab(),+-*/0.1e\n\" ", max_size=60),
    st.builds(lambda text, n: text * n, WORDS, st.sampled_from([50, 1000, 20_000])),
)  # fmt: skip
NUMBERS = st.one_of(
    st.integers(), st.sampled_from([10**400, -(10**4000), 2**63, 0, -1]), st.floats(), st.booleans()
)
LEAVES = st.one_of(st.none(), NUMBERS, TEXT)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(WORDS, st.text(max_size=8)), inner, max_size=5),
    ),
    max_leaves=12,
)


def _dumps(value: Any) -> bytes:
    return json.dumps(value).encode()


DOCUMENTS = st.one_of(
    JSON.map(_dumps),
    st.one_of(_deep("[", "]"), _deep('{"nodes":', "}"), _deep('{"inputs":[', "]}")).map(str.encode),
    TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.binary(max_size=60),
    st.just(b"1" * 5000),
)
LINES = st.lists(st.one_of(DOCUMENTS, JSON.map(lambda v: _dumps({"prompt": v, "text": v})))).map(
    b"\n".join
)


def _like(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Objects with these entries, some of them odd or missing."""
    odd = {name: st.one_of(values, JSON) for name, values in fields.items()}
    return st.one_of(st.fixed_dictionaries({}, optional=odd).map(_dumps), DOCUMENTS)


def _safetensors(header: bytes, data: bytes, length: int | None) -> bytes:
    size = len(header) if length is None else length
    return struct.pack("<Q", size % 2**64) + header + data


TENSOR = st.fixed_dictionaries(
    {
        "dtype": st.one_of(st.sampled_from(["F32", "F16", "BF16", "I64", "F8_E4M3"]), JSON),
        "shape": st.one_of(st.lists(st.integers(0, 4), max_size=3), JSON),
        "data_offsets": st.one_of(st.just([0, 16]), st.lists(st.integers(0, 99), max_size=3), JSON),
    }
)
TENSOR_NAMES = st.sampled_from(
    [
        "latents", "seeds", "hidden", "transformer.a.lora_A.weight", "transformer.a.lora_B.weight",
        "lora_unet_a.lora_down.weight", "lora_unet_a.lora_up.weight", "lora_unet_a.alpha", "",
        "a.lora_A.weight", "a.dora_scale",
    ]
)  # fmt: skip
METADATA = st.dictionaries(
    st.sampled_from(
        ["format", "structure", "pictures", "gdro.base", "gdro.training", "ss_steps", "gdro.checksum",
         "ss_network_alpha", "lora_adapter_metadata"]
    ),
    st.one_of(
        TEXT, JSON.map(lambda v: _dumps(v).decode()), _deep("[", "]"),
        st.just("gdro structured conditioning 1"),
    ),
    max_size=4,
)  # fmt: skip
TENSOR_FILES = st.one_of(
    st.builds(
        lambda tensors, texts, data, length: _safetensors(
            _dumps({**tensors, **({"__metadata__": texts} if texts is not None else {})}),
            data,
            length,
        ),
        st.dictionaries(TENSOR_NAMES, st.one_of(TENSOR, JSON), max_size=4),
        st.one_of(st.none(), METADATA, JSON),
        st.binary(max_size=64),
        st.one_of(st.none(), st.none(), st.integers(0, 2**64)),
    ),
    DOCUMENTS.map(lambda header: _safetensors(header, b"\0" * 32, None)),
    st.binary(max_size=80),
)


def _file(name: str, function: Callable[[Path], object]) -> Callable[[Path, bytes], object]:
    def read_file(folder: Path, data: bytes) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return function(path)

    return read_file


def _prompt_file(folder: Path, value: tuple[str, bytes]) -> object:
    suffix, data = value
    path = folder / f"prompts{suffix}"
    path.write_bytes(data)
    return prompts.from_file(path)


def _formula(_: Path, text: str) -> object:
    return Formula(text, ["a", "b"])({"a": np.array([0.0, 1.0]), "b": np.array([2.0, -1.0])})


def _workflow(path: Path) -> object:
    graph = workflow.load(path)
    return workflow.check(graph)


def _override(folder: Path, text: str) -> object:
    path = folder / "graph.json"
    path.write_text('{"1": {"class_type": "GDRO_PromptSet", "inputs": {"limit": 3}}}')
    graph = workflow.load(path)
    workflow.override(graph, text)
    return workflow.check(graph)


def _answer(_: Path, data: bytes) -> object:
    answer = openai_wire.read_completion(data)
    openai_wire.error_status(data)
    return rubric.question("How good?").read(answer)


def _run_folder(folder: Path, contents: dict[str, bytes]) -> object:
    """A run whose files hold anything: everything that shows, checks or continues one is asked."""
    run = folder / "gdro" / "odd-12345678"
    for name, data in contents.items():
        path = run / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    run.mkdir(parents=True, exist_ok=True)
    (run / "run.json").touch()
    shown: list[object] = [runs.summaries(folder), runs.summary(run)]
    for scores_name in ("", "a.jsonl"):
        for order in groups.ORDERS:
            _allow(lambda s=scores_name, o=order: groups.page(run, s, o, 0.1))
    training = Training(run / "train" / "t")
    training.folder.mkdir(parents=True, exist_ok=True)
    shown += [runs.history(training.folder), training.rows(), ratings.read(run)]
    _allow(lambda: evaluations.read(training.folder, "e"))
    _allow(lambda: evaluations.image(training.folder, "e", 0))
    _allow(lambda: ratings_csv.write_template(run, folder / "t.csv"))
    group = Group(run / "prompts" / GROUP, prompts.Prompt("a cat"), 0)
    group.state()
    for what in (group.latents, group.conditioning, lambda: group.image(0), group.has_prompt):
        _allow(what)
    result.read(training.evaluations / "e")
    report = verifying.verify(run, folder / "loras")
    report.text(run)
    return json.dumps(report.as_json(run))


def _allow(function: Callable[[], object]) -> None:
    try:
        function()
    except OURS as error:
        _check_length(error)


GROUP = "9e2b4b4b2f1c"
RUN_FILES = {
    "run.json": _like(
        name=TEXT, size=st.lists(NUMBERS, max_size=3), seed=NUMBERS, model=JSON, sampler=JSON
    ),
    f"prompts/{GROUP}/prompt.json": _like(text=TEXT),
    f"prompts/{GROUP}/latents.safetensors": TENSOR_FILES,
    f"prompts/{GROUP}/latents-001.safetensors": TENSOR_FILES,
    f"prompts/{GROUP}/conditioning.safetensors": TENSOR_FILES,
    f"prompts/{GROUP}/000.png": st.binary(max_size=40),
    "scores/a.jsonl": st.lists(
        _like(prompt=st.just(GROUP), image=st.integers(-1, 3), value=NUMBERS, details=JSON), max_size=4
    ).map(b"\n".join),
    "ratings.jsonl": st.lists(
        _like(group=st.just(GROUP), ratings=st.lists(NUMBERS), ranks=st.lists(NUMBERS)), max_size=4
    ).map(b"\n".join),
    "train/t/history.jsonl": st.lists(
        _like(step=st.integers(0, 9), validation=JSON, stopped=st.booleans(), loss=NUMBERS), max_size=4
    ).map(b"\n".join),
    "train/t/config.json": _like(training=_like(steps=NUMBERS).map(lambda _: {"steps": 3}), reward=TEXT),
    "train/t/done.json": _like(lora=TEXT, steps=NUMBERS),
    "train/t/checkpoint.safetensors": TENSOR_FILES,
    "train/t/evaluations/e/result.json": _like(
        results=JSON, pairs=JSON, rollouts=st.lists(TEXT), files=JSON, rewards=JSON
    ),
}  # fmt: skip

CSV = st.one_of(
    TEXT.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.lists(st.lists(TEXT, max_size=4).map(",".join), max_size=5).map(
        lambda rows: "\n".join(["group,image,rating", *rows]).encode("utf-8", "surrogatepass")
    ),
    st.binary(max_size=60),
)


def _ratings_csv(folder: Path, data: bytes) -> object:
    run = folder / "gdro" / "r-12345678"
    group = run / "prompts" / GROUP
    group.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (group / "prompt.json").write_text('{"text": "a cat"}')
    for index in range(2):
        (group / f"{index:03d}.png").write_bytes(b"x")
    (folder / "r.csv").write_bytes(data)
    return ratings_csv.read_into(run, folder / "r.csv")


def _png(text: str, chunk: str, damage: tuple[int, int]) -> bytes:
    from PIL import Image, PngImagePlugin

    info, buffer = PngImagePlugin.PngInfo(), io.BytesIO()
    try:
        info.add_text(chunk, text)
    except (UnicodeEncodeError, ValueError):
        info.add_text("prompt", "{}")
    Image.new("RGB", (64, 64)).save(buffer, "PNG", pnginfo=info)
    data = bytearray(buffer.getvalue())
    if damage[1]:
        data[damage[0] % len(data)] ^= damage[1]
    return bytes(data)


PNGS = st.one_of(
    st.builds(
        _png, st.one_of(TEXT, DOCUMENTS.map(lambda d: d.decode("latin-1"))),
        st.sampled_from(["prompt", "parameters", "workflow"]),
        st.tuples(st.integers(0, 10**6), st.sampled_from([0, 0, 1, 128])),
    ),
    st.binary(max_size=60),
)  # fmt: skip


def _pictures(folder: Path, images: list[bytes]) -> object:
    for number, data in enumerate(images):
        (folder / f"{number}.png").write_bytes(data)
    source = sources.from_folder(folder, "PNG metadata")
    for image in source.images:
        try:
            image.load()
        except image_files.UnusableImage as error:
            _check_length(error)
    assert all(len(problem) < LONGEST for problem in source.problems)
    return source


NODE = st.fixed_dictionaries(
    {}, optional={
        "class_type": st.one_of(st.sampled_from(
            ["KSampler", "CLIPTextEncode", "SaveImage", "ConditioningCombine", "GDRO_PromptSet",
             "GDRO_GroupRollout", "GDRO_LoadBaseModel", "GDRO_TrainLoRA"]), JSON),
        "inputs": st.one_of(st.dictionaries(
            st.sampled_from(["positive", "text", "images", "samples", "conditioning", "model", "limit",
                             "prompts", "steps", "algorithm", "algorithm.beta", "guider"]),
            st.one_of(st.tuples(st.sampled_from("123"), st.integers(-1, 2)), LEAVES, JSON), max_size=4),
            JSON),
        "_meta": JSON,
    },
)  # fmt: skip
API = st.dictionaries(st.sampled_from("1234"), NODE, max_size=4)
CANVAS_NODE = st.fixed_dictionaries(
    {}, optional={
        "id": st.one_of(st.integers(0, 4), JSON),
        "type": st.one_of(st.sampled_from(
            ["GDRO_PromptSet", "GDRO_GroupRollout", "Reroute", "PrimitiveNode", "Note", "sub"]), JSON),
        "inputs": st.one_of(st.lists(st.fixed_dictionaries({}, optional={
            "name": TEXT, "type": JSON, "link": st.one_of(st.integers(0, 3), JSON), "widget": JSON}),
            max_size=3), JSON),
        "outputs": st.one_of(st.lists(st.fixed_dictionaries({}, optional={
            "name": TEXT, "links": st.one_of(st.lists(st.integers(0, 3)), JSON)}), max_size=2), JSON),
        "widgets_values": st.one_of(st.lists(LEAVES, max_size=8), JSON),
        "widgets_values_named": JSON, "mode": st.one_of(st.sampled_from([0, 2, 4]), JSON),
        "properties": JSON, "title": JSON,
    },
)  # fmt: skip
CANVAS = st.fixed_dictionaries(
    {"nodes": st.lists(st.one_of(CANVAS_NODE, JSON), max_size=4)},
    optional={
        "links": st.one_of(
            st.lists(st.one_of(st.lists(st.integers(0, 4), min_size=5, max_size=6), JSON), max_size=4), JSON
        ),
        "definitions": st.one_of(st.just({"subgraphs": [{"id": "sub", "name": "s"}]}), JSON),
    },
)  # fmt: skip
GRAPHS = st.one_of(API.map(_dumps), CANVAS.map(_dumps), DOCUMENTS)

READERS: dict[str, Reader] = {
    "prompts typed": Reader(TEXT, lambda _, text: prompts.from_text(text)),
    "prompt files": Reader(
        st.tuples(st.sampled_from([".txt", ".jsonl", ".csv", ".tsv", ".json"]), st.one_of(LINES, CSV)),
        _prompt_file,
    ),
    "prompt entries": Reader(
        JSON.filter(lambda value: isinstance(value, dict)),
        lambda _, row: prompts.Prompt.from_json(row),
        (ValueError,),
    ),
    "quotes": Reader(TEXT, lambda _, text: (quoted(text), read_by_comfyui(text))),
    "formulas": Reader(
        st.one_of(
            TEXT, st.builds(lambda s, n: s * n + "a", st.sampled_from(["-", "+", "(", "a+", "a*("]),
                            st.sampled_from([3, 100, 300, 480, 900])),
        ),
        _formula,
    ),
    "weights": Reader(TEXT, lambda _, text: read_weights(text, ["a", "b"])),
    "settings of rewards": Reader(TEXT, lambda _, text: read_settings(text)),
    "addresses": Reader(TEXT, lambda _, text: openai_wire.chat_url(text)),
    "answers": Reader(
        _like(
            choices=st.lists(st.fixed_dictionaries({}, optional={
                "message": st.fixed_dictionaries({}, optional={
                    "content": st.one_of(TEXT, JSON), "refusal": JSON, "reasoning": JSON}),
                "logprobs": JSON, "finish_reason": st.one_of(st.just("stop"), JSON)}), max_size=2),
            usage=JSON,
        ),
        _answer,
    ),
    "judgements": Reader(
        TEXT, lambda _, text: rubric.question("How good?", 1, 10).read(Answer(text, (), False, (0, 0)))
    ),
    "workflows": Reader(GRAPHS, _file("graph.json", _workflow)),
    "settings of workflows": Reader(TEXT, _override),
    "PNG prompts": Reader(
        st.one_of(GRAPHS.map(lambda d: d.decode("utf-8", "replace")), TEXT),
        lambda _, text: png_prompt.positive_prompt(text),
        (ValueError,),
    ),
    "pictures": Reader(st.lists(PNGS, min_size=1, max_size=2), _pictures),
    "headers": Reader(TENSOR_FILES, _file("a.safetensors", read_header)),
    "tensor files": Reader(TENSOR_FILES, _file("a.safetensors", read)),
    "conditioning": Reader(TENSOR_FILES, _file("a.safetensors", Conditioning.read)),
    "LoRA files of others": Reader(
        TENSOR_FILES, _file("a.safetensors", lambda path: lora_file.load(path, "loras"))
    ),
    "LoRA files": Reader(TENSOR_FILES, _file("a.safetensors", lora_files.load)),
    "finished LoRAs": Reader(
        TENSOR_FILES, _file("a.safetensors", lambda path: aligned.from_file(path, path.parent))
    ),
    "scores": Reader(LINES, _file("a.jsonl", scores.read_scores)),
    "histories": Reader(LINES, _file("t/history.jsonl", lambda path: Training(path.parent).rows())),
    "ratings": Reader(LINES, _file("ratings.jsonl", lambda path: ratings.read(path.parent))),
    "ratings from tables": Reader(CSV, _ratings_csv),
    "records": Reader(
        DOCUMENTS, _file("a.json", files.read_record), (ValueError,)
    ),
    "run folders": Reader(
        st.fixed_dictionaries({}, optional=RUN_FILES), _run_folder
    ),
}  # fmt: skip


def check(name: str, folder: Path, value: Any) -> None:
    """Give an input to a reader; fail unless it reads it or raises an error of ours, in few words."""
    reader = READERS[name]
    try:
        reader.read(folder, value)
    except (*OURS, *reader.errors) as error:
        if type(error) is UnicodeDecodeError:
            return  # a ValueError, where these are allowed
        _check_length(error)


def _check_length(message: object) -> None:
    assert len(str(message)) < LONGEST, f"{len(str(message))} letters: {message!s:.300}"
