"""Names every record and key on the wire, and tells which no real deployment would send.

A Flower message holds named records. Some of ours are *instruments*: they carry what the
simulation needs (the segment to play, the scores to collect, the work that was done) and no
deployed system would send them. Links neither count nor delay them. Everything else is payload, and
a message with nothing but instruments in it costs nothing.
"""

#: Payload records that methods share. One that a method alone sends lies beside its decoder.
PARAMETERS = "parameters"  # adaptive layers, cloud -> device
REPORT = "report"  # what a device tells of its recent, unlabelled data, device -> cloud
ARRAYS = "arrays"  # Flower's own name for a model, both ways (FedAvg)
CONFIG = "config"  # Flower's own name for a configuration, cloud -> device
METRICS = "metrics"  # Flower's own name for metrics beside ARRAYS, device -> cloud
LABELLED = "labelled"  # examples with labels, device -> cloud: cloud fine-tuning alone pays for it
MODEL = "model"  # the whole device model, sent once when it is deployed
VERSIONS = "versions"  # what a difference is taken from, and what it makes; cloud -> device

#: Instrument records.
CLOCK = "clock"  # segment number and the virtual time at which a payload arrives, grid -> device
SCORES = "scores"  # mergeable sums of the metrics, device -> results
POINTS = "points"  # order statistics of the logits, device -> results
WORK = "work"  # operations, labels spent and events told, both ways
CONTROL = "control"  # which control plays, or that layers are to be told, controls -> device
ATTACK = "attack"  # what a hostile device is to do, attack -> device
LAYERS = "layers"  # parameters that a device made of what it got, device -> controls

#: Lengths of compressed payloads, which are held in rows of the longest: neither payload nor
#: instrument.
PADDING = "padding"

INSTRUMENTS = frozenset({CLOCK, SCORES, POINTS, WORK, CONTROL, LAYERS, ATTACK})

#: Records that every strategy may send down; others are those that its decoders read.
DOWNLINK = frozenset({MODEL, PARAMETERS, ARRAYS, CONFIG, CLOCK, WORK})

#: The only records that a device may send up. A label or a context is not among them.
UPLINK = frozenset({REPORT, ARRAYS, METRICS, SCORES, POINTS, WORK})

#: Keys inside the records.
NUM_EXAMPLES = "num-examples"  # Flower's weighting key
SERVER_ROUND = "server-round"  # Flower's round key
SEGMENT = "segment"
ARRIVAL_S = "arrival-s"
LAG = "lag"
REPORT_LENGTH = "report-length"  # a setting: items that a device tells
REPORT_STRIDE = "report-stride"  # a setting: events from one of them to the next
HISTORY = "history"
FRAMES = "frames"
CANDIDATES = "candidates"
WORDS = "words"
FEATURE = "feature"
FLOPS = "flops"
FLOPS_PER_S = "flops-per-s"
NUM_LABELS = "num-labels"
NUM_TOLD = "num-told"  # events that a message tells the cloud of
FINE_TUNING_STEPS = "fine-tuning-steps"
TRAIN_LOSS = "train-loss"  # a setting: the metric in which a device tells its loss before training
DEVICE_ID = "device-id"
NUM_DEVICES = "num-devices"  # of the run, as a device was told
DECODERS = "decoders"  # a setting: import paths of a method's own decoders
NAME = "name"  # of the control that plays
FLIPS_LABELS = "flips-labels"  # whether a device takes another candidate for the true one
TELLS = "tells"  # whether a device tells its layers
UNCERTAINTY = "uncertainty"  # how unsure a device is of its own answers

#: Message types. The part before the dot is Flower's category.
DEPLOY = "query.deploy"
QUERY_UNCERTAINTY = "query.uncertainty"  # of a device to itself, which no link sees
TRAIN = "train"
TRAIN_REPORT = "train.report"
TRAIN_LOCAL = "train.local"
TRAIN_UPLOAD = "train.upload"
EVALUATE = "evaluate"
