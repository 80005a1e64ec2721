"""What stands in for Secrets: keys and certificates, made for one test."""

import hashlib
import secrets
import subprocess
import tomllib

# Where a pod has them.
FOLDER = "/run/cim-gateway"


class Secrets:
    """The files that a shape's Secrets would bring, in a folder that stands in for the pod's."""

    def __init__(self, made, directory):
        self.directory = directory
        config = tomllib.loads(made.config)
        self.key = ""
        if keys := config["auth"].get("keys_file"):
            self._keys(self._place(keys))
        if "tls" in config:
            self._certificates(made)

    @property
    def client(self):
        """Where those who call have what they need."""
        return self.directory / "client"

    def here(self, text):
        """A text that names files of the pod, with those that stand in for them."""
        return text.replace(FOLDER, str(self.directory))

    def _place(self, path):
        place = self.directory / path.removeprefix(FOLDER + "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def _keys(self, file):
        self.key = f"cim_{secrets.token_urlsafe(32)}"
        digest = hashlib.sha256(self.key.encode()).hexdigest()
        file.write_text(f'[[keys]]\nname = "test"\nrole = "admin"\nsha256 = ["{digest}"]\n')

    def _certificates(self, made):
        volumes = {volume["name"]: volume["secret"]["secretName"] for volume in made.pod["spec"]["volumes"] if "secret" in volume}
        of_servers = Authority(self.directory / "servers")
        # One Secret cannot have two authorities under one name.
        alone = volumes.get("client", volumes["tls"]) == volumes["tls"]
        of_clients = of_servers if alone else Authority(self.directory / "clients")
        name = f"{made.service['metadata']['name']}.{made.service['metadata']['namespace']}.svc"
        usage = "serverAuth, clientAuth" if alone else "serverAuth"
        # The address is what a test calls; a pod is called by its name.
        of_servers.certify(self.directory / "tls", f"subjectAltName=DNS:{name},IP:127.0.0.1\nextendedKeyUsage={usage}\n", of_clients)
        of_clients.certify(self.client, "subjectAltName=DNS:client\nextendedKeyUsage=clientAuth\n", of_servers)


class Authority:
    """Makes certificates."""

    def __init__(self, folder):
        folder.mkdir(parents=True)
        self.certificate, self.key = folder / "ca.crt", folder / "ca.key"
        about = ["-days", "2", "-subj", f"/CN={folder.name}", "-addext", "keyUsage=critical,keyCertSign"]
        openssl("req", "-x509", *FRESH, *about, "-keyout", self.key, "-out", self.certificate)

    def certify(self, folder, extensions, other):
        """Makes a certificate, as a Secret has it, beside that of the authority of the other side."""
        folder.mkdir(parents=True)
        request, extfile = folder / "tls.csr", folder / "extensions"
        extfile.write_text(extensions + "authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n")
        openssl("req", *FRESH, "-subj", "/CN=test", "-keyout", folder / "tls.key", "-out", request)
        by = ["-CA", self.certificate, "-CAkey", self.key, "-CAcreateserial", "-days", "2", "-extfile", extfile]
        openssl("x509", "-req", "-in", request, *by, "-out", folder / "tls.crt")
        (folder / "ca.crt").write_bytes(other.certificate.read_bytes())


FRESH = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


def openssl(*args):
    subprocess.run(["openssl", *args], check=True, capture_output=True, timeout=60)
