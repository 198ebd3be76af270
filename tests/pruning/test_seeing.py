"""How many samples are looked at."""

from onnxopt.pruning.seeing import SEEN, enough


def test_more_samples_are_looked_at_where_each_is_little_work():
    assert enough(4e8) == SEEN
    assert enough(1e8) == 1000
    assert enough(0) == enough(1e3) == 4096
