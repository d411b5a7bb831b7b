"""Answers as they arrive on the page, beside bare ``generate``; and many at once beside one by one. The last line is JSON.

    .venv/bin/python benchmarks/playground.py [--rounds 9] [--tokens 96] [--hidden 512] [--layers 8]

A causal model of some 50 million random weights on this machine's processors, float32, warm. Random weights hardly ever end an answer,
so every answer has all its tokens.

1. ``first_token_ratio``: from the press of Enter in a real browser to the first step on the page, over the time to the first token of
   ``generate`` of transformers for the same question in a process of its own; medians.
2. ``stream_speed_ratio``: tokens a second of an answer from its first token to its last, as the page shows them, over those of
   ``generate``; medians.
3. ``batch_ratio``: answers a second of a run that writes (``rlhf_core.runs.generate``, batches of 32), over the same answers one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["RLHF_STORE"] = "sqlite"

import torch
from playwright.sync_api import Page, sync_playwright
from tokenizers import processors
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.generation.streamers import BaseStreamer

from rlhf_core.checkpoints.base_models import locate
from rlhf_core.ground.configs import GenerateConfig
from rlhf_core.ground.settings import WORKSPACE_VARIABLE, Workspace
from rlhf_core.learn.writing import Writer, prompt_ids
from rlhf_core.runs.generate import generate
from rlhf_core.runs.recording import Silent
from rlhf_core.services import importing, snapshots
from rlhf_core.services.workbench import Workbench
from tests.e2e.conftest import CHROMIUM_ARGUMENTS, start_server
from tests.install_browser import find_browser
from tests.learn.policies import policy_checkpoint

QUESTION = (
    "I have worked as a roofer in Lynn for eleven years and my knees are not what they were. I hold no licence but I know my way "
    "around a crew, and I was told that solar companies look for people who can plan an installation and keep others safe. Which "
    "training would be recognised in Massachusetts, how long does it take beside a job, who pays for it, and what would I earn in "
    "the first year? Please go through it step by step, and say where I should call first. Number {k}."
)
WATCH = """() => {
  // What a side says: without who writes it, and without what is left of the answer before, which Streamlit draws until it is replaced.
  const said = () => [...document.querySelectorAll('[class*="st-key-playground-side-"] [data-testid="stMarkdown"]')]
    .map((one) => one.innerText.trim()).filter((text) => text && text !== 'Begins …');
  window.firstSeen = null; window.pressed = null;
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    const old = new Set(said());
    window.pressed = performance.now(); window.firstSeen = null;
    const watch = new MutationObserver(() => {
      if (said().some((text) => !old.has(text))) { window.firstSeen = performance.now(); watch.disconnect(); }
    });
    watch.observe(document.body, {subtree: true, childList: true, characterData: true});
  }, true);
}"""


class Times(BaseStreamer):
    """When each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, _: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None: ...


def policy(workspace: Workspace, hidden: int, layers: int) -> str:
    bare = AutoTokenizer.from_pretrained(locate("minilm-l6").load_from).backend_tokenizer
    bare.post_processor = processors.Sequence([])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bare, pad_token="[PAD]", unk_token="[UNK]", eos_token="[SEP]")
    torch.manual_seed(0)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, num_hidden_layers=layers, num_attention_heads=8, intermediate_size=3 * hidden,
        max_position_embeddings=2048, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, bos_token_id=None,
    ))  # fmt: skip
    print(f"{model.num_parameters() / 1e6:.0f} million weights", flush=True)
    return policy_checkpoint(workspace.checkpoints, model, tokenizer).id


@torch.inference_mode()
def bare(writer: Writer, rounds: int, tokens: int) -> tuple[float, float]:
    """Median seconds to the first token, and tokens a second after it."""
    firsts, speeds = [], []
    for k in range(rounds + 1):
        ids = torch.tensor([prompt_ids(QUESTION.format(k=k), writer.tokenizer)])
        came = Times()
        began = time.perf_counter()
        writer.network.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, do_sample=True,
            top_k=0, streamer=came, eos_token_id=writer.tokenizer.eos_token_id, pad_token_id=writer.tokenizer.pad_token_id,
        )  # fmt: skip
        firsts.append(came.times[1] - began)  # the first call is the prompt's
        speeds.append((len(came.times) - 2) / (came.times[-1] - came.times[1]))
    return statistics.median(firsts[1:]), statistics.median(speeds[1:])


