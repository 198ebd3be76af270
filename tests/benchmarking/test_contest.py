"""How many processes, sessions and runs a contest takes, and what it concludes, on a machine whose
sessions are drawn."""

import math
from dataclasses import replace

import numpy as np
import pytest

from onnxopt.benchmarking.contest import Block, Contest
from onnxopt.benchmarking.processes import Candidate
from onnxopt.benchmarking.statistics.samples import Samples
from onnxopt.benchmarking.statistics.schedule import FEWEST_PROCESSES
from onnxopt.benchmarking.statistics.stats import estimate, interval
from onnxopt.report import Setting

PAIR = ("reference", "candidate")
FOREVER = 1e6


def block_of(*keys, name="", samples=None):
    return Block(
        candidates=[
            Candidate(key=key, path=key, feed="", setting=Setting(), block=name) for key in keys
        ],
        samples=samples or {key: Samples() for key in keys},
    )


def held(*blocks, precision=0.05, max_time=FOREVER, **options):
    contest = Contest(blocks=blocks, precision=precision, max_time=max_time, **options)
    contest.run()
    return contest


def compared(block, one="reference", two="candidate"):
    return estimate(block.samples[one].levels, block.samples[two].levels)


def lengths(samples):
    return [len(process) for process in samples.levels]


@pytest.mark.parametrize(
    ("components", "precision"),
    [({}, 0.07), ({"burst": 0.02}, 0.12), ({"session": 0.03, "process": 0.02}, 0.04)],
)
def test_equals_that_are_measured_until_it_is_narrow_raise_few_alarms(
    machine, components, precision
):
    """As many as the level says, up to two standard errors of so few draws."""
    alarms = []
    for seed in range(200):
        machine(seed, **components)
        block = block_of(*PAIR)
        held(block, precision=precision)
        alarms.append(compared(block).verdict != "no difference")
    assert np.mean(alarms) <= 0.05 + 2 * 0.0154


def test_a_twentieth_is_found_within_a_minute(machine):
    found = []
    for seed in range(25):
        drawn = machine(seed, faster={"candidate": 1 / 1.05})
        block = block_of(*PAIR)
        held(block, precision=0.02, max_time=60)
        found.append(compared(block).verdict)
        assert drawn.now <= 61
    assert found.count("slower") >= 22


def test_a_wider_interval_takes_fewer_processes(machine):
    taken = []
    for precision in (0.02, 0.04, 0.2):
        drawn = machine(1)
        held(block_of(*PAIR), precision=precision)
        taken.append(len(drawn.plans))
    assert taken[0] > taken[1] > taken[2] == FEWEST_PROCESSES


def test_the_interval_is_as_narrow_as_was_asked_for(machine):
    machine(2)
    block = block_of(*PAIR)
    held(block, precision=0.03)
    assert compared(block).half_width <= 0.03
    assert block.closed


def test_several_comparisons_take_more_than_one(machine):
    taken = []
    for comparisons in (1, 50):
        drawn = machine(3)
        held(block_of(*PAIR), precision=0.03, comparisons=comparisons)
        taken.append(drawn.now)
    assert taken[0] < taken[1]


def test_no_time_at_all_makes_two_processes_of_one_round(machine):
    drawn = machine()
    block = block_of(*PAIR)
    held(block, max_time=0)
    assert drawn.sessions() == [{"reference": 2, "candidate": 2}] * 2
    assert lengths(block.samples["reference"]) == [2, 2]


@pytest.mark.parametrize("max_time", [3.0, 10.0, 40.0])
@pytest.mark.parametrize("run_ms", [0.1, 5.0, 300.0])
def test_the_time_is_kept_but_for_the_end_of_one_of_few_processes(machine, max_time, run_ms):
    drawn = machine(4, run_ms=run_ms, load=0.06 + 0.003 * run_ms)
    held(block_of(*PAIR), precision=0.001, max_time=max_time)
    one_round = 4 * (drawn.load + 20 * 1.5 * run_ms / 1e3)
    late = drawn.start + one_round
    assert drawn.now <= max_time + late or len(drawn.plans) == 2
    assert drawn.now <= max_time + 0.5 * late or len(drawn.plans) <= 4
    assert drawn.now >= max_time - 2 * late


def test_some_processes_fit_into_the_time_whatever_a_session_costs(machine):
    drawn = machine(5, session=0.3, process=0.0, load=0.5)
    held(block_of(*PAIR), precision=0.001, max_time=60)
    assert len(drawn.plans) >= 6


def test_the_load_that_drives_a_session_is_a_part_of_its_cost(machine):
    drawn = machine(6, wall_ns=500_000_000, run_ms=0.05, session=0.2, process=0.0)
    block = block_of(*PAIR)
    held(block, precision=0.001, max_time=40)
    assert len(drawn.plans) >= 6
    assert block.overloaded == {key: block.samples[key].sessions for key in PAIR}


def test_every_process_has_a_seed_of_its_own(machine):
    drawn = machine()
    held(block_of(*PAIR), seed=100, precision=0.2)
    assert drawn.seeds == list(range(100, 100 + FEWEST_PROCESSES))


def test_sessions_of_models_that_are_compared_have_equally_many_runs(machine):
    drawn = machine(7, faster={"candidate": 3.0})
    held(block_of(*PAIR), precision=0.02)
    chosen = {each.runs for each in drawn.plans[-1]}
    assert len(chosen) == 1
    assert 3 <= chosen.pop() <= 100
    assert {each.runs for each in drawn.plans[0]} == {None}


