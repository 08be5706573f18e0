"""Lists the columns of the results table, a row for each; results follow from these rows.

The schema of ``results.parquet``, the frame of a segment, the arrays of
:class:`~cdc_flower.simulations.links.accounting.Usage`, results in memory, costs in the summary and
the tables of ``docs/results.md`` are made from ``COLUMNS``. A new column is one row here and the
line that fills it, such as ``usage.energy_j[rows] += joules``.
"""

from functools import partial

import numpy as np

from cdc_flower.tables.column import Column, Columns, Pool, Scope, Subject, Type

_name = partial(Column, type=Type.TEXT, scope=Scope.RUN, subject=Subject.IDENTITY, is_key=True)
_told = partial(Column, subject=Subject.STREAM, is_counted=False)
_metric = partial(Column, scope=Scope.METRIC, subject=Subject.VALUES)
_traffic = partial(
    Column,
    type=Type.INT64,
    unit="byte",
    subject=Subject.TRAFFIC,
    neutral=0,
    pooled=Pool.PER_DEVICE,
)
_waiting = partial(Column, unit="s", subject=Subject.WAITING, pooled=Pool.MEDIAN, in_summary=True)
_computing = partial(Column, subject=Subject.COMPUTING, neutral=0.0, pooled=Pool.PER_DEVICE)
_messages = partial(Column, type=Type.INT64, subject=Subject.MESSAGES, neutral=0, pooled=Pool.MEAN)

#: Columns of ``results.parquet`` in order. Seconds are of virtual time, except ``compute_*``.
COLUMNS = Columns(
    (
        _name("run_id", "Digest of the configuration."),
        _name("experiment", "Name of the experiment."),
        _name("strategy", "Name of the strategy, arm or reference line."),
        _name("seed", "Seed of the run.", type=Type.INT64),
        _name("task", "Name of the task."),
        Column(
            "device_id",
            "Number of the device.",
            type=Type.INT32,
            subject=Subject.IDENTITY,
            is_key=True,
        ),
        Column(
            "segment",
            "Number of the segment, from 0.",
            type=Type.INT32,
            scope=Scope.SEGMENT,
            subject=Subject.IDENTITY,
            is_key=True,
        ),
        Column(
            "time_s",
            "Virtual time at which the segment starts.",
            unit="s",
            scope=Scope.SEGMENT,
            subject=Subject.IDENTITY,
        ),
        _told(
            "context_id",
            "Hidden context of the device; -1 where nobody knows. For metrics alone.",
            type=Type.INT32,
            neutral=-1,
            is_fact=False,
        ),
        _told(
            "is_shift",
            "Whether the context is another than in the segment before. Its mean is a share.",
            type=Type.BOOL,
            neutral=False,
            pooled=Pool.MEAN,
        ),
        _told(
            "num_examples",
            "Events that were scored.",
            type=Type.INT64,
            pooled=Pool.TOTAL,
            is_fact=False,
        ),
        Column(
            "num_labels",
            "Labeled examples that gradient steps used, on the device or after an upload; one that "
            "is used in three segments counts three times.",
            type=Type.INT64,
            subject=Subject.LABELS,
            neutral=0,
            pooled=Pool.TOTAL,
            in_summary=True,
            heading="clicks trained on",
        ),
        Column(
            "num_told",
            "Events of which a message of the device tells the cloud: the items of a report or "
            "those behind its feature, one for a clip, the examples of an upload. One that is told "
            "in three reports counts three times; trained parameters tell none.",
            type=Type.INT64,
            subject=Subject.LABELS,
            neutral=0,
            pooled=Pool.TOTAL,
            in_summary=True,
            heading="clicks told",
        ),
        _metric("metric", "Name of the metric.", type=Type.TEXT),
        _metric("value_sum", "Sum of the metric over what it counts.", pooled=Pool.RATIO),
        _metric(
            "value_count",
            "How many the sum is of, such as events; 0 where the metric says nothing.",
            pooled=Pool.RATIO,
        ),
        _traffic(
            "bytes_up",
            "Bytes on the wire with Flower's framing, device to cloud: messages handed to the link "
            "in the segment. On a slow link they are still under way when it ends.",
            in_summary=True,
            heading="kB up",
        ),
        _traffic("bytes_down", "The same, cloud to device.", in_summary=True, heading="kB down"),
        _waiting(
            "latency_s",
            "From the decision point at which parameters were asked for to their use; "
            "NaN where nothing arrived.",
            neutral=np.nan,
        ),
        _waiting(
            "staleness_s",
            "How much older the parameters in use are than the start of the segment, a mean over "
            "it. Parameters asked for at this start count as new; NaN where there are none.",
            neutral=0.0,
        ),
        _computing(
            "compute_cloud_s",
            "Work in the cloud for this device, at the cloud's declared speed.",
            unit="s",
            in_summary=True,
            heading="cloud s per device",
        ),
        _computing(
            "compute_device_s",
            "Work on the device, at its declared speed.",
            unit="s",
            in_summary=True,
            heading="device s per device",
        ),
        _traffic(
            "payload_bytes_up",
            "The raw numbers among `bytes_up`.",
            in_summary=True,
            heading="payload kB up",
        ),
        _traffic(
            "payload_bytes_down",
            "The raw numbers among `bytes_down`.",
            in_summary=True,
            heading="payload kB down",
        ),
        _computing(
            "flops_cloud",
            "Floating-point operations in the cloud for this device, as declared.",
            is_fact=False,
        ),
        _computing(
            "flops_device",
            "Floating-point operations on the device, as declared.",
            is_fact=False,
        ),
        _messages("num_reports", "Reports and trained updates that the device gave to its link."),
        _messages(
            "num_dropped",
            "Messages that will never arrive, counted in the segment in which that is known.",
        ),
        _messages(
            "num_late", "Messages to the device that were not there when their segment ended."
        ),
        _traffic(
            "bytes_again",
            "Bytes of packets that were lost and sent again, both ways, beside `bytes_up` and "
            "`bytes_down`.",
            is_fact=False,
        ),
        Column(
            "num_replays",
            "How often the grid played the device again from the same states, because a worker or "
            "its machine had died. Changes nothing else.",
            type=Type.INT64,
            subject=Subject.MESSAGES,
            neutral=0,
            pooled=Pool.TOTAL,
            is_fact=False,
        ),
        Column(
            "num_quarantined",
            "Replies of the device that were left out, as they were not as they must be; "
            "`quarantine.csv` says why. An evaluation that was left out has rows without events.",
            type=Type.INT64,
            subject=Subject.MESSAGES,
            neutral=0,
            pooled=Pool.TOTAL,
            in_summary=True,
            heading="left out",
        ),
        _told(
            "is_hostile",
            "Whether the device is a hostile one of the attack. Summaries and reports are of the "
            "others alone.",
            type=Type.BOOL,
            neutral=False,
            pooled=Pool.MEAN,
        ),
    )
)
