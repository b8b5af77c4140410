-- Everything here is derived from the log and can be dropped and replayed.
-- Partitioned by month of *receipt*: a batch is cut at that edge, so one insert is one block is
-- one part, all or nothing. Every batch holds one marker row with the log range it came from;
-- positions are read back from those rows and are kept nowhere else.

CREATE TABLE IF NOT EXISTS events
(
    marker Bool,
    node LowCardinality(String),
    seq Int64,
    received_at DateTime64(6, 'UTC'),
    source String,
    id String,
    type LowCardinality(String),
    subject String,
    time DateTime64(6, 'UTC'),
    time_given Bool,
    data String CODEC(ZSTD(1)),
    first_seq Int64,
    last_seq Int64,
    batch_rows Int64,
    specs Array(LowCardinality(String)),
    INDEX by_id id TYPE bloom_filter(0.01) GRANULARITY 4,
    INDEX by_time time TYPE minmax GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (marker, subject, type, time, node, seq)
SETTINGS min_parts_to_merge_at_once = 10, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS facts
(
    marker Bool,
    node LowCardinality(String),
    seq Int64,
    spec LowCardinality(String),
    subject String,
    time DateTime64(6, 'UTC'),
    received_at DateTime64(6, 'UTC'),
    value Nullable(Decimal(38, 9)),
    text Nullable(String),
    dimensions LowCardinality(String),
    first_seq Int64,
    last_seq Int64,
    batch_rows Int64,
    specs Array(LowCardinality(String)),
    INDEX by_time time TYPE minmax GRANULARITY 4
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (marker, spec, subject, time, node, seq)
SETTINGS min_parts_to_merge_at_once = 10, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

CREATE TABLE IF NOT EXISTS voids
(
    marker Bool,
    node LowCardinality(String),
    seq Int64,
    received_at DateTime64(6, 'UTC'),
    target_node LowCardinality(String),
    target_seq Int64,
    cause LowCardinality(String),
    first_seq Int64,
    last_seq Int64,
    batch_rows Int64,
    specs Array(LowCardinality(String))
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (marker, target_node, target_seq)
SETTINGS min_parts_to_merge_at_once = 10, non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;
