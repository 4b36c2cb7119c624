"""Chance as a function: the same seed and the same place always give the same number.

Nothing here has a state, so that any moment of the weather or the load can be reached in any
order. The mixing function is SplitMix64's (Steele, Lea, Flood: Fast splittable pseudorandom number
generators, OOPSLA 2014), which passes the usual batteries of tests and needs no library.
"""

from functools import lru_cache

_MASK = (1 << 64) - 1


def _mix(word: int) -> int:
    word = (word + 0x9E3779B97F4A7C15) & _MASK
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & _MASK
    return word ^ (word >> 31)


def uniform(seed: int, *place: int) -> float:
    """A number in [0, 1) that belongs to ``seed`` and ``place``, evenly spread over places."""
    word = _mix(seed & _MASK)
    for number in place:
        word = _mix(word ^ (number & _MASK))
    return (word >> 11) / (1 << 53)


@lru_cache(maxsize=64)
def _stream(seed: int, stream: int) -> int:
    return _mix(_mix(seed & _MASK) ^ stream)


@lru_cache(maxsize=256)
def _node(stream: int, index: int) -> float:
    """``uniform(seed, stream, index)``, the first two mixed already."""
    return (_mix(stream ^ (index & _MASK)) >> 11) / (1 << 53)


def smooth(seed: int, stream: int, t: float, period_s: float) -> float:
    """A number in [0, 1) that wanders smoothly with ``t``: one free choice every ``period_s``.

    Args:
        seed: of the world.
        stream: tells independent processes of one world apart.
        t: time [s since 1970].
        period_s: distance of two free choices [s].
    """
    place = t / period_s
    index = int(place // 1)
    x = place - index
    mixed = _stream(seed, stream)
    left = _node(mixed, index)
    return left + (_node(mixed, index + 1) - left) * x * x * (3.0 - 2.0 * x)
