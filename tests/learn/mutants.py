"""Do the tests of PPO notice a wrong formula? Each mutant is one edit of a copy of the library; its tests must fail.

    .venv/bin/python tests/learn/mutants.py [WORDS ...]     only mutants whose file or edit holds one of the words

Prints a line for each, and exits with 1 where one survived. Takes some minutes, so it is no test itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = ("tests/learn/test_policy_arithmetic.py", "tests/learn/test_policy.py", "tests/learn/test_ppo.py")
MUTANTS = [
    ("gae.py", "surprise[:, token] + gamma * lam * running", "surprise[:, token] + lam * running"),
    ("gae.py", "torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)", "values"),
    ("gae.py", "return advantages, advantages + values", "return advantages, advantages"),
    ("policy_losses.py", "return torch.maximum(plain, clipped), ratio", "return torch.minimum(plain, clipped), ratio"),
    ("policy_losses.py", "0.5 * torch.maximum(plain, held)", "0.5 * torch.minimum(plain, held)"),
    ("policy_losses.py", "torch.exp(logprobs - old_logprobs)", "torch.exp(old_logprobs - logprobs)"),
    ("kl.py", "return torch.expm1(-lead) + lead", "return torch.expm1(lead) - lead"),
    ("kl.py", "kl / self.target - 1", "1 - kl / self.target"),
    ("masked.py", "(white + mean if keep_mean else white)", "(white if keep_mean else white + mean)"),
    ("logprobs.py", "shares.scatter_add_(1, ids[some, None], given[some, None])", "shares.scatter_add_(1, ids[some, None], 1.05 * given[some, None])"),
    ("logprobs.py", "(shares * ctx.scale)", "shares"),
    ("policy.py", "torch.cat([batch.mask, torch.zeros_like(batch.mask[:, :1])], 1)", "torch.cat([torch.zeros_like(batch.mask[:, :1]), batch.mask], 1)"),
    ("policy.py", "(attention.cumsum(1) - 1).clamp_min(0)", "torch.arange(attention.shape[1]).expand_as(attention)"),
    ("policy.py", "[:, -batch.mask.shape[1] - 1 : -1][batch.mask]", "[:, -batch.mask.shape[1] :][batch.mask]"),
    ("policy.py", "copy.deepcopy(model).requires_grad_(False).eval()", "model"),
    ("rollout.py", "attention, rows, drawn = attention[kept], rows[kept], drawn[kept]", "attention, rows, drawn = attention[kept], rows[:left], drawn[kept]"),
    ("rollout.py", "logits = out.logits[:, -1].float() / temperature", "logits = out.logits[:, -1].float()"),
    ("rollout.py", "logits.index_fill(1", "logits.index_fill_(1"),
    ("episodes.py", "found[row, token] += reward", "found[row, token] = reward"),
    ("episodes.py", "low = middle + 1", "low = middle + 2"),
    ("ppo.py", "loss = loss / total", "loss = loss / sum(len(one.ids) for one in some)"),
    ("ppo.py", "rewards - self.controller.coefficient * kl_estimate", "rewards + self.controller.coefficient * kl_estimate"),
    ("ppo.py", "return [reward / len(rewards) for reward in rewards]", "return rewards"),
    ("ppo.py", "zip([0.0, *rewards], rewards, strict=False)", "zip(rewards, [0.0, *rewards], strict=False)"),
    ("ppo.py", "config.missing_eos_penalty * (not one.ended)", "config.missing_eos_penalty * one.ended"),
    ("ppo.py", "advantages = whiten(advantages, mask, keep_mean=False)", "advantages = whiten(advantages, mask, keep_mean=True)"),
    ("ppo.py", "self.moments.put(taken[\"moments\"])", "pass"),
    ("ppo.py", "self.generator.set_state(taken[\"generator\"])", "pass"),
    ("ppo.py", "self.controller.coefficient = taken[\"coefficient\"]", "pass"),
    ("ppo.py", "generator.set_state(drawn)", "pass"),
    ("adapters.py", "found[f\"{name}.weight\"] + module.get_delta_weight", "found[f\"{name}.weight\"] - module.get_delta_weight"),
]  # fmt: skip


def survives(name: str, old: str, new: str) -> tuple[bool, str]:
    """Whether every test passes, and the first that does not."""
    with tempfile.TemporaryDirectory() as scratch:
        for part in ("rlhf_core", "tests", "sql", "pyproject.toml"):
            source = ROOT / part
            ignore = shutil.ignore_patterns("node_modules", "__pycache__")
            (shutil.copytree if source.is_dir() else shutil.copy)(
                source, Path(scratch) / part, **({"ignore": ignore} if source.is_dir() else {})
            )
        path = Path(scratch) / "rlhf_core" / "learn" / name
        text = path.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise SystemExit(f"{name} holds {old!r} {text.count(old)} times; mend the list")
        path.write_text(text.replace(old, new), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS], cwd=scratch, capture_output=True,
            text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": scratch}, check=False,
        )  # fmt: skip
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 0, failed[0].removeprefix("FAILED ").partition(" - ")[0] if failed else ""


def main() -> int:
    words = sys.argv[1:]
    chosen = [one for one in MUTANTS if not words or any(word in " ".join(one) for word in words)]
    left = 0
    for name, old, new in chosen:
        lives, by = survives(name, old, new)
        left += lives
        print(f"{'SURVIVED' if lives else 'caught  '} {name}: {old}  ->  {new}  {by}", flush=True)
    print(f"{len(chosen) - left} of {len(chosen)} caught")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
