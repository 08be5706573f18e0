"""Lost packets, sent again in rounds.

A message of ``B`` bytes is ``P = ceil(B / packet_bytes)`` packets, each of which is lost with the
same chance each time it is sent, whatever happens to the others. The sender learns a round-trip
time after a round which packets are missing, and sends these again (selective repeat with one
acknowledgement a round). The link is held meanwhile.
"""

import numpy as np
from scipy.stats import binom

from cdc_flower.core.seeds import hashed_uniform
from cdc_flower.simulations.network.rates import Floats, Ints

#: After so many rounds a message is taken for undeliverable.
MAX_ROUNDS = 1000


def packets_of(num_bytes: Ints, packet_bytes: int) -> Ints:
    """Counts the packets that messages ``[k]`` take."""
    return -(-num_bytes // packet_bytes)


def lost_packets(
    num_packets: Ints,
    loss: float | Floats,
    seed: int,
    name: str,
    device_ids: Ints,
    message: Ints,
    attempt: int,
) -> Ints:
    """Draws how many of the packets ``[k]`` of an attempt are lost, from a binomial distribution.

    The numbers of a device do not depend on the other devices.

    Args:
        num_packets: ``[k]``, that are sent.
        loss: Chance of each to be lost, one for all or ``[k]``. 0: none is.
        seed: Of the run.
        name: Of the direction.
        device_ids: ``[k]``.
        message: ``[k]``, number of each message on its link.
        attempt: How often its packets were sent before.
    """
    chance: Floats = hashed_uniform(seed, f"loss-{name}", device_ids, message, attempt)
    return binom.ppf(chance, num_packets, loss).astype(np.int64)
