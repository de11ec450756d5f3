"""The judges themselves: Debian's packages, and Python's in an environment of this command's own."""

import os
import shutil
import subprocess
import sys
import venv


class Missing(Exception):
    """A judge cannot be had here; the row is skipped."""


class Tools:
    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def log(self, words):
        """Runs an installer, whose output is kept."""
        with open(self.folder / "install.log", "ab") as log:
            done = subprocess.run([str(word) for word in words], stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        return done.returncode == 0

    def python(self, *packages):
        """The Python of an environment that has these packages: one for each set of them."""
        name = "-".join(sorted(package.split("=")[0].split("<")[0] for package in packages))
        folder = self.folder / "venv" / name
        python = folder / "bin/python3"
        if (folder / "ready").exists():
            return python
        venv.EnvBuilder(clear=True, with_pip=True).create(folder)
        if not self.log([python, "-m", "pip", "install", "-q", *packages]):
            raise Missing(f"pip cannot install {' '.join(packages)}")
        (folder / "ready").touch()
        return python

    def debian(self, program, package=None):
        """The path of a program, installed if it is not there and this is root."""
        path = shutil.which(str(program)) or shutil.which(program, path="/usr/sbin:/usr/games")
        if path:
            return path
        package = package or program
        install = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "install", "-y", "--no-install-recommends", package]
        if os.getuid() == 0 and shutil.which("apt-get") and self.log(["env", "DEBIAN_FRONTEND=noninteractive", *install]):
            return self.debian(program, package)
        raise Missing(f"{program} is not installed (Debian: {package})")

    def npm(self, package):
        """A folder whose node_modules has the package."""
        if not shutil.which("npm"):
            raise Missing("npm is not installed")
        folder = self.folder / "npm"
        folder.mkdir(exist_ok=True)
        if not (folder / "node_modules" / package).exists():
            if not self.log(["npm", "--prefix", folder, "install", "--no-audit", "--no-fund", "--ignore-scripts", package]):
                raise Missing(f"npm cannot install {package}")
        return folder


def here(message):
    print(message, file=sys.stderr, flush=True)
