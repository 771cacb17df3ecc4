"""Who does what follows from the plan, and all processes agree on it."""

from __future__ import annotations

from collections import Counter
from itertools import islice, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.loadtest.plan import Plan, Scenario
from adapters.loadtest.scenarios import (
    churn_times,
    drop_s,
    pacing,
    publishers,
    roles,
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    rooms = draw(st.integers(1, 5))
    return Plan(
        url="ws://h",
        scenario=draw(st.sampled_from(Scenario)),
        clients=draw(st.integers(2 * rooms, 60)),
        rooms=rooms,
        processes=draw(st.integers(1, 4)),
        rate_per_s=draw(st.sampled_from([0.5, 10.0, 333.0])),
        slow_share=draw(st.sampled_from([0.01, 0.3, 1.0])),
        churn_per_s=draw(st.sampled_from([0.7, 20.0])),
    )


@given(plans())
def test_each_client_has_one_part(plan: Plan) -> None:
    parts = [role for process in range(plan.processes) for role in roles(plan, process)]
    assert sorted(role.client for role in parts) == list(range(plan.clients))
    for room in range(plan.rooms):
        here = [role for role in parts if role.room == room]
        talk = {role.client for role in here if role.duty.talks}
        assert talk == set(publishers(plan, room))
        assert any(role.duty.listens for role in here)
        assert all(bool(role.audience) == role.duty.listens for role in here)


@given(plans())
def test_the_rate_is_what_was_asked_for_and_even(plan: Plan) -> None:
    until_s = 20 / plan.rate_per_s
    sends = sorted(
        send
        for process in range(plan.processes)
        for send in takewhile(
            lambda send: send[0] < until_s, islice(pacing(plan, process), 1000)
        )
    )
    assert [at_s for at_s, _ in sends] == pytest.approx(
        [number / plan.rate_per_s for number in range(len(sends))]
    )
    assert len(sends) in (20, 21)  # 20 / rate is not exact
    times = Counter(publisher for _, publisher in sends)
    assert max(times.values()) - min(times.values()) <= 1


@given(plans())
def test_as_many_are_slow_as_were_asked_for(plan: Plan) -> None:
    parts = [role for process in range(plan.processes) for role in roles(plan, process)]
    slow = [role for role in parts if role.slowness is not None]
    if plan.scenario is Scenario.SLOW:
        listeners = sum(role.duty.listens for role in parts)
        assert len(slow) == pytest.approx(plan.slow_share * listeners, abs=1)
        assert slow
    else:
        assert not slow


@given(plans())
def test_who_drops_does_so_while_messages_are_counted(plan: Plan) -> None:
    times = [drop_s(plan, client) for client in range(plan.clients)]
    if plan.scenario not in (Scenario.STORM, Scenario.RESUME):
        assert not any(times)
        return
    assert times[: plan.rooms] == [None] * plan.rooms
    drops = [at_s for at_s in times if at_s is not None]
    assert len(drops) == plan.clients - plan.rooms
    assert drops == sorted(drops)
    end_s = plan.warmup_s + plan.duration_s
    assert all(plan.warmup_s < at_s < end_s - plan.drop_s for at_s in drops)


@given(plans())
def test_newcomers_have_numbers_of_their_own(plan: Plan) -> None:
    come = [
        each
        for process in range(plan.processes)
        for each in islice(churn_times(plan, process), 5)
    ]
    numbers = [number for _, number in come]
    assert len(set(numbers)) == len(numbers)
    assert all(number >= plan.clients for number in numbers)
    assert bool(come) == (plan.scenario is Scenario.CHURN)
