"""`./stint faults --drill`: each breakage names an alert and a cure of its section, and some are drilled."""

import re
from pathlib import Path

import pytest

from tests.faults.drill import report
from tests.faults.drill.breakage import Breakage
from tests.support.installation import CHECKOUT
from tests.support.prometheus import RULES

PAGE = (CHECKOUT / "docs/operations.md").read_text()
SECTIONS = {
    heading: " ".join(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("`", "").split())
    for heading, text in re.findall(r"^##+ (.*)\n((?:(?!#).*\n)*)", PAGE, re.MULTILINE)
}


@pytest.mark.parametrize("breakage", report.BREAKAGES.values(), ids=str)
def test_each_breakage_names_an_alert_and_a_cure_of_its_section(breakage: Breakage) -> None:
    assert breakage.alert is None or f'- alert: "{breakage.alert}"' in RULES.read_text()
    assert breakage.cure in SECTIONS[breakage.section]


def test_breakages_are_chosen_by_parts_of_their_names() -> None:
    assert [each.name for each in report.chosen(["memory", "bills is frozen"])] == [
        "a worker for bills is frozen", "RabbitMQ is low on memory"
    ]  # fmt: skip
    assert len(report.chosen([])) == len(report.BREAKAGES)
    with pytest.raises(ValueError, match="no breakage is called 'meteor'"):
        report.chosen(["meteor"])


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_breakages_are_told_by_doctor_and_alert_and_are_over_after_their_cure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    is_well = report.drill(report.chosen(["a worker for bills is frozen", "RabbitMQ is low on memory"]), tmp_path)
    printed = capsys.readouterr()
    assert is_well, f"{printed.out}\n{printed.err}"
    assert "| RabbitMQ is low on memory | RabbitMQ blocks publishers: low on memory." in printed.out
