"""An API server of Kubernetes, with etcd behind it and nothing else: it judges what it is given, and nothing runs."""

import json
import os
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request

TOKEN = "of-this-test"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class ApiServer:
    """Starts both, and waits until they are ready. Whoever makes one stops it, also where it could not be made."""

    def __init__(self, address="127.0.0.1"):
        self.address = address
        self.processes = []

    def start(self, directory):
        self.directory = directory
        client, peer, secure = free_port(), free_port(), free_port()
        self.url = f"https://{self.address}:{secure}"
        key = directory / "service-accounts.pem"
        subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
        (directory / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        self._run(
            "etcd",
            f"--data-dir={directory}/etcd",
            f"--listen-client-urls=http://127.0.0.1:{client}",
            f"--advertise-client-urls=http://127.0.0.1:{client}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-advertise-peer-urls=http://127.0.0.1:{peer}",
            f"--initial-cluster=default=http://127.0.0.1:{peer}",
        )
        self._run(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{client}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={secure}",
            f"--cert-dir={directory}/certificates",
            f"--token-auth-file={directory}/tokens.csv",
            "--authorization-mode=AlwaysAllow",
            "--kubelet-preferred-address-types=InternalIP",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--endpoint-reconciler-type=none",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
        )
        self.kubeconfig = directory / "kubeconfig"
        # JSON is YAML.
        self.kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "clusters": [{"name": "here", "cluster": {"server": self.url, "insecure-skip-tls-verify": True}}],
                    "users": [{"name": "admin", "user": {"token": TOKEN}}],
                    "contexts": [{"name": "here", "context": {"cluster": "here", "user": "admin"}}],
                    "current-context": "here",
                }
            )
        )
        self._await_ready()

    def _run(self, *command):
        with open(self.directory / f"{command[0]}.log", "w") as log:
            self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _await_ready(self):
        """Polls, for nothing tells when it is ready; two minutes are more than it takes."""
        end = time.monotonic() + 120
        while time.monotonic() < end:
            for process in self.processes:
                assert process.poll() is None, f"{process.args[0]} ended:\n{self._log(process.args[0])}"
            try:
                if self.call("GET", "/readyz") == (200, "ok"):
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise AssertionError(f"the API server is not ready after two minutes:\n{self._log('kube-apiserver')}")

    def _log(self, name):
        return (self.directory / f"{name}.log").read_text()[-4000:]

    def call(self, method, path, body=None):
        """Status and text of the answer. A body is sent as YAML."""
        request = urllib.request.Request(self.url + path, method=method, data=body.encode() if body else None)
        request.add_header("Authorization", f"Bearer {TOKEN}")
        request.add_header("Content-Type", "application/yaml")
        # It makes its certificate itself at every start.
        unknown = ssl._create_unverified_context()
        try:
            with urllib.request.urlopen(request, context=unknown, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()

    def create(self, path, body):
        status, text = self.call("POST", path, body)
        assert status == 201, text
        return json.loads(text)

    def define(self, definition):
        """Defines a kind of object, and waits until it is served."""
        made = self.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        spec = made["spec"]
        [version] = [version["name"] for version in spec["versions"] if version["storage"]]
        path = f"/apis/{spec['group']}/{version}/{spec['names']['plural']}"
        end = time.monotonic() + 60
        while self.call("GET", path)[0] != 200:
            assert time.monotonic() < end, f"{path} is not served after a minute"
            time.sleep(0.1)

    def helm(self, *args):
        """Runs Helm against it."""
        environment = os.environ | {"KUBECONFIG": str(self.kubeconfig)}
        return subprocess.run(["helm", *args], env=environment, capture_output=True, text=True, timeout=120)

    def stop(self):
        """Kills both: what they keep is of no use to anybody, and they would wait for whoever still watches."""
        for process in reversed(self.processes):
            process.kill()
            process.wait(timeout=60)
