"""What the chart makes of the values in ci/, part by part."""

import json
import re
import subprocess
import tomllib

import pytest
import yaml
from chart import CHART, GATEWAY, ROOT, SHAPES, name, render, selects, shape
from stand_in import FOLDER, Secrets

PORTS = {"grpc": 50051, "http": 8080}


@pytest.fixture(params=SHAPES, ids=name)
def made(request):
    """What is made of each shape."""
    return render({}, request.param)


def test_the_chart_and_the_gateway_have_one_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    crate = tomllib.loads((ROOT / "Cargo.toml").read_text())
    assert chart["appVersion"] == crate["package"]["version"]
    assert render().container["image"] == f"cim-gateway:{crate['package']['version']}"


def test_every_value_is_used():
    """A value that no template reads is a promise that nobody keeps."""
    templates = "".join(file.read_text() for file in CHART.rglob("templates/**/*") if file.is_file())

    def leaves(table, path=()):
        for key, value in table.items():
            whole = path + (key,)
            if isinstance(value, dict) and value and key not in WHOLE:
                yield from leaves(value, whole)
            else:
                yield whole

    # Rendered as they are.
    WHOLE = {"config", "resources", "startup", "readiness", "liveness", "podSecurityContext", "securityContext", "labels", "tlsConfig"}
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    unused = [".".join(path) for path in leaves(values) if not re.search(rf"\.{path[-1]}\b", templates)]
    assert unused == []


