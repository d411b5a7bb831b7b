"""Inside a private network: a Ray head, and its dashboard's port handed out through a socket in the file system."""

import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

ADDRESS = "10.99.0.1"  # not of loopback, which Ray would replace by the machine's own
DASHBOARD = 8265


def network() -> None:
    """Loopback alone, up, with one more address: what ``ip addr add`` does, without that command."""
    set_address, get_flags, set_flags, set_mask, up = 0x8916, 0x8913, 0x8914, 0x891C, 0x1  # of linux/sockios.h and if.h
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:

        def ask(what: int, name: bytes, value: bytes) -> bytes:
            return fcntl.ioctl(any_socket, what, struct.pack("16s24s", name, value))

        flags = struct.unpack("16xH", ask(get_flags, b"lo", b"")[:18])[0]
        ask(set_flags, b"lo", struct.pack("H", flags | up))
        ask(set_address, b"lo:1", struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton(ADDRESS)))
        ask(set_mask, b"lo:1", struct.pack("HH4s", socket.AF_INET, 0, socket.inet_aton("255.255.255.255")))


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def hand_out(path: Path) -> None:
    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, to_there = await asyncio.open_connection("127.0.0.1", DASHBOARD)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, to_there), pump(there, writer))

    async with await asyncio.start_unix_server(met, path) as server:
        await server.serve_forever()


def main(folder: Path, cpus: str, gpus: str) -> None:
    network()
    head = subprocess.Popen(
        [
            sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--node-ip-address={ADDRESS}",
            f"--num-cpus={cpus}", f"--num-gpus={gpus}", "--dashboard-host=127.0.0.1", f"--dashboard-port={DASHBOARD}",
            f"--temp-dir={folder / 'r'}", "--disable-usage-stats", "--object-store-memory=80000000",
        ],
        stdout=(folder / "head.log").open("ab"), stderr=subprocess.STDOUT,
    )  # fmt: skip
    door = folder / "dashboard.sock"
    door.unlink(missing_ok=True)
    del head
    asyncio.run(hand_out(door))


if __name__ == "__main__":
    os.chdir("/")
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
