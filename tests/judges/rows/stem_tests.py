"""stem's own integration tests, which start the daemon themselves with each way to log in."""

import re
import tarfile

from harness.network import scratch
from harness.processes import run
from harness.tools import Missing
from harness.verdict import check, tail

VERSION = "1.8.2"


def judge(side, tools):
    python, folder = tools.python("stem", "setuptools<80"), tools.folder / f"stem-{VERSION}"
    if not folder.exists():
        download = [python, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "stem"]
        build = [f"stem=={VERSION}", "-d", tools.folder]
        if not tools.log([*download, *build]):
            raise Missing("pip cannot download stem's source")
        with tarfile.open(tools.folder / f"stem-{VERSION}.tar.gz") as archive:
            archive.extractall(tools.folder)
    words = [python, folder / "run_tests.py", "--integ", "--tor", side.program, "--target", "RUN_ALL", "--verbose"]
    home = scratch(side, "stem_tests")
    # They name no authorities; ours knows none by itself.
    network = str(side.network.folder / "net/network.toml")
    more = {"cwd": folder, "env": {**side.environment(), "HOME": str(home), "CEPA_NETWORK": network}}
    code, out = run(words, side.log_of("stem_tests"), 900, **more)
    out = re.sub(r"\x1b\[[0-9;]*m", "", out)
    check("failed to start tor" not in out and "You can re-run" in out, f"exit code {code}: {tail(out)}")
    wrong = sorted(set(re.findall(r"^ *\[\w+\] (\w+ \([\w.]+\)) \.\.\. (?:FAIL|ERROR)$", out, re.M)))
    known = side.network.expected.setdefault("stem_tests", wrong)
    mine = [name for name in wrong if name not in known]
    check(not mine, f"{len(mine)} tests fail that pass with tor: {' '.join(mine)}")
    return f"{len(wrong)} tests fail with tor, too"
