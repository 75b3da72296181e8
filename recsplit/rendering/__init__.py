"""Texts from templates, and folders of rendered texts that come in whole. Not here: what the texts say."""
