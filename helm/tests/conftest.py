"""What the tests share: gateways that run as their pod would, and an API server."""

import json
import os
import re
import ssl
import subprocess
import threading
import urllib.request
from pathlib import Path
from queue import Queue

import pytest
import yaml
from api_server import ApiServer
from chart import GATEWAY
from stand_in import Secrets


class Gateway:
    """The executable with a rendered configuration, on ports of its own."""

    def __init__(self):
        self.process = None
        self.log = []

    def start(self, made, directory):
        self.secrets = Secrets(made, directory)
        config = directory / "gateway.toml"
        config.write_text(self.secrets.here(made.config))
        if made.message:
            (directory / "message.json").write_text(made.message)
        # Only what the machine has to give otherwise than a pod: addresses, files of Secrets, and the place of the volume.
        environment = {"CIM_GRPC__LISTEN": "127.0.0.1:0", "CIM_HTTP__LISTEN": "127.0.0.1:0"}
        if "[store.embedded]" in made.config:
            environment["CIM_STORE__EMBEDDED__DATA_DIR"] = str(directory / "data")
        args = [GATEWAY, *(str(config) if arg.endswith("/gateway.toml") else arg for arg in made.container["args"])]
        self.process = subprocess.Popen(args, env=os.environ | environment, stderr=subprocess.PIPE, text=True)
        addresses = Queue()
        threading.Thread(target=self._read, args=(addresses,), daemon=True).start()
        self.grpc, self.http = addresses.get(timeout=60) or pytest.fail("the gateway did not start:\n" + "".join(self.log))

    def _read(self, addresses):
        """Reads the log to its end, and gives the addresses once the gateway is up."""
        told = None
        for line in self.process.stderr:
            self.log.append(line)
            try:
                fields = json.loads(line)
            except json.JSONDecodeError:
                continue
            if "grpc" in fields and "http" in fields:
                told = fields["grpc"], fields["http"]
            if fields["message"] == "the gateway is up":
                addresses.put(told)
        addresses.put(None)

    def command(self, *args, environment=None):
        """Runs a command of the executable, as a container would, against this gateway."""
        environment = {"CIM_SERVER": f"http://{self.grpc}"} | (environment or {})
        environment = {name: self._here(value) for name, value in environment.items()}
        args = [self._here(arg) for arg in args]
        return subprocess.run([GATEWAY, *args], env=os.environ | environment, capture_output=True, text=True, timeout=60)

    def container(self, container):
        """Runs what a container of `helm test` would."""
        environment = {variable["name"]: variable.get("value", self.secrets.key) for variable in container["env"]}
        args = [arg.replace("/message/", f"{self.secrets.directory}/") for arg in container["args"]]
        return self.command(*args, environment=environment)

    def _here(self, text):
        return re.sub(r"(https?)://[\w.-]+:\d+$", rf"\1://{self.grpc}", self.secrets.here(text))

    def is_well(self, probe):
        """Whether a probe of the kubelet would be content."""
        match probe:
            case {"grpc": {"port": 50051, **asked}}:
                ran = self.command("health", "--service", asked.get("service", ""))
                return ran.stdout == "serving\n" and ran.returncode == 0
            case {"httpGet": {"scheme": "HTTPS", "port": "http", "path": path}}:
                # As the kubelet, who takes any certificate.
                anyones = ssl._create_unverified_context()
                return urllib.request.urlopen(f"https://{self.http}{path}", context=anyones, timeout=30).status == 200
            case {"exec": {"command": ["/cim-gateway", *args]}}:
                return self.command(*args).returncode == 0
        pytest.fail(f"no kubelet asks so: {probe}")

    def scraped(self, endpoint):
        """What a Prometheus gets that asks as an endpoint of a monitor says."""
        scheme, tls, folder = endpoint.get("scheme", "http"), endpoint.get("tlsConfig", {}), self.secrets.client
        context = ssl._create_unverified_context() if tls.get("insecureSkipVerify") else None
        if "ca" in tls:
            context = ssl.create_default_context(cafile=folder / tls["ca"]["secret"]["key"])
        if "cert" in tls:
            context.load_cert_chain(folder / tls["cert"]["secret"]["key"], folder / tls["keySecret"]["key"])
        answer = urllib.request.urlopen(f"{scheme}://{self.http}{endpoint['path']}", context=context, timeout=30)
        return answer.read().decode()

    def shell(self, script):
        """Runs what somebody would paste who has a key and certificates, with this gateway in the place of the usual ports."""
        script = script.replace("127.0.0.1:50051", self.grpc).replace("127.0.0.1:8080", self.http)
        folder = self.secrets.client if self.secrets.client.exists() else None
        environment = os.environ | {"CIM_API_KEY": self.secrets.key}
        shell = ["bash", "-euo", "pipefail", "-c", script]
        return subprocess.run(shell, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)

    def stop(self, seconds):
        """Ends it as Kubernetes does, and gives its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=seconds)


@pytest.fixture
def running(tmp_path):
    """Starts gateways, and sees to it that none is left."""
    started = []

    def start(made):
        directory = tmp_path / str(len(started))
        directory.mkdir()
        started.append(Gateway())
        started[-1].start(made, directory)
        return started[-1]

    yield start
    for gateway in started:
        if gateway.process:
            gateway.process.kill()
            gateway.process.wait()


@pytest.fixture(scope="session")
def api(tmp_path_factory):
    """An API server that knows routes and monitors, with a namespace for restricted pods."""
    server = ApiServer()
    try:
        server.start(tmp_path_factory.mktemp("api"))
        routes = Path(os.environ["GATEWAY_API_CRDS"]).glob("*routes.yaml")
        monitors = Path(os.environ["MONITORING_CRDS"]).glob("*monitors.yaml")
        for file in sorted([*routes, *monitors]):
            server.define(file.read_text())
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "desk"}}
        # Whoever may not run as root, write to the root or do anything else that is restricted is kept out.
        namespace["metadata"]["labels"] = {"pod-security.kubernetes.io/enforce": "restricted"}
        server.create("/api/v1/namespaces", yaml.safe_dump(namespace))
        # Otherwise the work of a controller.
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}
        server.create("/api/v1/namespaces/desk/serviceaccounts", yaml.safe_dump(account))
        yield server
    finally:
        server.stop()
