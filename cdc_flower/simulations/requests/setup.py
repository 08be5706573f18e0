"""From a configuration to a request policy, one for each run of a strategy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Never, cast

from cdc_flower.core.held import Held
from cdc_flower.simulations.deployment import Deployable
from cdc_flower.simulations.requests.policies import Devices, Policy, policies
from cdc_flower.simulations.requests.policies.always import Always
from cdc_flower.tasks.protocol import Task
from cdc_flower.tasks.sensing import Ask
from cdc_flower.training.cloud import Cloud


@dataclass(frozen=True)
class Requests:
    """Decides when devices report.

    Args:
        policy: None: always, with no limit.
        devices: Makes the view of devices that the policy has, given a function that asks them.
    """

    policy: Policy | None = None
    devices: Callable[[Ask], Devices] = lambda ask: Devices(0, _nothing, _nothing)


def _nothing(*_: object) -> Never:
    raise RuntimeError("this policy must decide without looking at devices")


def policy_of(config: Mapping[str, object]) -> Policy:
    """Makes the policy of a configured ``policy``; everything is checked before training.

    Raises:
        UserError: If the policy is unknown, a key is none, or a value is out of its range.
    """
    if isinstance(config, Held):
        return cast(Policy, config.made("policy"))
    kind = policies.of_node(config, "policy")
    make: Callable[..., Policy] = kind.value
    return make(**kind.arguments(kind.checked(config, "policy")))


def requests_of(
    config: Mapping[str, object], task: Task, stream: object, cloud: Cloud, strategy: Deployable
) -> Requests:
    """Makes the policy for one run of a strategy that is prepared.

    Args:
        config: The configured ``policy``.
        task: Says what a policy may look at.
        stream: Of the devices.
        cloud: Of the strategy.
        strategy: Prepared.

    Raises:
        UserError: If a value is wrong, or the policy needs what devices of the task do not keep.
    """
    policy = policy_of(config)
    if type(policy) is Always and policy.max_bytes is None:
        return Requests()

    def devices(ask: Ask) -> Devices:
        return Devices(
            cloud.seed,
            lambda: task.sensor(stream, cloud, strategy.deployment()),
            lambda epochs: task.doubt_estimate(stream, cloud, strategy, epochs, ask),
        )

    return Requests(policy, devices)
