"""Rubrics for wishes that many creators share: following the prompt, hands and faces, a checklist."""

from __future__ import annotations

from ..errors import InputError
from .rubric import Rubric, question

_MOST_QUESTIONS = 20  # in one checklist; an answer has a number for each


def follows_the_prompt() -> Rubric:
    """Return the rubric that asks how much of the prompt an image shows, 1 to 5."""
    return question(
        "The image was made from this prompt: {prompt}\n\n"
        "How completely does it show what the prompt asks for? Consider every thing that is named, its "
        "number, its attributes, its place and any text. Ignore how beautiful the image is.\n"
        "1: something else. 2: the main thing is missing or wrong. 3: the main thing is right, several "
        "details are not. 4: one detail is wrong or missing. 5: everything is as asked."
    )


def hands_and_faces() -> Rubric:
    """Return the rubric that asks how well hands and faces are drawn, 1 to 5; 3 where there are none."""
    return question(
        "Look at the hands, fingers, faces and eyes in the image, at each of them in turn: the number of "
        "fingers, joints, symmetry, teeth, where the eyes look. Ignore everything else, and whether there "
        "are people at all.\n"
        "1: deformed beyond doubt. 2: clearly wrong. 3: not quite right, or there are no hands and no faces. "
        "4: right at first sight. 5: right in every detail."
    )


def checklist(text: str) -> Rubric:
    """Return the rubric of questions that are answered with yes or no; the reward is the share of yes.

    Args:
        text: one question a line; ``{prompt}`` stands for the image's prompt.

    Raises:
        InputError: there is no question, or there are more than 20.
    """
    questions = [line.strip() for line in text.splitlines() if line.strip()]
    if not questions:
        raise InputError(
            "questions", "there is none", 'Write one a line, such as "Is the sky dark?"'
        )
    if len(questions) > _MOST_QUESTIONS:
        raise InputError(
            "questions",
            f"there are {len(questions)}",
            f"Use {_MOST_QUESTIONS} at most: longer lists are answered carelessly.",
        )
    names = tuple(f"q{number}" for number in range(1, len(questions) + 1))
    lines = "\n".join(f"{name}: {one}" for name, one in zip(names, questions, strict=True))
    form = ", ".join(f'"{name}": 0 or 1' for name in names)
    return Rubric(
        "Answer these questions about the image, each by itself, with 1 for yes and 0 for no. If you cannot "
        f"tell, it is 0.\n\n{lines}\n\nAnswer with JSON only: {{{form}}}",
        names,
        0.0,
        1.0,
    )
