"""An API key in ComfyUI's settings reaches the judge on its host, and is in no workflow."""

import json

from judge_server import by_light, serving


def graph(address):
    nodes = {
        "model": ("LoadBaseModel", {"source": "bundled", "source.model": "tiny SD3", "dtype": "auto"}),
        "prompts": ("PromptSet", {"source": "text", "limit": 0, "source.text": "one red circle"}),
        "rollout": ("GroupRollout", {"model": ["model", 0], "prompts": ["prompts", 0],
                                     "images_per_prompt": 2, "run_name": "judged", "steps": 1,
                                     "guidance": 1.0, "width": 0, "height": 0, "seed": 0}),
        "judge": ("VLMReward", {"ask": "question", "ask.question": "How bright?", "ask.worst": 1.0,
                                "ask.best": 5.0, "ask.reason": False, "answered_by": "endpoint",
                                "answered_by.address": address, "answered_by.model": "eye",
                                "answered_by.concurrency": 1, "answered_by.max_tokens": 50,
                                "answered_by.time_limit": 30.0, "answered_by.retries": 1,
                                "answered_by.price": 0.0, "answered_by.longest_side": 512,
                                "on_refusal": "stop"}),
        "score": ("ScoreRollout", {"rollout": ["rollout", 0], "reward": ["judge", 0]}),
    }  # fmt: skip
    return {
        key: {"class_type": f"GDRO_{kind}", "inputs": inputs}
        for key, (kind, inputs) in nodes.items()
    }


def test_a_key_in_the_settings_is_sent_to_its_host(server):
    with serving(by_light) as judge:
        settings = {"GDRO.JudgeKeys": "api.example.com=sk-other, 127.0.0.1=sk-mine"}
        path = server.base / "user" / "default" / "comfy.settings.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.is_file() else None
        path.write_text(json.dumps(settings))
        try:
            entry = server.run(graph(judge.address))
        finally:
            path.unlink() if before is None else path.write_text(before)
    assert [request.headers["Authorization"] for request in judge.requests] == [
        "Bearer sk-mine"
    ] * 2
    assert "sk-mine" not in json.dumps(entry)