def test_a_resumed_contest_goes_on_counting_and_loses_nothing(machine):
    machine(8)
    block = block_of(*PAIR)
    held(block, max_time=3, precision=0.01)
    before = [lengths(block.samples[key]) for key in PAIR]
    again = machine(9)
    resumed = block_of(*PAIR, samples=block.samples)
    held(resumed, max_time=3, precision=0.01)
    assert again.seeds[0] == len(before[0])
    after = [lengths(block.samples[key]) for key in PAIR]
    assert [each[: len(before[0])] for each in after] == before
    assert len(after[0]) == len(before[0]) + len(again.plans)


def test_a_resumed_contest_that_is_decided_measures_nothing(machine):
    machine(10)
    block = block_of(*PAIR)
    held(block, precision=0.05)
    again = machine(11)
    held(block_of(*PAIR, samples=block.samples), precision=0.05)
    assert again.plans == []


def test_a_model_that_joins_a_resumed_contest_is_paired_with_what_follows(machine):
    machine(12)
    block = block_of(*PAIR)
    held(block, precision=0.05)
    many = block.processes
    machine(13, faster={"third": 2.0})
    joined = block_of(*PAIR, "third", samples={**block.samples, "third": Samples()})
    held(joined, precision=0.05)
    assert lengths(joined.samples["third"])[:many] == [0] * many
    found = compared(joined, two="third")
    assert found.processes == joined.processes - many
    assert found.low < 2 < found.high
    assert found.half_width <= 0.05


def test_a_candidate_that_fails_later_leaves_the_pairs_of_the_others(machine):
    machine(14, fails={"bad": 2}, faster={"candidate": 2.0})
    block = block_of("reference", "bad", "candidate")
    contest = held(block)
    assert contest.failed == {"bad": "stopped"}
    assert [each.key for each in block.alive] == ["reference", "candidate"]
    assert lengths(block.samples["reference"]) == lengths(block.samples["candidate"])
    assert compared(block).ratio == pytest.approx(2, rel=0.06)
    assert compared(block).half_width <= 0.05


def test_a_candidate_that_kills_a_process_costs_only_what_was_to_come_in_it(machine):
    drawn = machine(15, crashes={"bad": 3}, faster={"candidate": 2.0})
    block = block_of("reference", "candidate", "bad")
    contest = held(block)
    assert contest.failed == {"bad": "crashed the process"}
    assert [len(plan) for plan in drawn.plans[:6]] == [3, 3, 3, 3, 2, 2]
    assert len(block.samples["reference"]) == len(block.samples["candidate"]) == len(drawn.plans)
    assert compared(block).ratio == pytest.approx(2, rel=0.06)


def test_a_failed_baseline_leaves_the_others_to_be_measured(machine):
    machine(16, fails={"reference": 1})
    block = block_of("reference", "candidate", "third")
    contest = held(block)
    assert list(contest.failed) == ["reference"]
    assert block.processes >= FEWEST_PROCESSES


def test_a_contest_of_which_nothing_is_left_ends(machine):
    drawn = machine(fails={"reference": 0, "candidate": 0})
    contest = held(block_of(*PAIR))
    assert set(contest.failed) == set(PAIR)
    assert len(drawn.plans) == 1


def test_a_process_that_cannot_start_fails_all_that_were_to_run_in_it(machine, monkeypatch):
    from onnxopt.benchmarking import contest as module

    machine()
    event = {"event": "failed", "key": "", "message": "no memory", "fatal": True}
    monkeypatch.setattr(module, "measure_turns", lambda *_, **__: iter([event]))
    assert set(held(block_of(*PAIR)).failed.values()) == {"no memory"}


def test_blocks_close_one_by_one(machine):
    drawn = machine(17, faster={"slow": 0.2, "slow too": 0.2})
    quick, slow = block_of(*PAIR, name="a"), block_of("slow", "slow too", name="b")
    held(quick, slow, precision=0.02, max_time=12)
    assert quick.closed
    assert slow.closed
    assert quick.processes != slow.processes
    assert {len(plan) for plan in drawn.plans} == {4, 2}
    assert max(quick.spent, slow.spent) <= 12 + 1


def test_a_slow_setting_does_not_have_the_rounds_of_a_quick_one(machine):
    """Else its time would be over after two or three processes."""
    drawn = machine(18, faster={"slow": 0.02, "slow too": 0.02}, session=0.2)
    quick, slow = block_of(*PAIR, name="a"), block_of("slow", "slow too", name="b")
    held(quick, slow, precision=0.001, max_time=60)
    rounds = [{each.block: each.rounds for each in plan} for plan in drawn.plans[3:6]]
    assert all(each["a"] > each["b"] for each in rounds)
    assert slow.processes >= 6


def test_a_model_alone_gets_an_interval(machine):
    machine(19)
    block = block_of("only")
    held(block, precision=0.05)
    low, high = interval(block.samples["only"].levels)
    assert 0 < math.log(high / low) / 2 <= 0.05
    assert low < 2e6 < high * 1.05


def test_what_is_done_goes_from_something_to_all(machine):
    machine(20)
    done = []
    held(block_of(*PAIR), precision=0.03, max_time=30, after=done.append)
    assert all(0 < each <= 1 for each in done)
    assert done[-1] == 1
    assert done[0] < 0.3


def test_what_is_told_is_the_setting_of_each_candidate(machine):
    drawn = machine()
    block = block_of(*PAIR)
    held(block, max_time=0)
    told = [replace(each, rounds=1, runs=None) for each in drawn.plans[0]]
    assert told == block.candidates
