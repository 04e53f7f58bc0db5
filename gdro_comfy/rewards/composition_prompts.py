"""From a plain prompt to what must be in the image, in the form of ``Prompt.include``."""

from __future__ import annotations

import re
from typing import Any

from ..errors import InputError
from .shapes import COLORS, SHAPES

# GenEval's colours.
PHOTO_COLORS = (
    "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white",
)  # fmt: skip
NUMBERS = (
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_COUNTS = {"a dozen": 12, "a": 1, "an": 1, **{word: i for i, word in enumerate(NUMBERS, 1)}}
_COUNT = rf"(?:({'|'.join(_COUNTS)}|\d+) )?"
_OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_PREFIX = re.compile(r"an? (?:picture|photo|image|drawing) (?:of|with) ")
_LINK = re.compile(
    r"\s*,?\s*\b(?:is |are )?(?:to the )?(and|left of|right of|above|below)\b\s*|\s*,\s*"
)

_SHAPE = re.compile(rf"{_COUNT}(?:({'|'.join(COLORS)}) )?({'|'.join(SHAPES)})(s?)")
UNDERSTOOD = (
    'Write for example "two red circles left of one blue square" or "a star and 3 triangles": '
    f"shapes {', '.join(SHAPES)}; colours {', '.join(COLORS)} or none; joined by and, left of, "
    'right of, above or below. Or read the prompts from a file where each has an "include".'
)

_NOUN = re.compile(rf"{_COUNT}(?:({'|'.join(PHOTO_COLORS)}) )?([^\W\d_][\w'-]*(?: [\w'-]+){{0,2}})")
UNDERSTOOD_NOUNS = (
    'Write for example "two red apples left of a cup" or "a photo of a dog and 3 cats": '
    f"colours {', '.join(PHOTO_COLORS)} or none; joined by and, left of, right of, above or below. Or "
    'read the prompts from a file where each has an "include".'
)
# Words that no name of a thing contains.
_NOT_IN_NAMES = re.compile(
    r"\b(?:in|on|at|with|without|under|over|near|behind|before|by|of|to|from|inside|is|are|no|not|"
    r"the|that|this|which|while|some|many|several|few|couple|pair|pairs|dozen|dozens|next|top|hundred|"
    r"thousand|zero|was|were|be|been|has|had|have|"
    # Colours that this reward does not tell, and shades.
    r"gray|grey|gold|golden|silver|beige|cyan|magenta|violet|turquoise|teal|maroon|navy|"
    r"(?:dark|light|pale|bright)(?= )|colou?red|colou?rful|"
    # Words of style.
    r"masterpiece|quality|resolution|style|background|lighting|bokeh|photorealistic|realistic|detailed|"
    r"photograph|photography|hd|uhd|render|trending|cinematic|artstation)\b"
)
_COLOR_WORDS = re.compile(rf"\b(?:{'|'.join(PHOTO_COLORS)})\b")
# Words in -ing, -ed and -ly tell what a thing does or how, save for these names.
_VERB = re.compile(r"\w+(?:ing|ly|ed)")
_NAMES = frozenset((
    "king", "ring", "earring", "string", "wing", "swing", "spring", "ceiling", "building",
    "painting", "drawing", "clothing", "pudding", "bowling", "dining", "parking", "washing",
    "sewing", "frying", "swimming", "fishing", "wedding", "living", "cutting", "baking", "rolling",
    "ironing", "shopping", "sleeping", "serving", "measuring", "mixing", "drinking", "duckling",
    "dumpling", "sibling", "viking", "fly", "butterfly", "dragonfly", "jelly", "belly", "lily",
    "bed", "weed", "seed", "shed", "sled", "reed", "feed", "red", "teddy", "ugly", "doily",
    "family", "trolley", "potted",
))  # fmt: skip
_IRREGULAR_VERBS = frozenset((
    "rang", "sang", "ran", "ate", "sat", "stood", "flew", "swam", "slept", "lay", "fell", "held",
    "wore", "drove", "rode", "grew", "made", "kept", "sleeps",
))  # fmt: skip
_PLURALS = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse",
    "geese": "goose", "feet": "foot", "teeth": "tooth", "knives": "knife", "leaves": "leaf",
    "skises": "skis", "wolves": "wolf", "loaves": "loaf", "buses": "bus", "shelves": "shelf",
    "scarves": "scarf",
}  # fmt: skip
_UNCHANGED = frozenset({"sheep", "fish", "deer", "scissors", "skis", "glasses", "sunglasses"})


