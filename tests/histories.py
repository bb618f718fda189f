"""Histories for a state machine of Hypothesis, each drawn anew.

Left to itself Hypothesis lets five variations follow each new history, which repeat parts of it: of 1500 examples some
250 were histories of their own, and a fault that takes five things in a row was not among them. It varies nothing that
another backend than its own has drawn, so this is one, with the same choices. What fails is shrunk as ever."""

from hypothesis import HealthCheck, settings
from hypothesis.internal.conjecture.providers import AVAILABLE_PROVIDERS, HypothesisProvider
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

BACKEND = "histories"
STEPS = 16

AVAILABLE_PROVIDERS[BACKEND] = HypothesisProvider


def run_histories(machine: type[RuleBasedStateMachine], count: int) -> None:
    run_state_machine_as_test(
        machine,
        settings=settings(
            backend=BACKEND,
            deadline=None,
            max_examples=count,
            stateful_step_count=STEPS,
            suppress_health_check=list(HealthCheck),
        ),
    )
