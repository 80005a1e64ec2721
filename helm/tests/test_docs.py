"""The documentation of the chart: its commands run, and its values are taken."""

import re

import pytest
import yaml
from chart import CHART, ROOT, render

PAGES = [ROOT / "docs/kubernetes.md", CHART / "UPGRADING.md", CHART / "README.md"]

# What needs a whole cluster or Docker, and what shows that it would work.
ELSEWHERE = {
    r"docker (build|push) ": ".ci/image builds what the Dockerfile says",
    r"kubectl .*rollout status ": "nothing to run: it waits",
    r"kubectl .*port-forward service/cim-gateway 50051:50051 8080:8080$": "test_shapes: every port leads to one of the pod",
    r"kubectl .*run stranger ": "the network of the cluster decides",
    r"kubectl patch pvc ": "the storage of the cluster decides",
    r"kubectl delete statefulset ": "test_api_server: the volume grows with a stateful set that is made anew",
    r"helm test ": "test_running: helm test sends a message and reads it back",
    r"helm upgrade .*--reuse-values ": "test_api_server does it, with all that goes before",
    r"helm install .* --wait$": "test_api_server installs every shape; nothing is there to wait for",
}


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands():
    for page in PAGES:
        for block in blocks(page, "sh"):
            yield from (command for command in block.replace("\\\n", " ").splitlines() if command)


def of(tool):
    here = [command for command in commands() if not any(re.match(pattern, command) for pattern in ELSEWHERE)]
    return [command for command in here if command.split()[0] == tool]


def test_every_command_runs_here_or_has_its_reason():
    tools = {"helm", "grpcurl", "curl"}
    here = [command for tool in tools for command in of(tool)]
    assert len(here) >= 6
    elsewhere = [command for command in commands() if any(re.match(pattern, command) for pattern in ELSEWHERE)]
    assert sorted(here + elsewhere) == sorted(commands())
    for pattern in ELSEWHERE:
        assert any(re.match(pattern, command) for command in elsewhere), f"nothing is like {pattern}"


def test_commands_of_helm_run_in_their_order(api):
    for command in of("helm"):
        words = re.sub(r" helm/cim-gateway\b", f" {CHART}", re.sub(r"\s+", " ", command)).split()[1:]
        ran = api.helm(*words)
        assert ran.returncode == 0, f"{command}: {ran.stderr}"


@pytest.mark.parametrize("command", of("grpcurl") + of("curl"))
def test_commands_against_a_gateway_run(command, running):
    gateway = running(render({"config": {"store": {"engine": "memory"}}}))
    ran = gateway.shell(command)
    assert ran.returncode == 0 and ran.stdout, f"{ran.stdout}{ran.stderr}"


@pytest.mark.parametrize("values", [block for page in PAGES for block in blocks(page, "yaml")])
def test_values_are_taken(values):
    render(yaml.safe_load(values))
