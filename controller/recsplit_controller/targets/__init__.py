"""What is controlled, and the user's settings for it: the sub-models of a plan, or Deployments that a file names."""
