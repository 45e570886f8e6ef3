"""Breaks a private installation in one way after another, and takes the time until each is told, and until it is over."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from tests.faults.drill.breakage import Breakage
from tests.faults.drill.site import Site
from tests.support.given import Json

LIMIT_SECONDS = 60.0
POLL_SECONDS = 1.0
Say = Callable[[str], None]


@dataclass
class Outcome:
    """What became of a breakage. Seconds are None if it did not happen within LIMIT_SECONDS. `others`: the findings, or the
    alerts, that were there instead."""

    breakage: Breakage
    words: str = ""
    doctor_seconds: float | None = None
    alert_seconds: float | None = None
    silent_seconds: float | None = None
    others: str = ""
    left_out: str = ""
    failed: str = ""  # why it could not be broken, or not be cured

    @property
    def missed(self) -> list[str]:
        """In words; empty if all went as it should, or if it was left out."""
        if self.left_out:
            return []
        found = [
            (self.doctor_seconds, f"the doctor did not say first: {self.breakage.doctor}"),
            (self.alert_seconds or self.breakage.alert is None, f"the alert did not fire: {self.breakage.alert}"),
            (self.silent_seconds, "doctor and alerts were not silent after the cure"),
        ]
        missed = [f"{text} (there was: {self.others})" for is_right, text in found if is_right in (None, False)]
        return [self.failed] if self.failed else missed


def run(site: Site, breakages: Sequence[Breakage], say: Say) -> Iterator[Outcome]:
    """One after another. One of which something is wrong before it was broken fails."""
    for breakage in breakages:
        if why := breakage.left_out(site):
            say(f"{breakage.name}: left out, {why}")
            yield Outcome(breakage, left_out=why)
            continue
        outcome = Outcome(breakage)
        try:
            try:
                breakage.prepare(site)
                _wait_until_silent(site, 2 * LIMIT_SECONDS)
                _drill(site, outcome, say)
            finally:
                breakage.tidy(site)
        except Exception as error:
            outcome.failed = str(error) or type(error).__name__
        for text in outcome.missed:
            say(f"{breakage.name}: MISSED, {text}")
        yield outcome


def _drill(site: Site, outcome: Outcome, say: Say) -> None:
    breakage = outcome.breakage
    say(f"{breakage.name}: breaking it")
    started_at = time.monotonic()
    finding: Json = {"what": "", "why": "", "do": ""}
    try:
        breakage.do(site)
        say(f"{breakage.name}: broken, waiting for {breakage.doctor!r} and the alert {breakage.alert!r}")
        finding = _wait_until_told(site, outcome, started_at)
    finally:
        say(f"{breakage.name}: {breakage.cure}")
        breakage.repair(site, finding)
    say(f"{breakage.name}: repaired, waiting until doctor and alerts are silent")
    outcome.silent_seconds = _wait_until_silent(site, LIMIT_SECONDS, outcome)


def _wait_until_told(site: Site, outcome: Outcome, started_at: float) -> Json:
    """Fills in when doctor and alert told it, and returns the finding."""
    breakage, finding = outcome.breakage, {}
    while time.monotonic() - started_at < LIMIT_SECONDS:
        if outcome.doctor_seconds is None:
            found = site.doctor()
            if found and breakage.doctor in found[0]["what"]:
                finding, outcome.words = found[0], found[0]["what"]
                outcome.doctor_seconds = time.monotonic() - started_at
            outcome.others = "; ".join(each["what"] for each in found)
        firing = site.prometheus.firing()
        if outcome.alert_seconds is None and breakage.alert in firing:
            outcome.alert_seconds = time.monotonic() - started_at
        if outcome.doctor_seconds is not None and (outcome.alert_seconds is not None or breakage.alert is None):
            break
        time.sleep(POLL_SECONDS)
    else:
        outcome.others += f"; alerts: {', '.join(firing) or 'none'}"
    return finding


def _wait_until_silent(site: Site, seconds: float, outcome: Outcome | None = None) -> float | None:
    """How long it took until the doctor found nothing and no alert fired. None after `seconds`; without an outcome,
    AssertionError."""
    started_at = time.monotonic()
    left = ""
    while time.monotonic() - started_at < seconds:
        firing = site.prometheus.firing()
        found = [] if firing else site.doctor()
        if not firing and not found:
            return time.monotonic() - started_at
        left = "; ".join([*firing, *(each["what"] for each in found)])
        time.sleep(POLL_SECONDS)
    if outcome is None:
        raise AssertionError(f"something is wrong before anything was broken: {left}")
    outcome.others = left
    return None
