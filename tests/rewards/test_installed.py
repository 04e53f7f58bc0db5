"""Rewards of other packages: listed without an import, made, held to the contract; and the example."""

import os
import subprocess
import sys

import numpy as np
import pytest
from example_package import copy_test, install, install_example
from PIL import Image
from recording_host import RecordingHost

from gdro_comfy import rewards
from gdro_comfy.data.prompts import from_text
from gdro_comfy.errors import InputError
from gdro_comfy.headless import cli
from gdro_comfy.progress import Cancelled
from gdro_comfy.rewards import RewardError, installed
from gdro_comfy.rollouts.sample import RolloutConfig, sample_rollout
from gdro_comfy.rollouts.scoring import score_rollout
from gdro_comfy.stages import STAGES

WARMTH = "warmth (gdro-reward-warmth)"
IMAGES = [Image.new("RGB", (8, 8), color) for color in ("orange", "grey", "blue")]

REWARD = '''
class Mine:
    """Mine: {more}"""
    name, range, settings = "mine", (0, 10), {{}}
    def score(self, images, prompts, check_cancelled):
        {body}
{more}
'''


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder in which Python looks for packages."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if str(folder) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def install_mine(site, body="return [1] * len(images)", more="", package="acme-rewards"):
    code = REWARD.format(body=body, more=more)
    install(site, package, code, {"mine": f"{package.replace('-', '_')}:Mine"})


def make(reward, settings=""):
    stage = STAGES["GDRO_InstalledReward"]
    return stage(RecordingHost("unused"), reward=reward, settings=settings)


def test_it_is_listed_without_being_imported(site, capsys):
    assert installed.labels() == []
    assert cli.main(["rewards"]) == 0
    assert "None. Packages offer rewards" in capsys.readouterr().out
    install_example(site)
    install_mine(site, more="raise SystemExit('imported')")
    assert installed.labels() == [
        "mine (acme-rewards)",
        f"{WARMTH}: How warm the colours of a picture are.",
    ]
    assert cli.main(["rewards"]) == 0
    assert f"{WARMTH}: How warm the colours of a picture are. (1.0.0)" in capsys.readouterr().out
    assert not {"gdro_reward_warmth", "acme_rewards"} & set(sys.modules)


@pytest.mark.parametrize("chosen", ["warmth", WARMTH, f"{WARMTH}: words of an older version of it"])
def test_it_scores_a_rollout(site, bundled_model, host, chosen):
    install_example(site)
    config = RolloutConfig(images_per_prompt=3, steps=1, run_name="trial")
    rollout = sample_rollout(host, bundled_model, from_text("one red circle\na star"), config)
    reward, summary = make(chosen, "strength = 2\n# cold ones\nwanted = cold")
    scores = score_rollout(host, rollout, reward).scores()
    assert scores.shape == (2, 3)
    picture = np.asarray(rollout.groups()[0].image(0), np.float64).mean((0, 1)) / 255
    warmth = (picture[0] + picture[1]) / 2 - picture[2]
    assert scores[0, 0] == pytest.approx(1 / (1 + np.exp(2 * warmth)), abs=1e-5)
    assert summary.splitlines() == [
        "warmth of the package gdro-reward-warmth 1.0.0: How warm the colours of a picture are: red "
        "and yellow over blue.",
        "warmth, from 0 to 1; settings: strength = 2, wanted = 'cold'",
    ]
    other, _ = make(chosen, '{"strength": 3}')
    assert other.settings != reward.settings
    assert isinstance(other, rewards.Reward)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("power = 2", "has no setting 'power'. It has: strength, wanted."),
        ("strength = -1", r"refuses them \(ValueError: strength has to be above 0, not -1\)"),
        ("strength", "line 1, 'strength', is no setting"),
        ("strength = 1\nstrength = 2", "line 2, 'strength = 2', comes twice"),
        ("a b = 1", "line 1, 'a b = 1', is no setting"),
        ("{strength: 1}", "they are not JSON"),
        ('{"strength": NaN}', "they are not JSON .NaN is no number"),
        ("strength = NaN", "refuses them"),
    ],
)
def test_settings_that_do_not_fit_are_refused(site, settings, message):
    install_example(site)
    with pytest.raises(InputError, match=message):
        make(WARMTH, settings)


