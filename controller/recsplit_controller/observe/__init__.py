"""What is seen of the servers: from Prometheus, by the recording rules that recsplit renders, or from the servers' own pages.

Both give the same observation of the same traffic. *Not here:* counts, which the actuators tell, and what follows from any of it.
"""
