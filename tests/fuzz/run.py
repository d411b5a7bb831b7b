"""Fuzz a target by coverage: ``python -m tests.fuzz.run TARGET --seconds 300``. Needs atheris (``pip install atheris==3.0.0``).

Inputs that reach what no other one reaches are kept in ``corpus/TARGET.zip``; what breaks the target is written into the
current folder as ``crash-*``, and belongs into the corpus (``--add crash-...``) once it is mended.
Source: https://github.com/google/atheris and https://llvm.org/docs/LibFuzzer.html
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

CORPUS = Path(__file__).parent / "corpus"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--longest", type=int, default=2000, help="bytes of an input")
    parser.add_argument("--add", type=Path, action="append", default=[], help="an input to keep in any case")
    parser.add_argument("--libfuzzer", nargs="*", help=argparse.SUPPRESS)
    arguments, rest = parser.parse_known_args()
    if arguments.libfuzzer is not None:
        _fuzz(arguments.target, [*arguments.libfuzzer, *rest])
    packed = CORPUS / f"{arguments.target}.zip"
    child = [sys.executable, "-m", "tests.fuzz.run", arguments.target, "--libfuzzer"]
    with tempfile.TemporaryDirectory() as name:
        inputs, kept = Path(name), {}
        if packed.is_file():
            with ZipFile(packed) as file:
                file.extractall(inputs)
                kept = {one: file.read(one) for one in file.namelist() if one.startswith("kept-")}
        kept |= {f"kept-{path.name}": path.read_bytes() for path in arguments.add}
        limits = [f"-max_len={arguments.longest}", "-timeout=20", f"-max_total_time={arguments.seconds}", "-print_final_stats=1"]
        done = subprocess.run([*child, str(inputs), *limits], check=False)
        found = kept | {path.name: path.read_bytes() for path in inputs.iterdir()}
    packed.parent.mkdir(exist_ok=True)
    with ZipFile(packed, "w", ZIP_DEFLATED) as file:
        for name, data in sorted(found.items()):
            file.writestr(ZipInfo(name), data, ZIP_DEFLATED)  # without a time: the same inputs give the same file
    print(f"{packed}: {len(found)} inputs")
    return done.returncode


def _fuzz(target: str, arguments: list[str]) -> None:
    import atheris

    with atheris.instrument_imports(include=["rlhf_core"]):
        from tests.fuzz.targets import TARGETS
    atheris.Setup([sys.argv[0], *arguments], TARGETS[target])
    atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    sys.exit(main())
