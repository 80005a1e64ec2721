"""The chart as Helm renders it."""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm/cim-gateway"
SHAPES = sorted(CHART.glob("ci/*-values.yaml"))
GATEWAY = ROOT / "target/release/cim-gateway"


def shape(name):
    """The file with the values of a shape."""
    return CHART / f"ci/{name}-values.yaml"


def name(file):
    """The shape of a file with values."""
    return file.name.removesuffix("-values.yaml")


@dataclass
class Rendered:
    """What the chart makes."""

    objects: list

    def all(self, kind):
        return [found for found in self.objects if found["kind"] == kind]

    def one(self, kind, suffix=""):
        """The only object of a kind, of those whose name ends so."""
        found = [found for found in self.all(kind) if found["metadata"]["name"].endswith(suffix)]
        assert len(found) == 1, f"needs one {kind} whose name ends in {suffix!r}, found {len(found)}"
        return found[0]

    @property
    def service(self):
        """The Service that clients call."""
        [found] = [found for found in self.all("Service") if found["spec"].get("clusterIP") != "None"]
        return found

    @property
    def pod(self):
        """The template of the gateway's pod."""
        return self.one("StatefulSet")["spec"]["template"]

    @property
    def container(self):
        [found] = self.pod["spec"]["containers"]
        return found

    @property
    def test_pod(self):
        return self.one("Pod", "-test")

    @property
    def message(self):
        """What `helm test` sends; none if it sends nothing."""
        found = [found["data"]["message.json"] for found in self.all("ConfigMap") if "message.json" in found["data"]]
        return found[0] if found else None

    @property
    def config(self):
        """The gateway's configuration, as TOML."""
        [found] = [found for found in self.all("ConfigMap") if "gateway.toml" in found["data"]]
        return found["data"]["gateway.toml"]


def helm(*args, values=None):
    """Runs Helm, with values as a document where some are given."""
    files = ["--values", "-"] if values is not None else []
    return subprocess.run(
        ["helm", *args, *files], input=yaml.safe_dump(values) if files else None, capture_output=True, text=True, timeout=120
    )


def render(values=None, *files):
    """What the chart makes of the values in `files` and then of `values`."""
    ran = helm("template", "release", CHART, *[arg for file in files for arg in ("--values", file)], values=values or {})
    assert ran.returncode == 0, ran.stderr
    # Helm itself reads over a key that is written twice; Kubernetes does not.
    return Rendered([found for found in yaml.load_all(ran.stdout, Loader=Strict) if found])


class Strict(yaml.SafeLoader):
    """Refuses a key that is written twice."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is written twice: {keys}"
        return super().construct_mapping(node, deep)


def refusal(values):
    """What the chart says to values that it refuses, on one line."""
    ran = helm("template", "release", CHART, values=values)
    assert ran.returncode != 0, f"{values} are not refused"
    return re.sub(r"\s+", " ", ran.stderr)


def notes(values=None, *files):
    """What Helm tells whoever installs the chart."""
    given = [arg for file in files for arg in ("--values", file)]
    ran = helm("install", "release", CHART, "--dry-run=client", *given, values=values or {})
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split("\nNOTES:\n", 1)[1]


def selects(selector, labels):
    return selector.items() <= labels.items()
