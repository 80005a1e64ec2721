"""What the chart makes, run by the gateway's own executable: the probes, `helm test`, the notes and the end."""

import json
import re

import pytest
from chart import notes, render, shape


@pytest.fixture(params=["embedded", "memory"])
def made(request):
    return render({}, shape(request.param))


def test_every_probe_is_answered(made, running):
    gateway = running(made)
    for name in ("startup", "readiness", "liveness"):
        service = made.container[name + "Probe"]["grpc"].get("service", "")
        ran = gateway.command("health", "--service", service)
        assert (ran.returncode, ran.stdout) == (0, "serving\n"), f"{name}: {ran.stderr}"


def test_helm_test_sends_a_message_and_reads_it_back_as_often_as_one_likes(made, running, tmp_path):
    gateway = running(made)
    [message] = [found["data"]["message.json"] for found in made.all("ConfigMap") if "message.json" in found["data"]]
    (tmp_path / "message.json").write_text(message)
    spec = made.test_pod["spec"]
    service = made.service["metadata"]["name"]
    for _ in range(2):
        [send], [get] = spec["initContainers"], spec["containers"]
        for container in (send, get):
            assert container["env"] == [{"name": "CIM_SERVER", "value": f"http://{service}:50051"}]
            ran = gateway.command(*(arg.replace("/message/", f"{tmp_path}/") for arg in container["args"]))
            assert ran.returncode == 0, f"{container['name']}: {ran.stderr}"
        assert json.loads(ran.stdout)["id"] == json.loads(message)["id"]
    # It is there for nobody but the test: no session is opened for it.
    assert '"conversationId":null' in ran.stdout or "conversationId" not in ran.stdout


def test_helm_test_fails_where_nothing_was_sent(made, running):
    gateway = running(made)
    [get] = made.test_pod["spec"]["containers"]
    assert gateway.command(*get["args"]).returncode == 1


def test_the_notes_work_as_written(made, running):
    gateway = running(made)
    [block] = re.findall(r"^  grpcurl .*?(?=\n\n)", notes(), re.MULTILINE | re.DOTALL)
    ran = gateway.shell(block)
    assert ran.returncode == 0, ran.stderr
    assert '"channelSessionId"' in ran.stdout and "rpc SendMessage" in ran.stdout


def test_the_gateway_ends_in_its_time(made, running):
    gateway = running(made)
    assert gateway.stop(made.pod["spec"]["terminationGracePeriodSeconds"]) == 0


def test_the_notes_warn_of_what_is_lost_and_what_is_open():
    assert "A restart of the pod loses them all" not in notes()
    assert "A restart of the pod loses them all" in notes({"config": {"store": {"engine": "memory"}}})
    assert "NetworkPolicy keeps strangers out" in notes()
    assert "Whoever reaches the gateway may send and read" in notes({"auth": {"insecure": True}})
