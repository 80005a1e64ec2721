"""Values that the chart refuses, and what it says to them: a misspelt value by the schema, a contradiction in a sentence."""

import re

import pytest
import yaml
from chart import CHART, refusal, render, shape

OPEN = {"auth": {"insecure": True}}
KEYS = {"existingSecret": "keys"}
TLS = {"existingSecret": "certificate"}
CLIENTS = {"networkPolicy": {"clients": [{"podSelector": {}}]}}

# Each contradiction, and the whole sentence that answers it.
CONTRADICTIONS = {
    "two pods": (
        {"replicaCount": 2},
        "replicaCount is 2, but the gateway keeps its messages itself and runs one pod until there is an engine that shares them: "
        "set replicaCount to 1",
    ),
    "keys in plain text": (
        {"auth": {"existingSecret": "keys"}},
        "auth.existingSecret is set, but its keys would come in plain text: set tls.existingSecret, or auth.cleartext to true if nobody "
        "else listens on the pods' network, or a mesh encrypts it",
    ),
    "keys that nobody needs": (
        {"auth": {"existingSecret": "keys", "cleartext": True, "insecure": True}},
        "auth.insecure is true, but auth.existingSecret is set and every call needs a key: set auth.insecure to false, or empty "
        "auth.existingSecret",
    ),
    **{
        f"plain text without {what}": (
            values,
            "auth.cleartext is true, but no keys come in plain text, for there are none, or there is TLS: set it to false, or see "
            "auth.existingSecret and tls.existingSecret",
        )
        for what, values in {"keys": {"auth": {"cleartext": True}}, "need": {"auth": KEYS | {"cleartext": True}, "tls": TLS}}.items()
    },
    "a key for a test that needs none": (
        {"auth": {"testKeySecret": "key"}},
        "auth.testKeySecret is set, but the gateway asks for no keys: empty it, or set auth.existingSecret",
    ),
    **{
        f"tls.{value} without TLS": (
            {"tls": {value: given}},
            "tls.clientCa or tls.clientSecret is set, but the gateway speaks no TLS: set tls.existingSecret, or leave them",
        )
        for value, given in {"clientCa": True, "clientSecret": "client"}.items()
    },
    **{
        f"TLS that is said to be {protocol}": (
            {"tls": TLS, "service": {side: {"appProtocol": protocol}}},
            "service.grpc.appProtocol or service.http.appProtocol says plain text, but with tls.existingSecret the gateway speaks TLS "
            "only: empty it",
        )
        for side, protocol in {"grpc": "kubernetes.io/h2c", "http": "http"}.items()
    },
    **{
        f"metrics.{kind} with TLS that is not there": (
            {"metrics": {kind: {"tlsConfig": {"insecureSkipVerify": True}}}},
            f"metrics.{kind}.tlsConfig is set, but the gateway speaks no TLS: empty it, or set tls.existingSecret",
        )
        for kind in ("serviceMonitor", "podMonitor")
    },
    "two monitors": (
        {"metrics": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}, "clients": [{"podSelector": {}}]}},
        "metrics.serviceMonitor.enabled and metrics.podMonitor.enabled are both true, and everything would be counted twice: set one of "
        "them to false",
    ),
    **{
        f"metrics.{kind} behind a wall": (
            {"metrics": {kind: {"enabled": True}}},
            f"metrics.{kind}.enabled sends Prometheus, whom the NetworkPolicy keeps out: name its pods in metrics.clients, such as their "
            "namespace",
        )
        for kind in ("serviceMonitor", "podMonitor")
    },
    **{
        f"open to strangers by {door}": (
            values | CLIENTS,
            f"{door} would let whoever is outside the cluster send and read everything, for the gateway asks for no keys: set "
            "auth.existingSecret, or auth.insecure to true if that is meant and something else keeps strangers out, or leave it closed",
        )
        for door, values in {
            "ingress.grpc.enabled": {"ingress": {"grpc": {"enabled": True, "host": "grpc.example.org"}}},
            "ingress.http.enabled": {"ingress": {"http": {"enabled": True, "host": "ccm.example.org"}}},
            "routes.grpc.enabled": {"routes": {"grpc": {"enabled": True, "parentRefs": [{"name": "public"}]}}},
            "routes.http.enabled": {"routes": {"http": {"enabled": True, "parentRefs": [{"name": "public"}]}}},
            "service.type LoadBalancer": {"service": {"type": "LoadBalancer"}},
            "service.type NodePort": {"service": {"type": "NodePort"}},
        }.items()
    },
    "open to the cluster": (
        {"networkPolicy": {"enabled": False}},
        "networkPolicy.enabled is false, which lets every pod of the cluster send and read everything, for the gateway asks "
        "for no keys: set networkPolicy.enabled to true, or auth.existingSecret, or auth.insecure to true if that is meant",
    ),
    "a door behind a wall": (
        {"service": {"type": "LoadBalancer"}} | OPEN,
        "service.type LoadBalancer brings callers from outside the namespace, whom the NetworkPolicy keeps out: name them in "
        "networkPolicy.clients, such as the namespace of the ingress controller",
    ),
    "clients without a policy": (
        {"networkPolicy": {"enabled": False, "clients": [{"podSelector": {}}]}} | OPEN,
        "networkPolicy.clients, networkPolicy.egress or metrics.clients is set, but there is no policy for it: set "
        "networkPolicy.enabled to true, or empty them",
    ),
    "an ingress without a name": (
        {"ingress": {"grpc": {"enabled": True}}} | OPEN | CLIENTS,
        "ingress.grpc.enabled is true without a name to call: set ingress.grpc.host",
    ),
    "a route without a gateway": (
        {"routes": {"http": {"enabled": True}}} | OPEN | CLIENTS,
        "routes.http.enabled is true without a Gateway: name one in routes.http.parentRefs",
    ),
    "a node's port without one": (
        {"service": {"grpc": {"nodePort": 30051}}},
        "service.grpc.nodePort is set, but a Service of type ClusterIP has none: leave it null, or set service.type to NodePort",
    ),
    "a load balancer without one": (
        {"service": {"loadBalancerSourceRanges": ["192.0.2.0/24"]}},
        "service.loadBalancerClass or service.loadBalancerSourceRanges is set, but service.type is ClusterIP: empty them, or set "
        "service.type to LoadBalancer",
    ),
    "one port for both sides": (
        {"service": {"grpc": {"port": 8080}}},
        "service.grpc.port and service.http.port are both 8080: give each side a port of its own",
    ),
    "a volume for the memory": (
        {"config": {"store": {"engine": "memory"}}, "persistence": {"existingClaim": "messages"}},
        "persistence.existingClaim is set, but config.store.engine memory keeps nothing on a volume: set the engine to embedded, "
        "or empty persistence.existingClaim",
    ),
    "more messages than the volume": (
        {"config": {"store": {"embedded": {"max_bytes": "8 GiB"}}}},
        "persistence.size is 10Gi, but config.store.embedded.max_bytes 8 GiB, a quarter of it for the index and min_free 256 MiB need "
        "10496 MiB, or messages are refused before old ones go: raise the size, or lower max_bytes",
    ),
    "the default of messages on a small volume": (
        {"config": {"store": {"embedded": {"max_bytes": None}}}},
        "persistence.size is 10Gi, but config.store.embedded.max_bytes 64 GiB",
    ),
    "more messages than memory": (
        {"config": {"store": {"engine": "memory", "memory": {"max_bytes": "1 GiB"}}}},
        "config.store.memory.max_bytes is 1 GiB, but resources.limits.memory is 1Gi and the pod would be killed before it is full: "
        "raise the limit well above it, or lower max_bytes",
    ),
    "the default of messages in too little memory": (
        {"config": {"store": {"engine": "memory"}}, "resources": {"limits": {"memory": "250M"}}},
        "config.store.memory.max_bytes is 256 MiB, but resources.limits.memory is 250M",
    ),
    "no time to end": (
        {"config": {"shutdown": {"grace": "1m 30s"}}},
        "terminationGracePeriodSeconds is 30, but preStop.sleepSeconds 5 and config.shutdown.grace 1m 30s need 95, or calls in "
        "flight are cut: raise it to 95, or lower one of them",
    ),
    "a little less than enough time to end": (
        {"config": {"shutdown": {"grace": "25001ms"}}},
        "config.shutdown.grace 25001ms need 31,",
    ),
    **{
        f"config.{key} beside the chart's": (
            {"config": values},
            f"config.{key} is made by the chart from its own values: leave it out of config, and see listenAddress, service, auth, tls "
            "and persistence",
        )
        for key, values in {
            "grpc.listen": {"grpc": {"listen": "0.0.0.0:1"}},
            "http.listen": {"http": {"listen": "0.0.0.0:1"}},
            "auth.insecure": {"auth": {"insecure": False}},
            "auth.keys_file": {"auth": {"keys_file": "/keys.toml"}},
            "auth.cleartext": {"auth": {"cleartext": False}},
            "tls.certificate": {"tls": {"certificate": "/tls.crt"}},
            "tls.key": {"tls": {"key": "/tls.key"}},
            "tls.client_ca": {"tls": {"client_ca": "/ca.crt"}},
            "store.embedded.data_dir": {"store": {"embedded": {"data_dir": "/data"}}},
        }.items()
    },
    "a setting past the configuration": (
        {"extraEnv": [{"name": "CIM_SHUTDOWN__GRACE", "value": "1h"}]},
        "extraEnv sets CIM_SHUTDOWN__GRACE, which would override the configuration unseen: write it under config, where it is checked",
    ),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradiction_is_refused_with_what_to_do(case):
    values, sentence = CONTRADICTIONS[case]
    assert sentence in refusal(values)


