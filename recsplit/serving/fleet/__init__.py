"""A fleet on one machine: front servers, and servers of each shard, as Triton processes on loopback."""
