"""Known vulnerabilities of the locked dependencies. Where the advisories cannot be had, this says so and passes."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LOCK = Path(__file__).resolve().parents[1] / "constraints.txt"
LIMIT_S = 120


def main() -> int:
    """Exit status: 1 where a vulnerability is known, else 0."""
    found = answers()
    if found is None:
        print("audit: could not look: no advisories within reach; the dependencies were not checked", file=sys.stderr)
        return 0
    looked_at = [one for one in found if "vulns" in one]
    bad = [f"{one['name']} {one['version']}: {flaw['id']}" for one in looked_at for flaw in one["vulns"]]
    unknown = [one["name"] for one in found if "vulns" not in one]
    print(f"audit: {len(looked_at)} of {len(found)} locked packages looked up, {len(bad)} known vulnerabilities")
    if unknown:
        print(f"audit: could not look at {', '.join(unknown)}", file=sys.stderr)
    print("\n".join(bad), end="\n" if bad else "")
    return int(bool(bad))


def answers() -> list[dict[str, Any]] | None:
    """What pip-audit says of each package; None where it could ask nobody, or got no answer about any of them."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--no-deps", "--disable-pip"]
        command += ["--progress-spinner", "off", "--timeout", "10", "--format", "json", "--output", str(report)]
        try:
            subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
            found = json.loads(report.read_text(encoding="utf-8"))["dependencies"]
        except (OSError, ValueError, KeyError, subprocess.TimeoutExpired):
            return None
    return found if any("vulns" in one for one in found) else None


if __name__ == "__main__":
    sys.exit(main())
