"""What the official CLI takes, for `make bench`. Besides the SDK only the standard library.

    python measured.py deploy FOLDER COMPUTER WEBAPP [git]
        links FOLDER and deploys it, in directory mode, or with `git` after a commit of it, in git mode
    python measured.py package FOLDER
        packages FOLDER as a deploy in directory mode does

KONIGLE_BASE_URL and KONIGLE_API_KEY say where to, HOME is a folder of the caller's own. The last line is one JSON object:
the memory at the start and at most, in MiB, of this process and, at most, of git, and the seconds that it took.
"""

import json
import os
import resource
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

from konigle.cli.cloud.deploy import _package
from konigle.cli.main import cli

KIB = 1024


def resident():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / KIB
    raise AssertionError("the kernel tells no VmRSS")


def git(*words):
    subprocess.run(["git", *words], check=True, capture_output=True)


def deploy(folder, computer, webapp, mode="dir"):
    settings = Path.home() / ".konigle"
    settings.mkdir(exist_ok=True)
    # Fresh, so that the CLI does not ask the package index.
    checked = {"checked_at": datetime.now().isoformat(), "latest_version": "1.0.3"}
    (settings / "update_check.json").write_text(json.dumps(checked))
    os.chdir(folder)
    cli.main(["cloud", "link", "--computer", computer, "--webapp", webapp], standalone_mode=False)
    if mode == "git":
        git("init", "--quiet")
        git("-c", "core.compression=0", "add", "--all")
        git("-c", "user.name=bench", "-c", "user.email=bench@example.com", "commit", "--quiet", "--message", "bench")
    return lambda: cli.main(["cloud", "deploy", "--detach", "--name", "bench"], standalone_mode=False)


def package(folder):
    return lambda: _package(Path(folder))


def main():
    act = {"deploy": deploy, "package": package}[sys.argv[1]](*sys.argv[2:])
    before, began = resident(), time.monotonic()
    result = act()
    figures = {
        "seconds": time.monotonic() - began,
        "before": before,
        "highest": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB,
        "git": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / KIB,
    }
    if sys.argv[1] == "package":
        buffer, mode = result
        assert mode == "dir", mode
        figures["size"] = buffer.getbuffer().nbytes
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
