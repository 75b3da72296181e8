"""Graph surgery: onnx_ir model in, onnx_ir model out.

Finding lookups, reading bags, lowering to standard operators, cutting. No files are written here, no process is
started, nothing is known of Triton. onnxruntime is used to evaluate small sub-graphs, where a measurement is
surer than a rule about operators.
"""
