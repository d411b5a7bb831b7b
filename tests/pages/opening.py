"""The app's frame under Streamlit's AppTest."""

from __future__ import annotations

from functools import cache

from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest

from rlhf_core.ground.settings import PROJECT_ROOT

# AppTest looks through every installed package for components at each of its runs, which is most of their time; a server
# does it once, and so does this.
manifest_scanner.scan_component_manifests = cache(manifest_scanner.scan_component_manifests)


def frame() -> AppTest:
    """The app as one that was just called up: nothing of it has run."""
    return AppTest.from_file(str(PROJECT_ROOT / "pages" / "frame.py"), default_timeout=60)
