"""What an API server of Kubernetes says to the chart, and to what becomes of it."""

import pytest
import yaml
from chart import CHART, SHAPES, name, render


@pytest.mark.parametrize("values", SHAPES, ids=name)
def test_every_shape_is_installed_upgraded_and_uninstalled(api, values):
    at = ["--namespace", "desk"]
    for command in (
        ["install", "release", CHART, "--values", values, "--dry-run=server"],
        ["install", "release", CHART, "--values", values],
        # By then it is there: only what may change may differ.
        ["upgrade", "release", CHART, "--values", values, "--set", "config.log.level=debug", "--set", "service.annotations.a=b"],
        ["uninstall", "release"],
    ):
        ran = api.helm(*command, *at)
        assert ran.returncode == 0, f"{command[0]}: {ran.stderr}"


def test_the_volume_grows_with_a_stateful_set_that_is_made_anew(api):
    """As UPGRADING.md has it."""
    grown = ["upgrade", "grown", CHART, "--namespace", "desk", "--reuse-values", "--set", "persistence.size=20Gi"]
    assert api.helm("install", "grown", CHART, "--namespace", "desk").returncode == 0
    refused = api.helm(*grown)
    assert "updates to statefulset spec for fields other than" in refused.stderr, refused.stderr

    sets = "/apis/apps/v1/namespaces/desk/statefulsets/grown-cim-gateway"
    assert api.call("DELETE", sets)[0] == 200
    ran = api.helm(*grown)
    assert ran.returncode == 0, ran.stderr
    assert '"storage":"20Gi"' in api.call("GET", sets)[1]
    assert api.helm("uninstall", "grown", "--namespace", "desk").returncode == 0


def pods(made):
    """What the controllers would make pods of: the gateway's and that of `helm test`."""
    gateway = made.pod["spec"]
    claims = made.one("StatefulSet")["spec"].get("volumeClaimTemplates", [])
    claimed = [{"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": "claimed"}} for claim in claims]
    return [{**gateway, "volumes": gateway["volumes"] + claimed}, made.test_pod["spec"]]


def admit(api, spec):
    """What the API server says to a pod, in a namespace where only restricted ones may be."""
    # Accounts and classes are made by others; that they exist is not the question here.
    spec = {key: value for key, value in spec.items() if key not in ("serviceAccountName", "priorityClassName")}
    body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": spec}
    return api.call("POST", "/api/v1/namespaces/desk/pods?dryRun=All", yaml.safe_dump(body))


@pytest.mark.parametrize("values", SHAPES, ids=name)
def test_the_pods_are_admitted_where_only_restricted_ones_are(api, values):
    for spec in pods(render({}, values)):
        status, text = admit(api, spec)
        assert status == 201, text


@pytest.mark.parametrize("loose", [{"runAsNonRoot": False}, {"allowPrivilegeEscalation": True}, {"capabilities": {}}], ids=str)
def test_a_pod_that_is_not_restricted_is_kept_out(api, loose):
    """Or the test before would show nothing."""
    spec, _ = pods(render())
    spec["containers"][0]["securityContext"] |= loose
    status, text = admit(api, spec)
    assert status == 403 and "violates PodSecurity" in text, text