def parse_include(text: str) -> tuple[dict[str, Any], ...]:
    """Return what a plain prompt asks for in shapes.

    >>> parse_include("a star left of two red circles")[1]
    {'class': 'circle', 'count': 2, 'color': 'red', 'position': ['right of', 0]}

    Raises:
        InputError: something in the text is not understood.
    """
    return _parse(text, _SHAPE, UNDERSTOOD)


def parse_nouns(text: str) -> tuple[dict[str, Any], ...]:
    """Return what a plain prompt asks for in things of any kind.

    >>> parse_nouns("a photo of two red apples left of a cup")[0]
    {'class': 'apple', 'count': 2, 'color': 'red'}

    Raises:
        InputError: something in the text is not understood.
    """
    return _parse(text, _NOUN, UNDERSTOOD_NOUNS)


def singular(noun: str) -> str:
    """Return the singular of an English noun.

    >>> singular("fire trucks"), singular("buses"), singular("cherries")
    ('fire truck', 'bus', 'cherry')
    """
    start, _, last = noun.rpartition(" ")
    if last in _PLURALS:
        last = _PLURALS[last]
    elif (last in _UNCHANGED and not start) or last.endswith("ss") or not last.endswith("s"):
        pass
    elif last.endswith("ies") and len(last) > 4:
        last = f"{last[:-3]}y"
    elif re.search(r"(?:ss|x|zz|ch|sh)es$|(?:tomato|potato|volcano)es$", last):
        last = last[:-2]
    else:
        last = last[:-1]
    return f"{start} {last}".strip()


def _check_noun(noun: str, number: int, counted: bool, piece: str, text: str, remedy: str) -> None:
    """Raise ``InputError`` for what is no name of a thing, or has no clear number."""
    words = noun.split()
    plural = _is_plural(words[-1])
    if not counted or (number == 1 and plural):
        raise InputError("prompts", f"{piece!r} in {text!r} has no number", remedy)
    verb = any(
        (_VERB.fullmatch(word) and word not in _NAMES) or word in _IRREGULAR_VERBS for word in words
    )
    # "two girls cooked dinner" has its plural in front; a name has it at its end.
    inner = any(_is_plural(word) for word in words[:-1])
    # "orange" alone is a fruit; any other colour without a thing is one of several on one thing.
    colors = _COLOR_WORDS.search(noun) and noun not in ("orange", "oranges")
    if verb or inner or colors or (noun == "glasses" and number > 1):
        raise InputError("prompts", f"{piece!r} in {text!r} is not understood", remedy)


def _is_plural(word: str) -> bool:
    """Return whether a word is a plural that names more than one; "scissors" and "bus" are none."""
    ends = word.endswith("s") and not word.endswith(("ss", "us", "is", "'s"))
    return word in _PLURALS or (
        ends and word not in _UNCHANGED and word not in ("sports", "tennis")
    )


def _parse(text: str, pattern: re.Pattern[str], remedy: str) -> tuple[dict[str, Any], ...]:
    plain = _PREFIX.sub("", " ".join(text.lower().split()).rstrip(" ."), count=1)
    pieces = _LINK.split(plain)  # things and, between them, the words that join them
    include: list[dict[str, Any]] = []
    for index, piece in enumerate(pieces[::2]):
        match = pattern.fullmatch(piece)
        if match is None or (pattern is _NOUN and _NOT_IN_NAMES.search(match[3])):
            raise InputError("prompts", f"{piece!r} in {text!r} is not understood", remedy)
        count, color, noun = match.groups()[:3]
        plural = match.lastindex == 4 and match[4]
        number = _COUNTS[count] if count in _COUNTS else int(count or 1)
        if (plural and count is None) or number < 1:
            raise InputError("prompts", f"{piece!r} in {text!r} has no number", remedy)
        if pattern is _NOUN:
            _check_noun(noun, number, count is not None or len(pieces) == 1, piece, text, remedy)
            if number > 1:
                noun = singular(noun)
        entry = {"class": noun, "count": number}
        if color:
            entry["color"] = color
        relation = pieces[2 * index - 1] if index else None
        if relation in _OPPOSITE:
            entry["position"] = [_OPPOSITE[relation], index - 1]
        include.append(entry)
    return tuple(include)
