-- What a BI tool reads. closed_lines is copied from the books by sequence (the position is the
-- largest one here); a row copied twice has the same key, so the views read it once (FINAL).
-- Amounts are exact decimals: sum them per currency, never across.

CREATE TABLE IF NOT EXISTS closed_lines
(
    sequence Int64,
    line_id String,
    customer String,
    contract String,
    product Nullable(String),
    meter Nullable(String),
    dimensions String,
    kind LowCardinality(String),
    timing LowCardinality(String),
    period_start DateTime64(6, 'UTC'),
    period_end Nullable(DateTime64(6, 'UTC')),
    accounting_date Date32,
    entity LowCardinality(String),
    currency LowCardinality(String),
    quantity Decimal(38, 9),
    amount Decimal(38, 6),
    event_count Nullable(Int64),
    adjusts Nullable(String),
    cause LowCardinality(Nullable(String)),
    document String,
    closed_by String,
    recorded_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY sequence
SETTINGS non_replicated_deduplication_window = 1000, fsync_after_insert = 1, fsync_part_directory = 1;

-- Closed revenue by the day it counts on.
CREATE OR REPLACE VIEW revenue_by_day AS
SELECT accounting_date AS day, entity, currency, sum(amount) AS revenue, count() AS lines
FROM closed_lines FINAL GROUP BY day, entity, currency;

-- Closed revenue by product and month; product is null for lines of a whole contract.
CREATE OR REPLACE VIEW revenue_by_product AS
SELECT toStartOfMonth(accounting_date) AS month, product, currency, sum(amount) AS revenue,
       sum(quantity) AS quantity, count() AS lines
FROM closed_lines FINAL GROUP BY month, product, currency;

-- Closed revenue by customer and month.
CREATE OR REPLACE VIEW revenue_by_customer AS
SELECT toStartOfMonth(accounting_date) AS month, customer, currency, sum(amount) AS revenue,
       count() AS lines
FROM closed_lines FINAL GROUP BY month, customer, currency;

-- Every adjustment beside the line it adjusts.
CREATE OR REPLACE VIEW adjustments AS
SELECT a.accounting_date AS day, a.customer AS customer, a.contract AS contract,
       a.product AS product, a.currency AS currency, a.amount AS amount, a.cause AS cause,
       a.line_id AS line_id, a.adjusts AS adjusts, o.amount AS adjusted_amount,
       o.accounting_date AS adjusted_day
FROM (SELECT * FROM closed_lines FINAL) AS a
LEFT JOIN (SELECT * FROM closed_lines FINAL) AS o ON o.line_id = a.adjusts
WHERE a.kind = 'adjustment';
