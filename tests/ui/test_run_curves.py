import itertools

from rlhf_core.ui.run_curves import POINTS, thinned


def test_long_curves_are_thinned_evenly_and_end_where_the_run_is() -> None:
    for count in (0, 1, POINTS, POINTS + 1, 7 * POINTS - 3):
        lines = [{"step": k} for k in range(count)]
        kept = thinned(lines)
        assert len(kept) <= POINTS
        assert kept[-1:] == lines[-1:]
        gaps = {later["step"] - earlier["step"] for earlier, later in itertools.pairwise(kept)}
        assert len(gaps) <= 1
        assert len(kept) > POINTS / 2 or kept == lines
