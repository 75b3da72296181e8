"""Processes under measurement: started, watched, weighed; and servers made heavier than this machine."""
