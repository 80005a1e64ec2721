"""What the chart makes, run by the gateway's own executable: the probes, `helm test`, the notes, keys and certificates, and the end."""

import json
import re

import pytest
from chart import notes, render, shape


@pytest.fixture(params=["embedded", "memory", "keys", "tls", "mutual-tls"])
def shaped(request):
    """The file with the values of a shape that runs here."""
    return shape(request.param)


@pytest.fixture
def made(shaped):
    return render({}, shaped)


def test_every_probe_is_answered(made, running):
    gateway = running(made)
    for name in ("startup", "readiness", "liveness"):
        assert gateway.is_well(made.container[name + "Probe"]), name


def test_no_probe_is_content_without_a_gateway(made, running):
    """Or the test before would show nothing."""
    gateway = running(made)
    gateway.stop(60)
    for name in ("startup", "readiness", "liveness"):
        try:
            assert not gateway.is_well(made.container[name + "Probe"]), name
        except OSError:
            pass


def containers(made):
    """The containers of `helm test`, in the order in which they run."""
    spec = made.test_pod["spec"]
    return spec.get("initContainers", []) + spec["containers"]


def test_helm_test_passes_as_often_as_one_likes(made, running):
    gateway = running(made)
    for _ in range(2):
        for container in containers(made):
            ran = gateway.container(container)
            assert ran.returncode == 0, f"{container['name']}: {ran.stderr}"


def test_helm_test_sends_a_message_and_reads_it_back(running):
    made = render({}, shape("embedded"))
    gateway = running(made)
    send, get = containers(made)
    assert gateway.container(get).returncode == 1, "nothing was sent yet"
    assert gateway.container(send).returncode == 0
    read = gateway.container(get).stdout
    assert json.loads(read)["id"] == json.loads(made.message)["id"]
    # It is there for nobody but the test: no session is opened for it.
    assert '"conversationId":null' in read or "conversationId" not in read


def test_the_notes_work_as_written(made, shaped, running):
    gateway = running(made)
    [block] = re.findall(r"^  grpcurl .*?(?=\n\n)", notes({}, shaped), re.MULTILINE | re.DOTALL)
    ran = gateway.shell(block)
    assert ran.returncode == 0, ran.stderr
    assert '"channelSessionId"' in ran.stdout and "rpc SendMessage" in ran.stdout


def test_who_has_no_key_or_certificate_is_kept_out(running):
    for name in ("keys", "tls", "mutual-tls"):
        made = render({}, shape(name))
        gateway = running(made)
        [block] = re.findall(r"^  grpcurl .*?(?=\n\n)", notes({}, shape(name)), re.MULTILINE | re.DOTALL)
        keyless = re.sub(r' -H "[^"]+"', "", block)
        assert keyless != block and gateway.shell(keyless).returncode != 0, name
        if name == "mutual-tls":
            strange = block.replace(" -cert tls.crt -key tls.key", "")
            assert strange != block and gateway.shell(strange).returncode != 0


def test_a_prometheus_that_asks_as_its_monitor_says_gets_metrics_and_needs_no_key(running):
    for name, kind in {"keys": "ServiceMonitor", "tls": "ServiceMonitor", "mutual-tls": "PodMonitor"}.items():
        made = render({}, shape(name))
        spec = made.one(kind)["spec"]
        [endpoint] = spec.get("endpoints") or spec["podMetricsEndpoints"]
        assert "# TYPE " in running(made).scraped(endpoint), name


def test_the_gateway_ends_in_its_time(made, running):
    gateway = running(made)
    assert gateway.stop(made.pod["spec"]["terminationGracePeriodSeconds"]) == 0


def test_the_notes_warn_of_what_is_lost_and_what_is_open():
    assert "A restart of the pod loses them all" not in notes()
    assert "A restart of the pod loses them all" in notes({"config": {"store": {"engine": "memory"}}})
    assert "NetworkPolicy keeps strangers out" in notes()
    assert "Whoever reaches the gateway may send and read" in notes({"auth": {"insecure": True}})
    assert "learns the keys that pass" in notes({}, shape("keys"))
    assert "learns the keys" not in notes({}, shape("tls"))
