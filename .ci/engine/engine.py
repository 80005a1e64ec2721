"""A Docker engine for the documentation, with a builder and a registry: nobody else's, in a folder of its own, and gone when it stops."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / "target/tools/docker"
APART = ["unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
REGISTRY = "registry.example.org"
# Loopback, where port 80 of nobody else's is, and addresses for tests of networks.
REGISTRY_ADDRESS = "127.0.0.80"
BRIDGE, BRIDGE_ADDRESS = "cim-docs", "198.19.0.1/24"
GROUP = "cim-docs"


def forbidden() -> str | None:
    """Why no engine can run on this machine; nothing where one can."""
    if os.geteuid() != 0:
        return "whoever starts a Docker engine has to be root"
    if not shutil.which("apt-get"):
        return "the engine is made of Debian's packages"
    with tempfile.TemporaryDirectory() as folder:
        layers = "mkdir lower upper work merged; mount -t overlay -o lowerdir=lower,upperdir=upper,workdir=work overlay merged"
        tried = subprocess.run([*APART, "sh", "-euc", layers], cwd=folder, capture_output=True, text=True, timeout=60)
        if tried.returncode != 0:
            return tried.stderr.strip()
    try:
        for group in control_groups():
            group.mkdir(exist_ok=True)
            remove(group)
    except OSError as error:
        return str(error)
    # One may be left of a run that was killed.
    bridge("delete")
    added = bridge("add", "type", "bridge")
    return None if added.returncode == 0 and bridge("delete").returncode == 0 else added.stderr.strip()


def control_groups() -> list[Path]:
    """Where containers are, in every hierarchy of control groups."""
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(place) / GROUP for _, place, kind, *_ in mounts if kind in ("cgroup", "cgroup2")]


def remove(group: Path) -> None:
    """Those who were killed are in it until the kernel is done with them."""
    end = time.monotonic() + 60
    while group.exists():
        try:
            for folder, _, _ in os.walk(group, topdown=False):
                os.rmdir(folder)
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def bridge(verb: str, *args: str) -> subprocess.CompletedProcess:
    return subprocess.run(["ip", "link", verb, "name", BRIDGE, *args], capture_output=True, text=True)


class Engine:
    """Starts it all, and waits until it answers. Whoever makes one stops it, also where it could not be made."""

    def __init__(self) -> None:
        # A path of a socket has to be short.
        self.folder = Path(tempfile.mkdtemp(prefix="cim-docs-"))
        self.process = None
        self.environment = {
            "DOCKER_HOST": f"unix://{self.folder}/docker.sock",
            "DOCKER_CONFIG": f"{self.folder}/client",
            "PATH": f"{INSTALLED}/usr/bin:{INSTALLED}/usr/sbin:{os.environ['PATH']}",
        }

    def start(self) -> None:
        subprocess.run([HERE / "install"], check=True)
        bridge("add", "type", "bridge").check_returncode()
        subprocess.run(["ip", "address", "add", BRIDGE_ADDRESS, "dev", BRIDGE], check=True)
        bridge("set", "up").check_returncode()
        libraries = ":".join(map(str, INSTALLED.glob("**/*-linux-gnu")))
        self.log = open(self.folder / "log", "w")
        # It ends with the one who started it, however that ends.
        self.process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *APART, HERE / "inside", self.folder, REGISTRY, REGISTRY_ADDRESS, BRIDGE, GROUP],
            env=os.environ | self.environment | {"LD_LIBRARY_PATH": libraries},
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        )
        self._client()
        self._await("docker", "version")
        self._await("docker", "buildx", "inspect", "--bootstrap")
        subprocess.run([HERE / "stand-ins", REGISTRY], env=os.environ | self.environment, check=True)

    def _client(self) -> None:
        """`docker build` is the builder's, as it is with every Docker since 23, and the engine gets what it makes."""
        client = self.folder / "client"
        client.mkdir()
        settings = {"cliPluginsExtraDirs": [f"{INSTALLED}/plugins"], "aliases": {"builder": "buildx"}}
        (client / "config.json").write_text(json.dumps(settings))
        self.run(
            *("docker", "buildx", "create", "--name", "docs", "--use", "--driver", "remote", "--driver-opt", "default-load=true"),
            f"unix://{self.folder}/buildkit.sock",
        )

    def run(self, *command: str) -> str:
        return subprocess.check_output(command, env=os.environ | self.environment, text=True)

    def _await(self, *command: str) -> None:
        """Polls, for nothing tells when it is ready; a minute is more than it takes."""
        end = time.monotonic() + 60
        while subprocess.run(command, env=os.environ | self.environment, capture_output=True).returncode != 0:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"the Docker engine did not start:\n{(self.folder / 'log').read_text()[-5000:]}")
            time.sleep(0.2)

    def stop(self) -> None:
        if self.process:
            # Containers, mounts and the network of each end with the engine.
            self.process.kill()
            self.process.wait(timeout=60)
            self.log.close()
            for group in control_groups():
                remove(group)
        bridge("delete")
        shutil.rmtree(self.folder)
