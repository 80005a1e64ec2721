"""A cluster of one node whose pods run: an API server, and beside it a machine within the machine that ends with the test."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import archive
from api_server import ApiServer

INSIDE = Path(__file__).with_name("node")
APART = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
# Addresses for tests of networks, which nobody else has; the wire between them, and where pods are among control groups.
HERE, THERE = "198.18.0.1", "198.18.0.2"
NAME = "cim-gateway"
# What only some machines let root do, and a node needs.
PRIMITIVES = """
mount -t tmpfs tmpfs /run
mkdir /run/upper /run/work
mount -t overlay -o lowerdir=/var,upperdir=/run/upper,workdir=/run/work overlay /var
ip link add name a type veth peer name b
iptables --list
"""


def forbidden():
    """Why this machine lets no pods run; nothing where it does."""
    if os.geteuid() != 0:
        return "whoever starts a node has to be root"
    tried = subprocess.run([*APART, "sh", "-euc", PRIMITIVES], capture_output=True, text=True, timeout=60)
    if tried.returncode != 0:
        return tried.stderr.strip()
    try:
        for group in control_groups(f"{NAME}-tried"):
            group.mkdir(exist_ok=True)
            group.rmdir()
    except OSError as error:
        return str(error)


def control_groups(name=NAME):
    """Where the node's pods are, in every hierarchy of control groups."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(place) / name for _, place, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


class Node:
    """Starts it all, and waits until pods can run. Whoever makes one stops it, also where it could not be made."""

    def __init__(self):
        self.server = ApiServer(HERE)
        self.inside = None

    def start(self, directory, *images):
        """Images are files, as archive.py writes them."""
        self.directory = directory
        (directory / "images").mkdir()
        for image in images:
            shutil.copy(image, directory / "images")
        self._pause()
        for group in control_groups():
            group.mkdir(exist_ok=True)
        self.log = open(directory / "node.log", "w+")
        command = [*APART, INSIDE, directory, NAME, THERE]
        self.inside = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self.inside.stdout.readline() or self._fail("the node did not start")
        ip("link", "add", "name", NAME, "type", "veth", "peer", "name", "eth0", "netns", str(self.inside.pid))
        ip("address", "add", f"{HERE}/30", "dev", NAME)
        ip("link", "set", NAME, "up")
        self.server.start(directory)
        self._disk()
        self.inside.stdin.write(b"go on\n")
        self.inside.stdin.flush()
        self._await_ready()

    def _pause(self):
        """Makes the image of what holds a pod while nothing else runs in it."""
        root = self.directory / "pause"
        root.mkdir()
        shutil.copy(shutil.which("pause"), root)
        archive.write(self.directory / "images/pause.tar", "pause:here", root, Entrypoint=["/pause"])

    def _disk(self):
        """Makes a volume for a claim that names no StorageClass. It is twice as large as what the chart claims, so the claim may grow."""
        self.server.create(
            "/apis/storage.k8s.io/v1/storageclasses",
            json.dumps(
                {
                    "metadata": {"name": "disk", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
                    "provisioner": "kubernetes.io/no-provisioner",
                    "volumeBindingMode": "WaitForFirstConsumer",
                    "allowVolumeExpansion": True,
                }
            ),
        )
        disk = self.directory / "disk"
        disk.mkdir()
        on_the_node = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["node"]}
        self.server.create(
            "/api/v1/persistentvolumes",
            json.dumps(
                {
                    "metadata": {"name": "disk"},
                    "spec": {
                        "capacity": {"storage": "20Gi"},
                        "accessModes": ["ReadWriteOnce"],
                        "storageClassName": "disk",
                        "local": {"path": str(disk)},
                        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_the_node]}]}},
                    },
                }
            ),
        )

    def _await_ready(self):
        """Polls, for nothing tells when it is ready; three minutes are more than it takes."""
        end = time.monotonic() + 180
        waiting = [f"http://{THERE}:{port}" for port in ("8181/ready", "10256/healthz", "20244/healthz")]
        while waiting or not self._is_ready():
            if self.inside.poll() is not None or time.monotonic() > end:
                self._fail("the node is not ready")
            waiting = [url for url in waiting if not answers(url)]
            time.sleep(0.2)

    def _is_ready(self):
        status, node = self.server.call("GET", "/api/v1/nodes/node")
        conditions = json.loads(node)["status"].get("conditions", []) if status == 200 else []
        return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)

    def _fail(self, what):
        logs = [f"{log.name}:\n{log.read_text()[-2000:]}" for log in self.directory.glob("*.log")]
        raise AssertionError("\n".join([what, *logs]))

    def stop(self):
        self.server.stop()
        if self.inside:
            # All that runs in it is killed with it, and its wire, filters and mounts go.
            self.inside.stdin.close()
            self.inside.wait(timeout=60)
            self.log.close()
        for group in control_groups():
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)


def ip(*args):
    subprocess.run(["ip", *args], check=True)


def answers(url):
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False
