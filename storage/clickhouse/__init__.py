"""Events and facts in ClickHouse, embedded (chDB) or over HTTP."""