def test_the_gateway_takes_its_configuration(made, tmp_path):
    file = tmp_path / "gateway.toml"
    file.write_text(Secrets(made, tmp_path).here(made.config))
    ran = subprocess.run([GATEWAY, "check-config", "--config", file], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, f"{ran.stderr}\n{made.config}"


def test_what_is_not_set_is_taken_for_the_gateways_default():
    """A contradiction may lie in what nobody wrote."""
    defaults = tomllib.loads((ROOT / "config.default.toml").read_text())
    template = (CHART / "templates/refusals.yaml").read_text()
    taken = re.findall(r'dig ((?:"\w+" )+)"([^"]+)" .Values.config', template)
    assert len(taken) == 3
    for path, default in taken:
        value = defaults
        for key in re.findall(r"\w+", path):
            value = value[key]
        assert value == default, path


def test_settings_reach_the_gateway_as_they_are_written():
    config = tomllib.loads(render({}, shape("full")).config)
    assert config["grpc"]["max_connections"] == 1_000_000
    assert config["grpc"]["cors"]["allowed_origins"] == ["https://desk.example.org", "https://bot.example.org"]
    assert config["inbox"]["reused_id"] == {"http": "reject"}
    assert config["grpc"]["listen"] == "[::]:50051"
    # Whatever is in a text, it is the same text.
    level = 'a"b\\c\n<é>'
    assert tomllib.loads(render({"config": {"log": {"level": level}}}).config)["log"]["level"] == level


def test_declared_channels_reach_the_gateway_as_they_are_written():
    connector = {"uri": "https://a.example", "signing_secret_files": ["/run/secrets/a", "/run/secrets/b"]}
    attributes = [{"key": "k \"=\" {}", "type": "StringList", "value": ["a", 1, {"deep": [True]}]}, {"key": "empty", "value": []}]
    channel = {"service_identifier": "shop", "channel_type": "SMS", "connector": connector, "attributes": attributes}
    declared = [channel, {"service_identifier": "help", "channel_type": "SMS", "default_outbound": True}]
    config = tomllib.loads(render({"config": {"channels": {"declared": declared}}}).config)
    assert config["channels"]["declared"] == declared


def test_a_changed_configuration_is_a_changed_pod_and_nothing_else_is():
    checksum = lambda values: render(values).pod["metadata"]["annotations"]["checksum/config"]
    usual = checksum({})
    assert checksum({"config": {"log": {"level": "debug"}}}) != usual
    assert checksum({"service": {"grpc": {"port": 443}}}) == usual


def test_the_configuration_that_is_read_is_the_one_that_is_made(made):
    assert made.container["args"] == ["serve", "--config", "/etc/cim-gateway/gateway.toml"]
    mounts = {mount["name"]: mount for mount in made.container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in made.pod["spec"]["volumes"]}
    assert mounts["config"]["mountPath"] == "/etc/cim-gateway"
    assert volumes["config"]["configMap"]["name"] in [found["metadata"]["name"] for found in made.all("ConfigMap")]


def test_the_embedded_engine_writes_to_its_volume_and_the_other_has_none(made):
    config = tomllib.loads(made.config)
    mounts = {mount["name"]: mount for mount in made.container["volumeMounts"]}
    claims = [claim["metadata"]["name"] for claim in made.one("StatefulSet")["spec"].get("volumeClaimTemplates", [])]
    volumes = [volume["name"] for volume in made.pod["spec"]["volumes"] if "persistentVolumeClaim" in volume]
    if config["store"]["engine"] == "embedded":
        assert config["store"]["embedded"]["data_dir"] == mounts["data"]["mountPath"] + "/data"
        assert claims + volumes == ["data"]
    else:
        assert "data" not in mounts and "data_dir" not in config["store"].get("embedded", {})
        assert claims + volumes == []


def test_a_claim_that_exists_is_used():
    volumes = {volume["name"]: volume for volume in render({}, shape("existing-claim")).pod["spec"]["volumes"]}
    assert volumes["data"]["persistentVolumeClaim"] == {"claimName": "messages"}


PROBES = ("startup", "readiness", "liveness")


def test_probes_ask_three_questions():
    probes = render().container
    assert [probes[probe + "Probe"]["grpc"] for probe in PROBES] == [
        {"port": 50051, "service": "startup"},
        {"port": 50051},
        {"port": 50051, "service": "liveness"},
    ]


def test_with_tls_probes_ask_by_https_for_the_kubelet_knows_no_grpc_with_it():
    probes = render({}, shape("tls")).container
    assert [probes[probe + "Probe"]["httpGet"] for probe in PROBES] == [
        {"path": path, "port": "http", "scheme": "HTTPS"} for path in ("/readyz", "/readyz", "/healthz")
    ]


def test_where_a_certificate_has_to_be_shown_the_executable_asks():
    probes = render({}, shape("mutual-tls")).container
    # Not by the Service: that has no way to a pod that is not ready.
    common = ["/cim-gateway", "health", "--server=https://127.0.0.1:50051", "--server-name=release-cim-gateway.default.svc"]
    common += [f"--ca-file={FOLDER}/client/ca.crt"]
    common += [f"--client-certificate={FOLDER}/client/tls.crt", f"--client-key={FOLDER}/client/tls.key"]
    asked = [probes[probe + "Probe"]["exec"]["command"] for probe in PROBES]
    assert asked == [common + ["--service=startup"], common, common + ["--service=liveness"]]


def test_every_probe_asks_in_one_way(made):
    for probe in PROBES:
        assert len({"grpc", "httpGet", "exec"} & made.container[probe + "Probe"].keys()) == 1


def test_a_start_may_take_ten_minutes_and_more():
    probe = render().container["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] >= 600


def test_the_pod_has_time_to_end(made):
    config = tomllib.loads(made.config)
    sleep = made.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    grace = {"10s": 10, "1m 30s": 90}[config["shutdown"]["grace"]]
    assert made.pod["spec"]["terminationGracePeriodSeconds"] >= sleep + grace


def test_services_and_policies_are_for_the_gateway_and_not_for_its_test(made):
    gateway, test = made.pod["metadata"]["labels"], made.test_pod["metadata"]["labels"]
    selectors = [found["spec"]["selector"] for found in made.all("Service")]
    selectors += [found["spec"]["selector"]["matchLabels"] for found in made.all("StatefulSet") + made.all("PodDisruptionBudget")]
    selectors += [found["spec"]["podSelector"]["matchLabels"] for found in made.all("NetworkPolicy")]
    assert len(selectors) >= 3
    for selector in selectors:
        assert selects(selector, gateway) and not selects(selector, test), selector


def test_every_port_leads_to_one_of_the_pod(made):
    assert {port["name"]: port["containerPort"] for port in made.container["ports"]} == PORTS
    for service in made.all("Service"):
        assert {port["name"]: port["targetPort"] for port in service["spec"]["ports"]} == {"grpc": "grpc", "http": "http"}
    for policy in made.all("NetworkPolicy"):
        clients, *scrapers = policy["spec"]["ingress"]
        assert [port["port"] for port in clients["ports"]] == ["grpc", "http"]
        assert all([port["port"] for port in rule["ports"]] == ["http"] for rule in scrapers)


def test_ports_say_what_they_speak():
    def spoken(*files, **values):
        services = render(values, *files).all("Service")
        [said] = {tuple(port["appProtocol"] for port in service["spec"]["ports"]) for service in services}
        return said

    assert spoken() == ("grpc", "http")
    assert spoken(shape("tls")) == ("https", "https")
    assert spoken(shape("gateway-api")) == ("kubernetes.io/h2c", "http")
    assert spoken(shape("tls"), service={"grpc": {"appProtocol": "tls"}}) == ("tls", "https")


def test_the_stateful_set_has_a_service_for_its_name(made):
    governing = made.one("Service", "-headless")
    assert made.one("StatefulSet")["spec"]["serviceName"] == governing["metadata"]["name"]
    assert governing["spec"]["clusterIP"] == "None"


def test_every_way_in_leads_to_the_service(made):
    service = made.service["metadata"]["name"]
    ports = {port["name"]: port["port"] for port in made.service["spec"]["ports"]}
    for ingress in made.all("Ingress"):
        [rule] = ingress["spec"]["rules"]
        side = ingress["metadata"]["name"].rsplit("-", 1)[1]
        for path in rule["http"]["paths"]:
            assert path["backend"]["service"] == {"name": service, "port": {"name": side}}
    for route in made.all("GRPCRoute") + made.all("HTTPRoute"):
        [rule] = route["spec"]["rules"]
        assert rule["backendRefs"] == [{"name": service, "port": ports[route["kind"][:4].lower()]}]


def test_all_of_the_contract_is_let_in_from_outside_and_metrics_are_not():
    [rule] = render({}, shape("ingress")).one("Ingress", "-http")["spec"]["rules"]
    by_ingress = [path["path"] for path in rule["http"]["paths"] if path["pathType"] == "Prefix"]
    [rule] = render({}, shape("gateway-api")).one("HTTPRoute")["spec"]["rules"]
    by_route = [match["path"]["value"] for match in rule["matches"] if match["path"]["type"] == "PathPrefix"]
    assert by_ingress == by_route and len(rule["matches"]) == len(by_route)
    contract = json.loads((ROOT / "src/http/openapi.json").read_text())["paths"].keys() - {"/metrics"}
    # As both of them mean a prefix: whole parts of the path.
    let_in = lambda path: any(f"{path}/".startswith(f"{prefix}/") for prefix in by_route)
    assert [path for path in contract if not let_in(path)] == []
    assert not let_in("/metrics")
    assert [prefix for prefix in by_route if not any(f"{path}/".startswith(f"{prefix}/") for path in contract)] == []


def test_each_shape_opens_what_it_says_and_no_more():
    doors = {
        name(file): sorted(
            found["kind"] for found in made.objects if found["kind"] in ("Ingress", "GRPCRoute", "HTTPRoute")
        )
        + [made.service["spec"]["type"]]
        for file in SHAPES
        for made in [render({}, file)]
    }
    closed = ["ClusterIP"]
    assert doors == {
        "embedded": closed,
        "existing-claim": closed,
        "full": closed,
        "gateway-api": ["GRPCRoute", "HTTPRoute", "ClusterIP"],
        "ingress": ["Ingress", "Ingress", "ClusterIP"],
        "keys": ["Ingress", "Ingress", "ClusterIP"],
        "load-balancer": ["LoadBalancer"],
        "memory": closed,
        "mutual-tls": closed,
        "network-policy": closed,
        "node-port": ["NodePort"],
        "open": closed,
        "stopped": closed,
        "tls": ["LoadBalancer"],
    }


def test_an_ingress_ends_tls_and_says_what_the_backend_speaks():
    grpc = render({}, shape("ingress")).one("Ingress", "-grpc")
    assert grpc["spec"]["tls"] == [{"hosts": ["grpc.example.org"], "secretName": "grpc-tls"}]
    assert grpc["spec"]["rules"][0]["host"] == "grpc.example.org"
    assert grpc["metadata"]["annotations"] == {"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"}


def test_only_the_namespace_calls_unless_clients_are_named():
    [rule] = render().one("NetworkPolicy")["spec"]["ingress"]
    assert rule["from"] == [{"podSelector": {}}]
    named = render({}, shape("network-policy"))
    policy = named.one("NetworkPolicy")["spec"]
    peers = policy["ingress"][0]["from"]
    assert {"podSelector": {}} not in peers and len(peers) == 3
    # The test of the release has to get in as well.
    assert any(selects(peer["podSelector"].get("matchLabels", {}), named.test_pod["metadata"]["labels"]) for peer in peers)
    assert policy["egress"][0]["to"] == [{"ipBlock": {"cidr": "198.51.100.0/24"}}]


def test_prometheus_is_let_in_to_the_http_side_only():
    clients, scrapers = render({}, shape("mutual-tls")).one("NetworkPolicy")["spec"]["ingress"]
    assert clients["from"] == [{"podSelector": {}}]
    assert scrapers == {
        "from": [{"podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}],
        "ports": [{"port": "http", "protocol": "TCP"}],
    }


def test_a_service_monitor_finds_one_service_and_asks_as_it_is_told():
    made = render({}, shape("keys"))
    monitor = made.one("ServiceMonitor")
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    selector = monitor["spec"]["selector"]["matchLabels"]
    found = [service for service in made.all("Service") if selects(selector, service["metadata"]["labels"])]
    assert found == [made.service], "the other Service has the same pod, which would be asked twice"
    assert monitor["spec"]["endpoints"] == [{"port": "http", "path": "/metrics", "interval": "30s"}]


def test_a_pod_monitor_finds_the_gateways_pod_and_shows_a_certificate_where_one_is_needed():
    made = render({}, shape("mutual-tls"))
    monitor = made.one("PodMonitor")
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selects(selector, made.pod["metadata"]["labels"]) and not selects(selector, made.test_pod["metadata"]["labels"])
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    of = lambda key: {"name": "cim-gateway-client", "key": key}
    assert endpoint == {
        "port": "http",
        "path": "/metrics",
        "interval": "1m",
        "scheme": "https",
        "tlsConfig": {
            "serverName": "release-cim-gateway.default.svc",
            "ca": {"secret": of("ca.crt")},
            "cert": {"secret": of("tls.crt")},
            "keySecret": of("tls.key"),
        },
    }


def test_how_prometheus_checks_the_gateway_may_be_said():
    [endpoint] = render({}, shape("tls")).one("ServiceMonitor")["spec"]["endpoints"]
    assert (endpoint["scheme"], endpoint["tlsConfig"]) == ("https", {"insecureSkipVerify": True})
    nothing_said = {"metrics": {"serviceMonitor": {"tlsConfig": None}}}
    [endpoint] = render(nothing_said, shape("tls")).one("ServiceMonitor")["spec"]["endpoints"]
    ca = {"secret": {"name": "cim-gateway-tls", "key": "ca.crt"}}
    assert endpoint["tlsConfig"] == {"serverName": "release-cim-gateway.default.svc", "ca": ca}


def settings(name):
    """Who may call, and TLS, as a shape sets them."""
    config = tomllib.loads(render({}, shape(name)).config)
    return config["auth"], config.get("tls")


def test_the_gateway_asks_for_keys_where_there_are_some_and_is_open_in_its_pod_where_there_are_none():
    assert settings("embedded") == ({"insecure": True}, None)
    assert settings("keys") == ({"keys_file": f"{FOLDER}/keys/keys.toml", "cleartext": True}, None)
    tls = {"certificate": f"{FOLDER}/tls/tls.crt", "key": f"{FOLDER}/tls/tls.key"}
    assert settings("tls") == ({"keys_file": f"{FOLDER}/keys/clients.toml", "cleartext": False}, tls)
    assert settings("mutual-tls")[1] == tls | {"client_ca": f"{FOLDER}/tls/ca.crt"}


def test_secrets_are_mounted_as_folders_so_that_changes_arrive_and_nothing_restarts(made):
    volumes = {volume["name"]: volume["secret"]["secretName"] for volume in made.pod["spec"]["volumes"] if "secret" in volume}
    mounts = {mount["name"]: mount for mount in made.container["volumeMounts"]}
    for volume in volumes:
        assert mounts[volume]["mountPath"] == f"{FOLDER}/{volume}" and mounts[volume]["readOnly"] and "subPath" not in mounts[volume]
    assert made.pod["metadata"]["annotations"].keys() & {"checksum/keys", "checksum/tls"} == set()


def test_each_shape_mounts_the_secrets_that_it_names():
    def mounted(name):
        volumes = render({}, shape(name)).pod["spec"]["volumes"]
        return {volume["name"]: volume["secret"]["secretName"] for volume in volumes if "secret" in volume}

    keys, tls = {"keys": "cim-gateway-keys"}, {"tls": "cim-gateway-tls"}
    assert mounted("embedded") == {}
    assert mounted("keys") == keys
    assert mounted("tls") == keys | tls
    assert mounted("mutual-tls") == keys | tls | {"client": "cim-gateway-client"}
    alone = {"tls": {"clientSecret": ""}}
    [client] = [found for found in render(alone, shape("mutual-tls")).pod["spec"]["volumes"] if found["name"] == "client"]
    assert client["secret"]["secretName"] == "cim-gateway-tls"


def test_helm_test_sends_where_it_may_and_else_asks_for_health():
    def commands(name):
        made = render({}, shape(name))
        spec = made.test_pod["spec"]
        containers = spec.get("initContainers", []) + spec["containers"]
        assert (made.message is not None) == (containers[0]["args"][0] == "send"), name
        return [container["args"][0] for container in containers]

    for name in ("embedded", "keys", "mutual-tls"):
        assert commands(name) == ["send", "get"], name
    assert commands("tls") == ["health", "health"]


def test_helm_test_calls_the_service_with_what_it_needs():
    def variables(made):
        spec = made.test_pod["spec"]
        [said] = {json.dumps(container["env"]) for container in spec.get("initContainers", []) + spec["containers"]}
        return {variable.pop("name"): variable.get("value", variable.get("valueFrom")) for variable in json.loads(said)}

    plain = {"CIM_SERVER": "http://release-cim-gateway:50051"}
    key = {"CIM_API_KEY": {"secretKeyRef": {"name": "cim-gateway-test-key", "key": "key"}}}
    files = lambda **paths: {name: f"{FOLDER}/client/{file}" for name, file in paths.items()}
    at = lambda port: {"CIM_SERVER": f"https://release-cim-gateway.default.svc:{port}"} | files(CIM_CA_FILE="ca.crt")
    mutual = files(CIM_CLIENT_CERTIFICATE="tls.crt", CIM_CLIENT_KEY="tls.key")
    expected = {"embedded": plain, "keys": plain | key, "tls": at(443), "mutual-tls": at(50051) | mutual | key}
    assert {name: variables(render({}, shape(name))) for name in expected} == expected


def test_helm_test_gets_no_private_key_that_it_does_not_show():
    [volume] = render({}, shape("tls")).test_pod["spec"]["volumes"]
    assert volume["secret"]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]


def test_the_gateway_calls_nobody_unless_told():
    policy = render().one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []


def test_every_container_is_confined(made):
    for spec in (made.pod["spec"], made.test_pod["spec"]):
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"] + spec.get("initContainers", []):
            context = container["securityContext"]
            assert context["runAsNonRoot"] and context["runAsUser"] > 0
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert set(container["resources"]["limits"]) == {"cpu", "memory", "ephemeral-storage"}


def test_the_account_is_the_one_that_is_made_or_named():
    made = render({}, shape("full"))
    account = made.one("ServiceAccount")
    assert made.pod["spec"]["serviceAccountName"] == account["metadata"]["name"] == "gateway"
    assert account["automountServiceAccountToken"] is False
    foreign = render({}, shape("open"))
    assert foreign.all("ServiceAccount") == []
    assert foreign.pod["spec"]["serviceAccountName"] == "meshed"


def test_everything_given_for_the_pod_arrives():
    made = render({}, shape("full"))
    values = yaml.safe_load(shape("full").read_text())
    spec = made.pod["spec"]
    for key in ("imagePullSecrets", "nodeSelector", "tolerations", "affinity", "priorityClassName"):
        assert spec[key] == values[key]
    assert made.container["image"] == f"registry.example.org/cim-gateway@{values['image']['digest']}"
    assert made.container["env"] == values["extraEnv"]
    assert values["extraVolumes"][0] in spec["volumes"]
    assert values["extraVolumeMounts"][0] in made.container["volumeMounts"]
    own, given = spec["topologySpreadConstraints"]
    assert given == values["topologySpreadConstraints"][1]
    assert selects(own["labelSelector"]["matchLabels"], made.pod["metadata"]["labels"])
    for found in made.objects:
        assert found["metadata"]["labels"]["example.org/team"] == "desk", found["kind"]


def test_the_claim_is_as_asked_for():
    spec = render({}, shape("full")).one("StatefulSet")["spec"]
    [claim] = spec["volumeClaimTemplates"]
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOncePod"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "100Gi"}},
    }
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenScaled": "Retain", "whenDeleted": "Delete"}


def test_names_are_never_too_long():
    for values in ({"nameOverride": "n" * 80}, {"fullnameOverride": "n" * 80}):
        for found in render(values).objects:
            assert len(found["metadata"]["name"]) <= 63, found["metadata"]["name"]
