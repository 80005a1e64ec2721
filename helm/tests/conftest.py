"""What the tests share: gateways that run as their pod would, and an API server."""

import json
import os
import subprocess
import threading
from pathlib import Path
from queue import Queue

import pytest
import yaml
from api_server import ApiServer
from chart import GATEWAY


class Gateway:
    """The executable with a rendered configuration, on ports of its own."""

    def __init__(self):
        self.process = None
        self.log = []

    def start(self, made, directory):
        config = directory / "gateway.toml"
        config.write_text(made.config)
        # Only what the machine has to give otherwise than a pod: addresses, and the place of the volume.
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

    def command(self, *args):
        """Runs a command of the executable against this gateway."""
        environment = os.environ | {"CIM_SERVER": f"http://{self.grpc}"}
        return subprocess.run([GATEWAY, *args], env=environment, capture_output=True, text=True, timeout=60)

    def shell(self, script):
        """Runs what somebody would paste, with this gateway in the place of the usual ports."""
        script = script.replace("127.0.0.1:50051", self.grpc).replace("127.0.0.1:8080", self.http)
        return subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=120)

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
    """An API server that knows routes, with a namespace for restricted pods."""
    server = ApiServer()
    try:
        server.start(tmp_path_factory.mktemp("api"))
        for file in sorted(Path(os.environ["GATEWAY_API_CRDS"]).glob("*routes.yaml")):
            server.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", file.read_text())
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