def test_all_contradictions_are_told_at_once():
    said = refusal({"replicaCount": 3, "networkPolicy": {"enabled": False}, "tls": {"clientCa": True}})
    for part in ("replicaCount is 3", "networkPolicy.enabled is false", "tls.clientCa or tls.clientSecret is set"):
        assert part in said


def test_no_refusal_is_without_its_case():
    template = (CHART / "templates/refusals.yaml").read_text()
    sentences = re.findall(r'append \$wrong \(?(?:printf )?"([^"]+)"', template)
    assert len(sentences) == template.count("append $wrong") > 10
    elsewhere = [file for file in CHART.rglob("templates/**/*") if file.is_file() and file.name != "refusals.yaml"]
    assert not [file.name for file in elsewhere if re.search(r"{{-? *(fail|required)\b", file.read_text())]
    said = [refusal(values) for values, _ in CONTRADICTIONS.values()]
    for sentence in sentences:
        pattern = re.sub(r"%[dsv]", ".+", re.escape(sentence).replace(r"\%", "%"))
        assert any(re.search(pattern, text) for text in said), f"no case is refused with: {sentence}"


# What is next to a contradiction and none.
@pytest.mark.parametrize(
    "values",
    [
        {"config": {"shutdown": {"grace": "25s"}}},
        {"config": {"shutdown": {"grace": "24s 1000ms"}}},
        {"config": {"store": {"engine": "memory", "memory": {"max_bytes": "1023 MiB"}}}},
        {"resources": {"limits": {"memory": None}}, "config": {"store": {"engine": "memory", "memory": {"max_bytes": "1 TiB"}}}},
        {"config": {"store": {"embedded": {"max_bytes": "7987 MiB"}}}},
        {"config": {"store": {"embedded": {"max_bytes": "64 GiB"}}}, "persistence": {"existingClaim": "messages"}},
        {"replicaCount": 0},
        {"auth": KEYS, "tls": TLS, "networkPolicy": {"enabled": False}},
        {"auth": KEYS | {"cleartext": True}, "service": {"type": "LoadBalancer"}} | CLIENTS,
        {"tls": TLS, "service": {"grpc": {"appProtocol": "kubernetes.io/wss"}}},
        {"extraEnv": [{"name": "RUST_BACKTRACE", "value": "1"}]},
    ],
    ids=str,
)
def test_what_is_no_contradiction_passes(values):
    render(values)


