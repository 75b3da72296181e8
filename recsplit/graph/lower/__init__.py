"""Lowering: lookups become standard operators over fused tables, and what they give travels in few tensors."""
