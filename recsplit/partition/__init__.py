"""Partitioning tables by heat into shards that are served and scaled apart (ElasticRec, ISCA 2024)."""