MISSPELT = {
    "at the top": {"replicas": 1},
    "below": {"image": {"tags": "x"}},
    "a setting of the gateway": {"config": {"feed": {"heart_beat": "15s"}}},
    "a table of the gateway": {"config": {"feeds": {}}},
    "in a list": {"imagePullSecrets": [{"nam": "registry"}]},
    "in a probe": {"probes": {"liveness": {"period": 5}}},
    "in a monitor": {"metrics": {"podMonitor": {"every": "30s"}}},
    "in a peer": {"networkPolicy": {"clients": [{"podselector": {}}]}},
    "in a route": {"routes": {"grpc": {"parentRefs": [{"nme": "public"}]}}},
}


@pytest.mark.parametrize("case", MISSPELT)
def test_a_misspelt_value_is_refused(case):
    assert re.search("additional properties '[a-zA-Z_]+' not allowed", refusal(MISSPELT[case]))


@pytest.mark.parametrize(
    "values",
    [
        {"replicaCount": "1"},
        {"replicaCount": -1},
        {"auth": {"insecure": "true"}},
        {"auth": {"secretEntry": "../keys"}},
        {"metrics": {"serviceMonitor": {"interval": "often"}}},
        {"image": {"digest": "sha256:short"}},
        {"service": {"type": "ExternalName"}},
        {"service": {"grpc": {"port": 65536}}},
        {"listenAddress": "127.0.0.1"},
        {"config": {"shutdown": {"grace": "10"}}},
        {"config": {"shutdown": {"grace": 10}}},
        {"config": {"limits": {"message": "1Mi"}}},
        {"config": {"store": {"engine": None}}},
        {"persistence": {"accessMode": "ReadWriteMany"}},
    ],
    ids=str,
)
def test_a_value_of_the_wrong_kind_is_refused(values):
    assert "values don't meet the specifications of the schema" in refusal(values)


def test_an_exposed_shape_is_refused_without_its_permission():
    for name in ("ingress", "gateway-api", "load-balancer", "node-port", "open"):
        values = yaml.safe_load(shape(name).read_text())
        del values["auth"]
        assert "the gateway asks for no keys" in refusal(values), name
