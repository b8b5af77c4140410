"""The OpenAPI document beyond what the routes say themselves: words, examples, problems."""
