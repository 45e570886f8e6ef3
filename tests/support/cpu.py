"""The CPU time that an input costs, compared with an eighth of the input: a cost that grows with the square of the length
fails."""

import time
from collections.abc import Callable
from contextlib import suppress

SHORTEST, LONGEST = 4_096, 65_536
CHEAP_SECONDS = 0.001  # SHORTEST characters that take less are not doubled: a square would take longer
NOISE_SECONDS = 0.03  # shorter times are not compared
MAX_RATIO = 20.0  # of an input to an eighth of it; 8 is linear, 64 is quadratic
MAX_SECONDS = 0.3  # for LONGEST characters


def assert_linear(
    work: Callable[[str], object], make: Callable[[int], str], *, longest: int = LONGEST, cheap: float = CHEAP_SECONDS
) -> None:
    """Runs `work` on texts of doubled length, made by `make(length)`. Exceptions of `work` are answers, too."""
    if _seconds(work, make(SHORTEST)[:SHORTEST]) < cheap:
        return
    length, measured = SHORTEST // 8, dict[int, float]()
    while length <= longest:
        text = make(length)[:length]
        seconds = _seconds(work, text)
        allowed = MAX_RATIO * max(measured.get(length // 8, seconds), NOISE_SECONDS / 8)
        for _ in range(4):  # the machine is busy: the least of several times counts
            if seconds <= NOISE_SECONDS or seconds <= allowed:
                break
            seconds = min(seconds, _seconds(work, text))
        else:
            raise AssertionError(
                f"{length:,} of {text[:40]!r} took {seconds:.3f} s of CPU time, an eighth of it {measured[length // 8]:.3f} s"
            )
        assert seconds < MAX_SECONDS, f"{length:,} of {text[:40]!r} took {seconds:.3f} s of CPU time"
        measured[length] = seconds
        length *= 2


def _seconds(work: Callable[[str], object], text: str) -> float:
    started = time.thread_time()
    with suppress(Exception):
        work(text)
    return time.thread_time() - started


def pumps(*words: str) -> list[Callable[[int], str]]:
    """Makers of texts that repeat each of the words, alone, after and before another one, and without their end."""

    def repeated(prefix: str, word: str, suffix: str) -> Callable[[int], str]:
        return lambda length: (prefix + word * (length // len(word)))[: length - len(suffix)] + suffix

    return [repeated(prefix, word, suffix) for word in words for prefix in ("", '"', "a") for suffix in ("", "!", "\n")]
