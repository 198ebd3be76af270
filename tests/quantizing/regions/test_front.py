from dataclasses import replace

from onnxopt.quantizing.regions.cut import Choice
from onnxopt.quantizing.regions.front import MOST_MEASURED, Tools, Wishes, decide
from onnxopt.report import Difference, FrontPoint

DB = {8: 12.0, 7: 19.0, 6: 21.0, 5: 26.0, 2: 40.0}
RATIO = {8: 1.6, 7: 1.55, 6: 1.5, 5: 1.48, 2: 1.1}


def difference(ratio, about=0.02):
    low, high = ratio * (1 - about), ratio * (1 + about)
    verdict = "faster" if low > 1 else "slower" if high < 1 else "no difference"
    return Difference(
        baseline="a", candidate="b", provider="cpu", ratio=ratio, low=low, high=high,
        verdict=verdict,
    )  # fmt: skip


def choices(sizes=tuple(DB)):
    return [
        Choice(
            int8=frozenset(f"r{n}" for n in range(size)),
            gain=size,
            noise=0.1,
            trade=float(8 - size),
        )
        for size in sizes
    ]


class Workshop:
    """Models are the number of their regions; notes what was done to them."""

    def __init__(self, real=None, scores=None, about=0.02):
        self.real = {**RATIO, **(real or {})}
        self.about = about
        self.scores = scores
        self.measured = []
        self.scored = []

    def measure(self, model):
        self.measured.append(model)
        return difference(self.real[model], self.about)

    def score(self, model):
        self.scored.append(model)
        return self.scores[model]

    def tools(self, measure=True):
        return Tools(
            build=lambda choice: len(choice.int8),
            predicted=lambda choice: RATIO[len(choice.int8)],
            sqnr=DB.__getitem__,
            measure=self.measure if measure else None,
            score=self.score if self.scores else None,
        )

    def decide(self, sizes=tuple(DB), measure=True, **wishes):
        return decide(choices(sizes), 8, Wishes(**wishes), self.tools(measure))


def test_of_what_is_right_and_nearly_as_fast_the_most_accurate_is_taken():
    shop = Workshop()
    found = shop.decide()
    assert found.model == 5
    assert shop.measured == [6, 5]
    assert [point.sqnr_db for point in found.points] == [40.0, 26.0, 21.0, 19.0, 12.0]
    assert [point.chosen for point in found.points] == [False, True, False, False, False]
    assert found.points[-1].name == "all int8"
    assert found.points[1].difference.ratio == 1.48


def test_a_more_accurate_choice_that_proves_slower_is_not_taken():
    assert Workshop(real={5: 1.3}).decide().model == 6


def test_the_fastest_is_taken_however_accurate_where_only_speed_is_asked_for():
    assert Workshop().decide(fastest=True).model == 8
    assert Workshop().decide(fastest=True, min_sqnr=15).model == 7


def test_an_asked_for_sqnr_is_held():
    assert Workshop().decide(min_sqnr=30).model == 2
    refused = Workshop().decide(min_sqnr=50)
    assert refused.choice is None
    assert refused.reason == "none reaches 50 dB: 2 of 8 in int8 has 40.0 dB"
    assert len(refused.points) == 5


def test_a_metric_decides_instead_of_the_sqnr_and_is_asked_from_the_fastest_on():
    scores = {8: 0.70, 7: 0.79, 6: 0.80, 5: 0.80, 2: 0.80}
    shop = Workshop(scores=scores)
    found = shop.decide(float_score=0.8, max_drop=0.02)
    assert shop.scored[:2] == [8, 7]
    assert found.model in (7, 6)
    strict = Workshop(scores=scores).decide(float_score=0.9, max_drop=0.0)
    assert strict.choice is None
    assert "none keeps a score of 0.9" in strict.reason


def test_what_is_not_faster_is_refused_with_the_measurement():
    slow = dict.fromkeys(DB, 0.9)
    shop = Workshop(real=slow)
    found = shop.decide()
    assert found.choice is None
    assert found.reason.startswith("none that is right is faster: ")
    assert "1.11× slower" in found.reason
    assert len(shop.measured) <= MOST_MEASURED


def optimized(ratio):
    return FrontPoint(
        name="float, optimized", int8_regions=0, sqnr_db=120.0, difference=difference(ratio)
    )


def test_int8_that_is_slower_than_what_optimization_alone_gives_is_refused():
    shop = Workshop()
    found = decide(choices(), 8, Wishes(), shop.tools(), optimized=optimized(1.6))
    assert found.choice is None
    assert found.reason.startswith("int8 is slower than float, which by itself is")
    assert found.points[0].name == "float, optimized"
    found = decide(choices(), 8, Wishes(), shop.tools(), optimized=optimized(1.5))
    assert found.model == 5
    smaller = Wishes(max_slowdown=0.0)
    assert decide(choices(), 8, smaller, shop.tools(), optimized=optimized(1.6)).model == 5


def test_everything_in_int8_is_measured_whatever_is_predicted():
    shop = Workshop(real={8: 2.0})
    tools = replace(shop.tools(), predicted=lambda choice: 9.0 - len(choice.int8))
    found = decide(choices(), 8, Wishes(min_sqnr=5), tools)
    assert found.model == 8
    assert 8 in shop.measured


def test_everything_in_int8_is_less_accurate_and_has_to_be_faster_for_sure():
    seen = {6: 1.5, 5: 1.49}
    for about, chosen in ((0.02, 8), (0.2, 5)):
        shop = Workshop(real={8: 1.6}, about=about)
        tools = replace(shop.tools(), predicted=lambda c: seen.get(c.gain, 1.0))
        assert decide(choices(), 8, Wishes(min_sqnr=5), tools).model == chosen


def test_a_slowdown_that_is_allowed_is_no_reason_to_refuse():
    assert Workshop(real=dict.fromkeys(DB, 0.97)).decide(max_slowdown=0.05).model is not None
    assert Workshop(real=dict.fromkeys(DB, 0.90)).decide(max_slowdown=0.05).model is None


def test_without_measuring_prediction_decides():
    shop = Workshop()
    assert shop.decide(measure=False).model == 5
    assert shop.measured == []


def test_without_times_as_much_as_is_right_becomes_int8():
    tools = Tools(build=lambda choice: len(choice.int8), sqnr=DB.__getitem__)
    found = decide(choices(), 8, Wishes(), tools)
    assert found.model == 6
    assert [point.ratio for point in found.points] == [None] * 5


def test_where_right_begins_the_front_is_looked_at_more_closely():
    shop = Workshop()
    finer = choices((8, 7, 6, 5, 2))
    found = decide(choices((8, 2)), 8, Wishes(), shop.tools(measure=False), finer=finer)
    assert sorted(point.int8_regions for point in found.points) == [2, 6, 7, 8]
    assert found.model == 6
    nothing_wrong = decide(choices((6, 2)), 8, Wishes(), shop.tools(measure=False), finer=finer[2:])
    assert len(nothing_wrong.points) == 2


def test_an_empty_front_is_refused():
    assert Workshop().decide(sizes=()).reason == "no part of the model would gain by int8"
