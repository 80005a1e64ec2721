"""The documentation of the chart: its values are taken. Its commands are run by .ci/docs."""

import re

import pytest
import yaml
from chart import CHART, ROOT, render

PAGES = [ROOT / "docs/kubernetes.md", CHART / "UPGRADING.md", CHART / "README.md"]


def values():
    """Every example of values."""
    found = [block for page in PAGES for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)]
    assert len(found) >= 6
    return found


@pytest.mark.parametrize("example", values())
def test_values_are_taken(example):
    render(yaml.safe_load(example))
