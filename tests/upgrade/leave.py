"""Run by a version of the workbench, its checkout as the current folder and on PYTHONPATH: leaves a small workspace, zipped here
as ``schema_NNNN.zip`` with its store as SQL text. What that version cannot do yet is left out. Kept to show how those files came
about, and to make the next one: before a migration is added, ``python tests/upgrade/leave.py FOLDER`` by the version before it.
"""

from __future__ import annotations

import inspect
import json
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from rlhf_core.ground.settings import Workspace
from rlhf_core.services import importing, snapshots
from rlhf_core.services.workbench import Workbench


def leave(root: Path) -> list[str]:
    """Fill a workspace; what was done."""
    records = []
    for k in range(5):
        judged = [{"step": 1, "score": 1 + k % 5, "rater": "Rui", "comment": "plain"}, {"step": 2, "score": 5, "rater": "Rui"}]
        judged.append({"score": 3, "rater": "Ana", "comment": "so so"})
        steps = [f"Call the career center {k}.", f"Ask for voucher {k}."]
        query = f"How do I begin in solar, question {k // 2}?"
        records.append({"id": f"c{k}", "query": query, "steps": steps, "source": "old", "model": "m1", "feedback": judged})
    file = root.parent / "chats.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in records))
    workbench = Workbench(Workspace.resolve(root))
    importing.import_file(workbench, file)
    person = workbench.add_person("Kim")
    mine = workbench.store.for_user(workbench.session(person))
    chats = workbench.store.search_chats(limit=5)
    full = workbench.store.chat(chats[0].id)
    did = ["import"]

    def attempt(name: str, do: Callable[[], object]) -> None:
        try:
            do()
            did.append(name)
        except Exception as error:  # an older version cannot
            print(f"not: {name}: {type(error).__name__} {error}", file=sys.stderr)

    def rate() -> None:
        mine.rate(full.id, full.steps[0].id, 2, "stars")
        mine.rate(full.id, None, 4, "stars")
        mine.comment(full.id, None, "Kim says")

    def pad() -> None:
        from rlhf_core.ground.records import EVERYTHING, LabelOp, new_id

        mine.claim(EVERYTHING, 2)
        ops = [
            LabelOp(new_id(), "rate", full.id, full.steps[1].id, {"score": 1, "scale": "stars"}),
            LabelOp(new_id(), "first_error", full.id, full.steps[1].id),
            LabelOp(new_id(), "flag", full.id, None, {"flag": "unsure"}),
            LabelOp(new_id(), "submit", full.id, None, {"queue": EVERYTHING}),
        ]
        assert not any(mine.apply(ops).values())

    def judge() -> None:
        from rlhf_core.ground.judgement import Aspect, Decision
        from rlhf_core.ground.records import LabelOp, new_id

        first, second = sorted(one.id for one in chats if "question 0" in one.query)
        verdict = {"other": second, "verdict": "chat", "strength": 2, "left": first, "comment": ""}
        ops = [
            LabelOp(new_id(), "prefer", first, None, verdict),
            LabelOp(new_id(), "rewrite", full.id, full.steps[0].id, {"text": "Call them first."}),
        ]
        assert not any(mine.apply(ops).values())
        workbench.store.save_rubric(workbench.store.queues()[0].id, [Aspect("factual", "Is it true?", "answer", {1: "no"})])
        mine.decide(Decision(new_id(), full.id, None, full.steps[0].id, "score", "3", "because"))

    def run() -> None:
        more = {"requested_by": None} if "requested_by" in inspect.signature(workbench.ledger.add).parameters else {}
        one = workbench.ledger.add("20260101-000000-abcdef", "reward", {"reward_base_model": "minilm-l6"}, "0" * 16, **more)
        workbench.ledger.claim(one.id, "h1")
        workbench.ledger.finish(one.id, "failed", "as an example", None)

    def application() -> None:
        from rlhf_core.services import collecting

        collecting.add_application(workbench, "Assistant")

    def roll_out() -> None:
        from rlhf_core.ground.rollout import decide

        event = decide("policy", [], "serve", who="Kim", reason="first", checkpoint_id="policy-000000000000")
        workbench.store.rollout.add(event)

    deeds = {"rate": rate, "pad": pad, "judge": judge, "run": run, "application": application, "roll out": roll_out}
    for name, do in (deeds | {"snapshot": lambda: snapshots.take(workbench)}).items():
        attempt(name, do)
    workbench.close()
    return did


def pack(root: Path, did: list[str]) -> Path:
    """The workspace as a zip beside this file."""
    database = root / "workbench.sqlite3"
    store = sqlite3.connect(database)
    version = store.execute("PRAGMA user_version").fetchone()[0]
    tables = [row[0] for row in store.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")]
    rows = {name: store.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in sorted(tables)}
    (root / "facts.json").write_text(json.dumps({"schema": version, "did": did, "rows": rows}, indent=1))
    (root / "store.sql").write_text("\n".join(store.iterdump()) + f"\nPRAGMA user_version = {version};\n")
    store.close()
    packed = Path(__file__).parent / f"schema_{version:04}.zip"
    with ZipFile(packed, "w", ZIP_DEFLATED) as file:
        for path in sorted(root.rglob("*")):
            if path.is_file() and not path.name.startswith("workbench.sqlite3") and path.suffix != ".lock":
                file.write(path, path.relative_to(root))
    return packed


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir()
    print(pack(folder / "workspace", leave(folder / "workspace")))
