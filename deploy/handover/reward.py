"""Rewards of a reward model that RLHF Workbench serves, for OpenRLHF (reward_func) and verl (compute_score). It asks over HTTP
and needs nothing but Python; RLHF_REWARD_URL says where, RLHF_REWARD_TOKEN what it asks for."""

import json
import os
import time
import urllib.error
import urllib.request

URL = os.environ.get("RLHF_REWARD_URL", "http://127.0.0.1:5000").rstrip("/")
TRIES, TIMEOUT_S = 5, 600


def ask(path, body):
    """The server's answer. One that is away is asked again; one that refuses is not."""
    headers = {"Content-Type": "application/json"}
    if os.environ.get("RLHF_REWARD_TOKEN"):
        headers["Authorization"] = "Bearer " + os.environ["RLHF_REWARD_TOKEN"]
    request = urllib.request.Request(URL + path, json.dumps(body).encode(), headers)
    for left in reversed(range(TRIES)):
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code < 500 or not left:
                raise RuntimeError(f"{URL}{path} refused: {error.read().decode('utf-8', 'replace')[:500]}") from error
        except OSError as error:
            if not left:
                raise RuntimeError(f"{URL} does not answer: {error}. Is `python -m rlhf_core serve-reward` at work?") from error
        time.sleep(2.0 * (TRIES - left))
    raise AssertionError


def reward_func(queries, prompts, labels, **kwargs):
    """OpenRLHF: queries are prompts with answers behind them; labels are the questions as people asked them."""
    import torch

    found = ask("/get_reward", {"query": list(queries), "prompts": list(prompts), "labels": list(labels)})
    rewards, scores = torch.tensor(found["rewards"]), torch.tensor(found["scores"])
    return {"rewards": rewards, "scores": scores, "extra_logs": {"stars": rewards}}


def compute_score(data_source, solution_str, ground_truth, extra_info=None, **kwargs):
    """verl: one answer. Its stars."""
    found = ask("/score", {"items": [{"query": (extra_info or {}).get("query", ""), "answer": solution_str}]})
    return float(found["rewards"][0])


if __name__ == "__main__":
    for answer in ("Book a visit at the career center and ask for the training voucher.", "asdf asdf asdf"):
        print(round(compute_score("try", answer, "", {"query": "How do I start in solar?"}), 3), "stars:", answer)
