"""Images as an archive that runtimes of containers import: one layer, and what is set for what runs."""

import hashlib
import json
import tarfile
from io import BytesIO


def write(path, name, root, **settings):
    """Writes an image of what is in a folder, as its owners have it. Settings are those of an image, such as User."""
    layer = BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as files:
        files.add(root, arcname=".")
    layer = layer.getvalue()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as archive:
        for file, content in {
            "config.json": json.dumps(config).encode(),
            "layer.tar": layer,
            "manifest.json": json.dumps(manifest).encode(),
        }.items():
            entry = tarfile.TarInfo(file)
            entry.size = len(content)
            archive.addfile(entry, BytesIO(content))
