"""RLHF Workbench: people's judgement of reasoning steps becomes a better model.

One way through the house: store -> snapshot -> training run -> checkpoint -> score. Each room imports only rooms on
floors below it (see ``[tool.importlinter]`` in ``pyproject.toml``).
"""

__version__ = "0.1.0"