def ask(tab: Page, k: int) -> None:
    box = tab.get_by_placeholder("Ask something")
    box.fill(QUESTION.format(k=k))
    box.press("Enter")


def on_the_page(tab: Page, rounds: int) -> tuple[float, float]:
    firsts, speeds = [], []
    stop = tab.get_by_role("button", name="Stop")
    for k in range(rounds + 1):
        ask(tab, k)
        tab.wait_for_function("window.firstSeen !== null", timeout=120_000)
        firsts.append(tab.evaluate("window.firstSeen - window.pressed") / 1000)
        stop.wait_for(timeout=120_000)
        stop.wait_for(state="hidden", timeout=120_000)
        told = tab.get_by_text("tokens a second")
        speeds.append(float(told.inner_text().rpartition(" tokens a second")[0].rpartition(" ")[2]))
    return statistics.median(firsts[1:]), statistics.median(speeds[1:])


def batches(workbench: Workbench, snapshot_id: str, name: str, tokens: int) -> float:
    """How many times as fast as one by one."""
    workspace = workbench.workspace
    workspace.run_folder("batches").mkdir(parents=True)
    config = GenerateConfig.parse({
        "base_model": name, "answers": 4, "max_queries": 16, "max_tokens": tokens, "batch_size": 32, "device": "cpu", "precision": "fp32",
    })  # fmt: skip
    writer = Writer.load(locate(name, workspace.checkpoints))
    queries = list(dict.fromkeys(workbench.store.chat(one.id).query for one in workbench.store.search_chats(limit=16)))
    writer.write(queries[0], 1, max_tokens=2)
    began = time.perf_counter()
    generate(workspace, "batches", snapshot_id, config, Silent())
    ours = time.perf_counter() - began
    began = time.perf_counter()
    for k, query in enumerate(queries):
        for again in range(4):
            writer.write(query, 1, max_tokens=tokens, seed=4 * k + again)
    plain = time.perf_counter() - began
    print(f"64 answers: {ours:.1f} s in batches, loading the policy included; {plain:.1f} s one by one", flush=True)
    return plain / ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=8)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name) / "workspace"
        workbench = Workbench(Workspace.resolve(root))
        file = Path(name) / "chats.jsonl"
        file.write_text("".join(json.dumps({"query": QUESTION.format(k=k), "response": "Call."}) + "\n" for k in range(16)))
        importing.import_file(workbench, file)
        snapshot, _ = snapshots.take(workbench)
        checkpoint = policy(workbench.workspace, arguments.hidden, arguments.layers)
        batch_ratio = batches(workbench, snapshot.id, checkpoint, arguments.tokens)

        writer = Writer.load(locate(checkpoint, workbench.workspace.checkpoints))
        before = bare(writer, arguments.rounds, arguments.tokens)
        os.environ[WORKSPACE_VARIABLE] = str(root)
        server = start_server(root, Path(name) / "server.log")
        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=find_browser(), args=CHROMIUM_ARGUMENTS)
                tab = browser.new_page()
                tab.goto(f"{server.url}/playground")
                tab.get_by_text("Ask something below").wait_for(timeout=60_000)
                tab.get_by_role("combobox", name="The other").click()
                tab.get_by_role("option", name="nobody").click()
                tab.get_by_role("button", name="How it is written").click()
                tab.get_by_role("spinbutton", name="Tokens at most").fill(str(arguments.tokens))
                tab.keyboard.press("Tab")
                tab.keyboard.press("Escape")
                tab.wait_for_timeout(1500)
                tab.evaluate(WATCH)
                page = on_the_page(tab, arguments.rounds)
                browser.close()
        finally:
            server.process.terminate()
            server.process.wait()
        after = bare(writer, arguments.rounds, arguments.tokens)
        workbench.close()
    first, speed = (statistics.mean(pair) for pair in zip(before, after, strict=True))
    print(f"first token: bare {first * 1000:.0f} ms, on the page {page[0] * 1000:.0f} ms", flush=True)
    print(f"tokens a second: bare {speed:.0f}, on the page {page[1]:.0f}", flush=True)
    print(json.dumps({
        "first_token_ratio": round(page[0] / first, 2), "stream_speed_ratio": round(page[1] / speed, 3),
        "batch_ratio": round(batch_ratio, 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