def test_missing_and_ambiguous_rewards_are_refused(site):
    with pytest.raises(InputError, match="'' is not among the installed .* No installed package"):
        make("")
    install_mine(site)
    install_mine(site, package="zeta")
    with pytest.raises(InputError, match=r"'gone' is not .*mine \(acme-rewards\), mine \(zeta\)"):
        make("gone")
    with pytest.raises(InputError, match="several packages offer 'mine'"):
        make("mine")
    assert make("mine (zeta)")[0].settings["package"] == "zeta"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "import not_a_module_at_all",
            "acme-rewards 1.0.0 cannot be imported .ModuleNotFoundError",
        ),
        ("raise SystemExit(3)", "cannot be imported .SystemExit"),
        ("Mine = 3", "is not a reward: acme_rewards:Mine is a int, no class or function"),
        ("del Mine", "cannot be imported .AttributeError"),
        ("del Mine.name", "is not a reward: the reward has no name"),
        ("Mine.name = 'A b'", "its name 'A b' has more than small letters"),
        ("Mine.range = (1, 0)", r"its range \(1, 0\) is not"),
        ("Mine.range = (0, float('nan'))", "its range"),
        ("Mine.range = 1", "its range 1 is not"),
        ("Mine.score = 3", "its score cannot be called"),
        ("Mine.settings = {'a': {1}}", "its settings cannot be written as JSON"),
        ("Mine.settings = 3", "its settings cannot be written as JSON"),
        ("def Mine(size): pass", "needs 'size'. It has: size."),
    ],
)
def test_a_broken_package_is_named(site, more, message):
    install_mine(site, more=more)
    with pytest.raises(InputError, match=message) as error:
        make("mine")
    assert "acme-rewards 1.0.0" in str(error.value)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return [1]", "gave 1 values and 1 details for 3 images"),
        ("return None", "gave no list of numbers, but a NoneType"),
        ("return ['good'] * 3", "gave no list of numbers, but a list"),
        ("return [[1]] * 3", "gave no list of numbers"),
        ("return [10**400] * 3", "gave no list of numbers"),
        ("return [1, float('nan'), 1]", "gave nan for image 1 of 'b'"),
        ("return [1, 1, 1e300]", "gave inf for image 2 of 'c'"),
        ("raise KeyError('weights')", "failed: KeyError: 'weights'"),
    ],
)
def test_unusable_scores_name_the_package(site, body, message):
    install_mine(site, body)
    reward, _ = make("mine")
    with pytest.raises(RewardError, match=f"mine of the package acme-rewards 1.0.0 {message}"):
        reward.score(IMAGES, from_text("a\nb\nc").prompts)


def test_arrays_tensors_and_details_are_accepted(site):
    body = (
        "return types.SimpleNamespace(values=torch.arange(3), details=[{'n': i} for i in range(3)])"
    )
    install_mine(site, body, "import types, torch")
    result = make("mine")[0].score(IMAGES, from_text("a\nb\nc").prompts)
    assert (result.values.tolist(), result.values.dtype) == ([0, 1, 2], np.float32)
    assert result.details == [{"n": 0}, {"n": 1}, {"n": 2}]


def test_prompts_that_it_cannot_judge_are_refused(site):
    more = """
def refuse(self, prompts):
    raise ValueError("no cat in 'a dog'")
Mine.check_prompts = refuse
"""
    install_mine(site, more=more)
    with pytest.raises(InputError, match="acme-rewards 1.0.0 refuses them: no cat in 'a dog'"):
        make("mine")[0].check_prompts(from_text("a dog").prompts)


def test_cancelling_is_not_reported_as_a_failure(site):
    install_example(site)
    reward, _ = make(WARMTH)

    def cancel():
        raise Cancelled

    with pytest.raises(Cancelled):
        reward.score(IMAGES, from_text("a\nb\nc").prompts, cancel)


def test_the_example_s_own_test_passes(site, tmp_path):
    install_example(site)
    test = copy_test(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)],
        env={**os.environ, "PYTHONPATH": str(site)}, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
