"""The engine in C++ (recsplit/backends/native): made by whatever compiler is there, and called from this process."""
