"""From request bodies to accepted, deduplicated, durable batches; and from records to facts."""
