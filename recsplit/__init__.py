"""recsplit cuts a trained recommender into embedding and dense sub-models and serves them on Triton."""
