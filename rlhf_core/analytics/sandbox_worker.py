"""The process that runs one statement of somebody's SQL, and nothing else: no files but the one it is given, no network, no
extensions, no settings. Started by :mod:`~rlhf_core.analytics.sandbox` by its path, so it imports nothing of the project.

Standard input: one JSON line {database, sql, result, max_rows, max_bytes, memory, threads, timeout_s}. Standard output: one JSON
line {columns, rows, truncated, seconds} or {error}. The rows go to ``result`` as an Arrow file.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import threading
import time
from typing import Any

import duckdb
import pyarrow as pa

BATCH_ROWS = 10_000
ADDRESS_SPACE = 6 << 30  # bytes; DuckDB's own limit is far below, this is for what it does not count
ALLOWED = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)


def main() -> None:
    line = sys.stdin.buffer.readline()
    if not line:
        return  # whoever started us is gone
    reply = answer(json.loads(line))
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a thread of DuckDB's may be busy still


def answer(request: dict[str, Any]) -> dict[str, Any]:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * request["max_bytes"], 2 * request["max_bytes"]))
    try:
        statements = duckdb.extract_statements(request["sql"])
    except duckdb.Error as error:
        return {"error": str(error)}
    if len(statements) != 1:
        return {"error": "Write one statement." if not statements else f"{len(statements)} statements; run one at a time."}
    if statements[0].type not in ALLOWED:
        kind = statements[0].type.name.replace("_", " ")
        return {"error": f"{kind} is not allowed here: a snapshot is only read. Write a SELECT."}
    connection = duckdb.connect(request["database"], read_only=True, config=request["settings"])
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET lock_configuration = true")
    began = time.perf_counter()
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        connection.interrupt()

    timer = threading.Timer(request["timeout_s"], stop)
    timer.daemon = True
    timer.start()
    try:
        reader: Any = connection.execute(statements[0]).to_arrow_reader(BATCH_ROWS)
        rows, size, truncated = 0, 0, False
        with pa.OSFile(request["result"], "wb") as file, pa.ipc.new_file(file, reader.schema) as writer:
            for batch in reader:
                batch = batch.slice(0, request["max_rows"] - rows)
                if size + batch.nbytes > request["max_bytes"] and rows:
                    truncated = True
                    break
                writer.write_batch(batch)
                rows, size = rows + batch.num_rows, size + batch.nbytes
                if rows >= request["max_rows"]:
                    truncated = True
                    break
        columns = [[field.name, str(field.type)] for field in reader.schema]
        return {"columns": columns, "rows": rows, "truncated": truncated, "seconds": time.perf_counter() - began}
    except duckdb.InterruptException:
        return {"error": f"Stopped after {request['timeout_s']:g} s. Ask for less: fewer rows, a filter, no join of everything."}
    except duckdb.OutOfMemoryException:
        return {"error": "Out of memory. Ask for less: fewer columns, a filter, an aggregate."}
    except MemoryError:
        return {"error": "Out of memory. Ask for less: fewer columns, a filter, an aggregate."}
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        if stopped.is_set():
            return {"error": f"Stopped after {request['timeout_s']:g} s. Ask for less."}
        return {"error": str(error)}


if __name__ == "__main__":
    main()
