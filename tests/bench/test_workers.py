"""Jobs in processes, one of which crashes."""

import os

import workers


def crash_on_three(job):
    if job == 3:
        os._exit(1)
    return job * job


def test_a_job_that_takes_its_process_down_is_told_and_the_rest_goes_on():
    found = dict(workers.spread(crash_on_three, range(6), 2))
    assert found == {0: 0, 1: 1, 2: 4, 3: workers.CRASHED, 4: 16, 5: 25}
