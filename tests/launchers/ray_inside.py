"""Inside a private network: a Ray head, and its dashboard's port handed out through a socket in the file system."""

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

ADDRESS = "10.99.0.1"  # not of loopback, which Ray would replace by the machine's own
DASHBOARD = 8265


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def hand_out(socket: Path) -> None:
    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, to_there = await asyncio.open_connection("127.0.0.1", DASHBOARD)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, to_there), pump(there, writer))

    async with await asyncio.start_unix_server(met, socket) as server:
        await server.serve_forever()


def main(folder: Path, cpus: str, gpus: str) -> None:
    for line in ("link set lo up", f"addr add {ADDRESS}/32 dev lo", "route add default dev lo"):
        subprocess.run(["ip", *line.split()], check=True)
    head = subprocess.Popen(
        [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--node-ip-address={ADDRESS}",
            f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--dashboard-host=127.0.0.1", f"--dashboard-port={DASHBOARD}",
            f"--temp-dir={folder / 'r'}", "--disable-usage-stats", "--object-store-memory=80000000",
        ],
        stdout=(folder / "head.log").open("ab"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    socket = folder / "dashboard.sock"
    socket.unlink(missing_ok=True)
    del head
    asyncio.run(hand_out(socket))


if __name__ == "__main__":
    os.chdir("/")
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
